"""Find or fetch the four files of Fashion-MNIST, and verify them: python download.py

Also what all scripts need for failures, signals, and files that appear whole or not at all. It is
plumbing: to learn about networks, skip this file.
"""

import argparse
import contextlib
import fcntl
import gzip
import hashlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

FILES = {  # name: SHA-256
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
PACKAGE = "dataset-fashion-mnist"  # as Debian and Ubuntu call it
PACKAGE_DIR = Path("/usr/share/datasets/fashion-mnist")
TIMEOUT = 15  # seconds that a connection may be silent
leave = os._exit  # how a signal ends a script; sys.exit does not get through all of torch's imports


class Failure(Exception):
    """A run or data that failed. Its text is the one line that the user gets to see."""


def answer_signals(hint: str) -> None:
    """End on Ctrl-C and SIGTERM with one line, `hint`, and exit code 130 or 143."""

    def stop(signum, frame):
        for each in (signal.SIGINT, signal.SIGTERM):  # a second one must not break the tidying up
            signal.signal(each, lambda *_: None)  # (SIG_IGN raises if one has just come)
        os.write(2, f"{Path(sys.argv[0]).name}: interrupted; {hint}\n".encode())
        leave(128 + signum)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it quietly, like any program


def run_script(main: Callable) -> None:
    """Call main(); tell a failure in one line on stderr and exit with code 1."""
    global leave
    leave = sys.exit
    try:
        main()
    except (Failure, OSError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: error: {error}")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep the folder for this block; wait for it while another process keeps it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:  # the end of the process unlocks, too, however it ends
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"{folder}: waiting for another process to end", file=sys.stderr)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        pass  # some network file systems have no locks
    try:
        yield
    finally:
        os.close(descriptor)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it appears whole or not at all, even if the machine stops in between."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def read_verified(path: Path) -> bytes:
    """Return the content of one of FILES, unpacked. Raises Failure when a bit of it is wrong."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if hashlib.sha256(content).hexdigest() != FILES[path.name.removesuffix(".gz")]:
        raise Failure(f"damaged, {len(content):,} bytes with a wrong SHA-256")
    return content


def torchvision_download(scratch: Path) -> Path:
    """Let torchvision download the files; return their folder."""
    from torchvision.datasets import FashionMNIST  # only here, since it takes seconds to import

    socket.setdefaulttimeout(TIMEOUT)  # torchvision itself sets none
    FashionMNIST(scratch, download=True)
    return scratch / "FashionMNIST" / "raw"


def debian_package(scratch: Path) -> Path:
    """Fetch and unpack Debian's package, without installing it or being root; return its folder."""
    apt = ["apt-get", f"-oDir::State::Lists={scratch}", f"-oDir::Cache={scratch}",
           "-oAPT::Sandbox::User=", f"-oAcquire::http::Timeout={TIMEOUT}"]
    unpack = ["sh", "-c", "dpkg-deb -x *.deb ."]
    for command in ([*apt, "update"], [*apt, "download", PACKAGE], unpack):
        subprocess.run(command, cwd=scratch, check=True, capture_output=True)
    return scratch / PACKAGE_DIR.relative_to("/")


def fetch_contents(names: list[str]) -> list[bytes]:
    """Return the contents of the named files, by the first of three ways that works."""
    reasons = []
    for source in (lambda scratch: PACKAGE_DIR, torchvision_download, debian_package):
        try:
            with tempfile.TemporaryDirectory() as scratch:
                folder = source(Path(scratch))
                return [read_verified(folder / f"{name}.gz") for name in names]
        except Exception as error:  # noqa: BLE001 - whatever went wrong, try the next way
            reasons.append(" ".join(str(error).split()))
    raise Failure("Fashion-MNIST is not here and cannot be fetched; connect this machine to the "
                  f"internet or install Debian's package {PACKAGE} ({'; '.join(reasons)})")


def fetch(data_dir: str | Path) -> Path:
    """Return torchvision's folder, data_dir/FashionMNIST/raw, with the four files, all intact.

    What is missing or damaged there is fetched first. Raises Failure or OSError if that fails.
    """
    raw, wanted = Path(data_dir) / "FashionMNIST" / "raw", []
    raw.mkdir(parents=True, exist_ok=True)
    with locked(raw):  # of two runs that start together, the second waits and finds the files
        for name in FILES:
            try:
                read_verified(raw / name)
            except (Failure, OSError) as error:
                wanted.append(name)
                if not isinstance(error, FileNotFoundError):
                    print(f"{raw / name}: {error}; fetching it again", file=sys.stderr)
        for name, content in zip(wanted, fetch_contents(wanted) if wanted else ()):
            write_whole(raw / name, content)
    return raw


def main(argv: list[str] | None = None) -> None:
    """Find or fetch the files."""
    parser = argparse.ArgumentParser(description="Get Fashion-MNIST.", usage=argparse.SUPPRESS)
    parser.add_argument("--data-dir", type=Path, default="datasets", help="default: datasets")
    args = parser.parse_args(argv)
    if args.data_dir.is_file():
        parser.error(f"--data-dir must be a directory, {args.data_dir} is a file")
    print(f"{fetch(args.data_dir)}: the four files of Fashion-MNIST, verified")


if __name__ == "__main__":
    answer_signals("the same command starts it again")
    run_script(main)
