"""Find or download the four files of Fashion-MNIST, and verify them: python download.py. Plumbing.

It looks for them, unpacked or as .gz, in <data-dir>/FashionMNIST/raw, in <data-dir> itself and
where Debian's package installs them. Otherwise it downloads them. Only files with the right SHA-256
are used.
"""

import argparse
import contextlib
import gzip
import hashlib
import os
import socket
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

FILES = {  # name: SHA-256, which tells them apart from MNIST's files of the same name
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
DEFAULT_DATA_DIR = Path(__file__).resolve().parent / "datasets"
PACKAGE, PACKAGE_DIR = "dataset-fashion-mnist", Path("/usr/share/datasets/fashion-mnist")
TIMEOUT = 15  # seconds that a server may be silent


def check_link(path: Path) -> None:
    """Raise OSError if the path, or a directory above it, is a dangling symbolic link."""
    for link in (path, *path.parents):
        if os.path.islink(link) and not os.path.exists(link):
            target = os.readlink(link)
            raise OSError(f"{link} is a symbolic link to {target}, which does not exist; create "
                          f"{target} or delete the link")


def read_verified(path: Path) -> bytes:
    """Return the content of one of FILES, unpacked. Raises OSError if it is not the right one."""
    check_link(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise OSError(f"{path} cannot be read ({error.strerror}); fix that, or choose "
                      "another --data-dir") from error
    try:
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        intact = hashlib.sha256(content).hexdigest() == FILES[path.name.removesuffix(".gz")]
    except (OSError, EOFError, zlib.error):  # cut short, or not made by gzip
        intact = False
    if not intact:
        raise OSError(f"{path} is damaged or not from Fashion-MNIST; move or delete it")
    return content


def torchvision_download(scratch: Path) -> Path:
    """Let torchvision download the .gz files; return their directory."""
    from torchvision.datasets import FashionMNIST  # here, because the import takes seconds

    print("downloading Fashion-MNIST", file=sys.stderr, flush=True)
    socket.setdefaulttimeout(TIMEOUT)  # torchvision itself sets no limit
    with contextlib.redirect_stdout(sys.stderr):  # older versions print
        return Path(FashionMNIST(scratch, download=True).raw_folder)


def debian_download(scratch: Path) -> Path:
    """Download and unpack Debian's package without needing root; return where its files are."""
    apt = ["apt-get", f"-oDir::State::Lists={scratch}", f"-oDir::Cache={scratch}",
           "-oAPT::Sandbox::User=", f"-oAcquire::http::Timeout={TIMEOUT}", "-oAcquire::Retries=0"]
    subprocess.run([*apt, "update"], check=True, capture_output=True, timeout=40)
    subprocess.run([*apt, "download", PACKAGE], cwd=scratch, check=True, capture_output=True)
    subprocess.run(["dpkg-deb", "-x", *scratch.glob("*.deb"), scratch], check=True)
    return scratch / PACKAGE_DIR.relative_to("/")


def download(names: list[str], raw: Path) -> dict[str, bytes]:
    """Return the contents of the named files from the first source that works. Raises OSError."""
    reasons = []
    for source in torchvision_download, debian_download:
        try:
            with tempfile.TemporaryDirectory() as scratch:
                directory = source(Path(scratch))
                return {name: read_verified(directory / f"{name}.gz") for name in names}
        except Exception as error:  # whatever went wrong, try the next source
            reasons.append(" ".join(str(error).split()))
    raise OSError("Fashion-MNIST cannot be downloaded; connect to the internet, install Debian's "
                  f"package {PACKAGE}, or save the missing files in {raw}: {', '.join(names)}, "
                  f"unpacked or as .gz ({'; '.join(reasons)})")


def save(contents: dict[str, bytes], directory: Path) -> None:
    """Write each file to a temporary directory, then move it into place, so none is incomplete."""
    for name, content in contents.items():
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            Path(scratch, name).write_bytes(content)
            os.replace(Path(scratch, name), directory / name)


def find_dataset(data_dir: Path) -> dict[str, bytes]:
    """Return {name: content} of all FILES, unpacked and verified. Raises OSError.

    Files that were unpacked or downloaded are saved in <data-dir>/FashionMNIST/raw for next time.
    """
    data_dir = Path(os.path.expanduser(data_dir))  # no shell has expanded --data-dir=~/x
    if os.path.isfile(data_dir):
        raise OSError(f"--data-dir {data_dir} is a file but must be a directory")
    raw = data_dir / "FashionMNIST" / "raw"
    check_link(raw)
    contents, unpacked = {}, {}
    for name in FILES:
        packed = f"{name}.gz"
        for path in (raw / name, raw / packed, data_dir / name, data_dir / packed,
                     PACKAGE_DIR / packed):
            if os.path.lexists(path):  # true for a dangling link, too
                contents[name] = read_verified(path)
                if path.name == packed:
                    unpacked[name] = contents[name]
                break
    missing = [name for name in FILES if name not in contents]
    downloaded = download(missing, raw) if missing else {}
    try:
        save(unpacked | downloaded, raw)
    except OSError as error:
        if downloaded:  # unpacked files need not be saved: they can be unpacked again
            raise OSError(f"{raw} cannot be written to ({error.strerror}); "
                          "choose another --data-dir") from error
    return contents | downloaded


def main(argv: list[str] | None = None) -> None:
    """Find or download the files."""
    parser = argparse.ArgumentParser(description="Get Fashion-MNIST.", usage=argparse.SUPPRESS)
    parser.add_argument("--data-dir", type=Path, default=DEFAULT_DATA_DIR, metavar="DIR",
                        help="default: %(default)s")
    data_dir = parser.parse_args(argv).data_dir
    try:
        find_dataset(data_dir)
    except OSError as error:
        sys.exit(f"download.py: error: {error}")
    except KeyboardInterrupt:
        print("download.py: interrupted", file=sys.stderr)
        sys.exit(130)
    print(f"--data-dir {data_dir}: all four Fashion-MNIST files are present and verified")


if __name__ == "__main__":
    main()
