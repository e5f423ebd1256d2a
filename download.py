"""Find or fetch the four files of Fashion-MNIST, and verify them: python download.py (plumbing)"""

import argparse
import gzip
import hashlib
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

FILES = {  # name: SHA-256, which tells them from MNIST's files of the same names
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
DATASETS = Path(__file__).resolve().parent / "datasets"
PACKAGE, PACKAGE_DIR = "dataset-fashion-mnist", Path("/usr/share/datasets/fashion-mnist")
TIMEOUT = 15  # seconds that a server may be silent


def folder(text: str) -> Path:
    """Return the directory that a flag names, with ~ expanded. argparse reports if it is a file."""
    if os.path.isfile(path := os.path.expanduser(text)):
        raise argparse.ArgumentTypeError(f"{path} is a file and must be a directory")
    return Path(path)


def read_verified(path: Path) -> bytes:
    """Return the content of one of FILES, unpacked. Raises OSError if a bit of it is wrong."""
    content = path.read_bytes()
    content = gzip.decompress(content) if path.suffix == ".gz" else content
    if hashlib.sha256(content).hexdigest() != FILES[path.name.removesuffix(".gz")]:
        raise OSError(f"{path} is damaged or not Fashion-MNIST's; move or delete it")
    return content


def torchvision_download(scratch: Path) -> Path:
    """Let torchvision download the files; return their folder."""
    from torchvision.datasets import FashionMNIST  # only here: the import takes seconds

    print("downloading Fashion-MNIST", file=sys.stderr, flush=True)
    socket.setdefaulttimeout(TIMEOUT)  # torchvision itself sets none
    return Path(FashionMNIST(scratch, download=True).raw_folder)


def debian_download(scratch: Path) -> Path:
    """Fetch and unpack Debian's package, without being root; return its folder."""
    apt = ["apt-get", f"-oDir::State::Lists={scratch}", f"-oDir::Cache={scratch}",
           "-oAPT::Sandbox::User=", f"-oAcquire::http::Timeout={TIMEOUT}", "-oAcquire::Retries=0"]
    subprocess.run([*apt, "update"], check=True, capture_output=True, timeout=40)
    subprocess.run([*apt, "download", PACKAGE], cwd=scratch, check=True, capture_output=True)
    subprocess.run(["dpkg-deb", "-x", *scratch.glob("*.deb"), scratch], check=True)
    return scratch / PACKAGE_DIR.relative_to("/")


def fetch(names: list[str], raw: Path) -> dict[str, bytes]:
    """Return the contents of the named files by the first way that works. Raises OSError."""
    reasons = []
    for way in (lambda _: raw, lambda _: PACKAGE_DIR, torchvision_download, debian_download):
        try:
            with tempfile.TemporaryDirectory() as scratch:
                source = way(Path(scratch))
                return {name: read_verified(source / f"{name}.gz") for name in names}
        except Exception as error:  # whatever went wrong, try the next way
            reasons.append(" ".join(str(error).split()))
    raise OSError("Fashion-MNIST cannot be downloaded; connect to the internet, save its four .gz "
                  f"files in {raw}, or install Debian's package {PACKAGE} ({'; '.join(reasons)})")


def find_dataset(data_dir: Path) -> Path:
    """Return the folder with all FILES, verified; make what is missing. Raises OSError."""
    raw = data_dir / "FashionMNIST" / "raw"
    missing = [name for name in FILES if not (raw / name).exists()]
    for name in FILES.keys() - missing:
        read_verified(raw / name)
    contents = fetch(missing, raw) if missing else {}
    try:
        for name, content in contents.items():
            raw.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=raw) as scratch:  # written beside, then moved
                Path(scratch, name).write_bytes(content)
                os.replace(Path(scratch, name), raw / name)
    except OSError as error:
        raise OSError(f"{raw} cannot be written ({error.strerror})") from error
    return raw


def main(argv: list[str] | None = None) -> None:
    """Find or fetch the files; say where they are."""
    parser = argparse.ArgumentParser(description="Get Fashion-MNIST.", usage=argparse.SUPPRESS)
    parser.add_argument("--data-dir", type=folder, default=DATASETS, help="default: %(default)s")
    data_dir = parser.parse_args(argv).data_dir
    try:
        print(f"{find_dataset(data_dir)}: the four files of Fashion-MNIST, verified")
    except (OSError, KeyboardInterrupt) as error:  # Ctrl-C has no text
        sys.exit(f"download.py: error: {error}" if str(error) else 130)


if __name__ == "__main__":
    main()
