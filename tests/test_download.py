"""What download.py finds, downloads, saves and refuses. Plumbing, not the lesson.

The right files are four short ones here. The downloads are stand-ins, or the real torchvision and
the real apt-get, which may contact nothing but a server on this machine.
"""

import contextlib
import functools
import gzip
import hashlib
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from torchvision.datasets import FashionMNIST

import download
import train
from conftest import CONTENTS, HASHES, ROOT, disk_for, make_script

# The true ones, before the fixtures below and in conftest.py replace them.
from download import FILES, PACKAGE_DIR, TIMEOUT, debian_download, torchvision_download

# A second copy, so that a typing error in download.py is noticed.
OFFICIAL_HASHES = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
RAW = Path("data/FashionMNIST/raw")
SMALL = {name: f"the content of {name} ".encode() * 100 for name in OFFICIAL_HASHES}
IMAGES = "t10k-images-idx3-ubyte"  # one of the four, where one is enough
OTHERS = {name: content for name, content in SMALL.items() if name != IMAGES}
PLACES = {  # in the order in which they are searched; the last two are downloads
    "raw": "data/FashionMNIST/raw/{}",
    "raw.gz": "data/FashionMNIST/raw/{}.gz",
    "data-dir": "data/{}",
    "data-dir.gz": "data/{}.gz",
    "package": "package/{}.gz",
    "torchvision": "torchvision/{}.gz",
    "debian": "debian/{}.gz",
}


@pytest.fixture(autouse=True)
def small_files(directory, monkeypatch):
    """Make the small files count as the right ones, and keep temporary files within the directory.

    torchvision and Debian download what lies in torchvision/ and debian/, at first nothing.
    """
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in SMALL.items()}
    monkeypatch.setattr(download, "FILES", hashes)
    monkeypatch.setattr(download, "PACKAGE_DIR", Path("package"))
    for source in "torchvision", "debian":
        monkeypatch.setattr(download, f"{source}_download", lambda _, source=source: Path(source))
    (directory / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory / "tmp"))
    timeout = socket.getdefaulttimeout()
    yield
    socket.setdefaulttimeout(timeout)  # which download.py has changed


def write(path: Path, content: bytes) -> None:
    """Write one file and, if need be, its directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def put(place: str, contents: dict[str, bytes] = SMALL) -> None:
    """Put files into one of PLACES, compressed if need be."""
    for name, content in contents.items():
        path = Path(PLACES[place].format(name))
        write(path, gzip.compress(content, 1) if path.suffix == ".gz" else content)


def files(directory) -> dict[str, bytes]:
    """Return {path: content} of all files in a directory and in those below it."""
    paths = sorted(path for path in Path(directory).rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}


def what_is_wrong(contents: dict[str, bytes], expected: dict[str, bytes] = SMALL) -> str:
    """Return which files are missing, unexpected, or have the wrong content."""
    faults = [f"{name} is missing" for name in expected if name not in contents]
    faults += [f"{name} is unexpected" for name in contents if name not in expected]
    faults += [f"{name} has the wrong content" for name in expected
               if contents.get(name, expected[name]) != expected[name]]
    return "; ".join(faults)


def enter(directory: Path, monkeypatch) -> None:
    """Make a directory and work in it."""
    directory.mkdir(parents=True)
    monkeypatch.chdir(directory)


def failure(error: BaseException):
    """Return a stand-in for a download that fails."""
    def fail(scratch: Path):
        raise error
    return fail


def refusal(data_dir="data") -> str:
    """Return the message with which find_dataset() refuses."""
    with pytest.raises(OSError) as error:
        download.find_dataset(Path(data_dir))
    return str(error.value)


# Which files are right, and where they are


def test_the_hashes_are_those_of_the_official_files():
    assert what_is_wrong(FILES, OFFICIAL_HASHES) == ""


def test_debians_package_is_searched_where_it_installs_the_files():
    assert Path("/usr/share/datasets/fashion-mnist") == PACKAGE_DIR


def test_files_come_from_the_first_place_that_has_them(directory, monkeypatch):
    """In the places that are searched later, the files are damaged."""
    wrong = {}
    for i, place in enumerate(PLACES):
        enter(directory / place, monkeypatch)
        put(place)
        for later in list(PLACES)[i + 1:]:
            put(later, dict.fromkeys(SMALL, b"damaged"))
        try:
            wrong[place] = what_is_wrong(download.find_dataset(Path("data")))
        except OSError as error:
            wrong[place] = str(error)
    assert wrong == dict.fromkeys(PLACES, "")


def test_files_from_different_places_are_found_and_saved_unpacked():
    """What torchvision downloads is damaged, so the last of them comes from Debian."""
    for place, (name, content) in zip(("raw", "data-dir.gz", "package", "debian"), SMALL.items()):
        put(place, {name: content})
        write(Path(f"torchvision/{name}.gz"), b"<html>404: not found</html>")
    assert what_is_wrong(download.find_dataset(Path("data"))) == ""
    assert what_is_wrong(files(RAW)) == ""


@pytest.mark.parametrize("source, place", [("torchvision", "raw"), ("debian", "torchvision")])
def test_nothing_is_downloaded_needlessly(source, place, monkeypatch):
    asked = pytest.fail.Exception(f"{source} was asked")
    monkeypatch.setattr(download, f"{source}_download", failure(asked))
    put(place)
    download.find_dataset(Path("data"))


@pytest.mark.parametrize("data_dir", ["link", "~/data"])
def test_data_dir_may_be_a_link_or_start_with_a_tilde(data_dir):
    put("raw")
    Path("link").symlink_to("data")
    assert what_is_wrong(download.find_dataset(Path(data_dir))) == ""


# What is saved


def test_a_complete_read_only_directory_is_used_as_it_is():
    """The modification times reveal a write even by root, who may write everywhere."""
    put("raw", OTHERS)
    put("data-dir", {IMAGES: SMALL[IMAGES]})
    paths = [Path("data"), *Path("data").rglob("*")]
    for path in paths:
        path.chmod(0o555)
        os.utime(path, (0, 0))
    found = download.find_dataset(Path("data"))
    for path in paths:
        path.chmod(0o755)  # so that pytest can delete it
    changed = [str(path) for path in paths if path.stat().st_mtime != 0]
    assert what_is_wrong(found) == ""
    assert changed == []


def test_files_that_are_present_are_left_as_they_are():
    put("raw", OTHERS)
    put("raw.gz", {IMAGES: SMALL[IMAGES]})
    before = files(RAW)
    for name in before:
        os.utime(RAW / name, (0, 0))
    download.find_dataset(Path("data"))
    assert what_is_wrong(files(RAW), before | SMALL) == ""
    assert [name for name in before if (RAW / name).stat().st_mtime != 0] == []


def test_compressed_files_are_used_even_if_the_disk_is_full():
    put("package")
    with disk_for(1_000):
        found = download.find_dataset(Path("data"))
    assert what_is_wrong(found) == ""
    assert files(RAW) == {}


def test_a_download_that_cannot_be_saved_is_refused():
    put("torchvision")
    write(Path("data/FashionMNIST"), b"a file in place of a directory")
    assert refusal() == f"{RAW} cannot be written to (Not a directory); choose another --data-dir"


KILLED = """
import json, resource, signal, sys
from pathlib import Path
import download
download.FILES = json.loads(sys.argv[1])
download.PACKAGE_DIR = Path("package")
download.torchvision_download = lambda _: Path("torchvision")
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
download.find_dataset(Path("data"))
"""


def test_a_kill_while_saving_leaves_no_incomplete_file():
    """The system kills the process when it writes the 1,001st byte of a file."""
    pytest.importorskip("resource")
    put("torchvision")
    killed = subprocess.run([sys.executable, "-c", KILLED, json.dumps(download.FILES)], timeout=60,
                            env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert killed.returncode == -signal.SIGXFSZ, "the set-up lacks the kill"
    assert [name for name in SMALL if (RAW / name).exists()] == []
    assert what_is_wrong(download.find_dataset(Path("data"))) == ""


def test_four_first_starts_at_once_do_not_disturb_each_other(monkeypatch):
    """All four have finished the download before one of them saves it."""
    put("torchvision")
    barrier = threading.Barrier(4, timeout=20)

    def download_together(_) -> Path:
        barrier.wait()
        return Path("torchvision")

    monkeypatch.setattr(download, "torchvision_download", download_together)
    for data_dir in [Path(f"start{i}") for i in range(10)]:  # it is a matter of chance
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(download.find_dataset, [data_dir] * 4))
        assert [what_is_wrong(contents) for contents in found] == [""] * 4
        assert what_is_wrong(files(data_dir / "FashionMNIST" / "raw")) == ""


# Damaged files

PACKED = gzip.compress(SMALL[IMAGES])
DAMAGED = {  # what may lie in place of IMAGES or IMAGES.gz
    "": {
        "empty": b"",
        "incomplete": SMALL[IMAGES][:-1],
        "a byte changed": SMALL[IMAGES][:-1] + b"?",
        "a different one of the four": SMALL["train-images-idx3-ubyte"],
        "compressed, but without .gz": PACKED,
    },
    ".gz": {
        "empty": b"",
        "incomplete": PACKED[:-20],
        "no data after the header": PACKED[:10] + b"\xff" * 99,
        "checksum changed": PACKED[:-8] + b"?" * 8,
        "MNIST's file": gzip.compress(b"MNIST's file of the same name"),
        "not compressed": SMALL[IMAGES],
    },
}


def is_refused(path: Path) -> bool:
    """Say whether find_dataset() refuses the file at this path, and writes nothing."""
    before = files(".")
    try:
        download.find_dataset(Path("data"))
    except Exception as error:
        return isinstance(error, OSError) and str(path) in str(error) and files(".") == before
    return False


def test_a_file_with_any_kind_of_damage_is_refused():
    put("raw", OTHERS)
    unnoticed = []
    for suffix, contents in DAMAGED.items():
        path = RAW / (IMAGES + suffix)
        for kind, content in contents.items():
            path.write_bytes(content)
            if not is_refused(path):
                unnoticed.append(f"{path.name}: {kind}")
            path.unlink()
    assert unnoticed == []


def test_each_of_the_four_files_is_verified_in_each_place(directory, monkeypatch):
    unnoticed = []
    for place in PLACES:
        for name in SMALL:
            enter(directory / place / name, monkeypatch)
            put(place, SMALL | {name: b"damaged"})
            if not is_refused(Path(PLACES[place].format(name))):
                unnoticed.append(f"{place}: {name}")
    assert unnoticed == []


def test_a_damaged_file_is_refused_with_advice():
    write(RAW / f"{IMAGES}.gz", b"<html>404: not found</html>")
    assert refusal() == (f"{RAW / IMAGES}.gz is damaged or not from Fashion-MNIST; move or delete "
                         "it")


# Other files that cannot be used


def test_a_file_that_cannot_be_read_is_refused_with_the_reason():
    (RAW / IMAGES).mkdir(parents=True)
    assert refusal() == (f"{RAW / IMAGES} cannot be read (Is a directory); fix that, or choose "
                         "another --data-dir")


def test_a_file_in_place_of_data_dir_is_refused():
    Path("file").touch()
    assert refusal("file") == "--data-dir file is a file but must be a directory"


def test_a_dangling_link_is_refused_and_not_replaced(directory, monkeypatch):
    """For example, to a disk that is not plugged in."""
    places = [PLACES[place].format(IMAGES) for place in list(PLACES)[:5]]
    for i, link in enumerate([Path("data"), RAW.parent, RAW, *map(Path, places)]):
        enter(directory / str(i), monkeypatch)
        put("torchvision")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to("/unplugged/disk")
        assert refusal() == (f"{link} is a symbolic link to /unplugged/disk, which does not exist; "
                             "create /unplugged/disk or delete the link")
        assert link.is_symlink(), f"{link} was replaced"


def test_without_a_network_one_line_names_remedies_and_reasons(monkeypatch):
    put("raw", OTHERS)
    for source, reason in ("torchvision", "tried A:\n\tno such host"), ("debian", "apt\nis broken"):
        monkeypatch.setattr(download, f"{source}_download", failure(RuntimeError(reason)))
    assert refusal() == (
        "Fashion-MNIST cannot be downloaded; connect to the internet, install Debian's package "
        f"dataset-fashion-mnist, or save the missing files in {RAW}: {IMAGES}, unpacked or as .gz "
        "(tried A: no such host; apt is broken)")


# Downloads from a server on this machine


@pytest.fixture
def network(monkeypatch) -> None:
    """Make the made-up data set count as right, since torchvision reads it; bypass any proxy."""
    monkeypatch.setattr(download, "FILES", HASHES)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@contextlib.contextmanager
def web_server():
    """Serve the files in site/ at a port on this machine."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory="site")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01]).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


def let_torchvision_ask(port: int, monkeypatch) -> None:
    """Let the real torchvision ask a port on this machine, and put its files into site/."""
    monkeypatch.setattr(download, "torchvision_download", torchvision_download)
    monkeypatch.setattr(FashionMNIST, "resources", [(f"{name}.gz", None) for name in HASHES])
    monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{port}/"])
    for name, content in CONTENTS.items():
        write(Path("site", f"{name}.gz"), gzip.compress(content, 0))


def make_package() -> None:
    """Make Debian's package of the made-up data set, in site/."""
    for name, content in CONTENTS.items():
        write(Path("tree/no/package", f"{name}.gz"), gzip.compress(content, 0))
    control = ("Package: dataset-fashion-mnist\nVersion: 1\nArchitecture: all\n"
               "Maintainer: nobody <nobody@localhost>\nDescription: made up\n")
    write(Path("tree/DEBIAN/control"), control.encode())
    Path("tree/DEBIAN").chmod(0o755)  # dpkg-deb insists on it
    Path("site").mkdir()
    pack = ["dpkg-deb", "-Znone", "--build", "tree", "site/a.deb"]
    subprocess.run(pack, check=True, capture_output=True)
    package = Path("site/a.deb").read_bytes()
    Path("site/Packages").write_text(f"{control}Filename: ./a.deb\nSize: {len(package)}\n"
                                     f"SHA256: {hashlib.sha256(package).hexdigest()}\n")


def let_debian_ask(port: int, monkeypatch) -> None:
    """Let the real apt-get ask a port on this machine, with machine/ in place of /."""
    if not shutil.which("apt-get"):
        pytest.skip("there is no apt-get here")
    monkeypatch.setattr(download, "debian_download", debian_download)
    monkeypatch.setattr(download, "PACKAGE_DIR", Path("/no/package"))
    sources = f"deb [trusted=yes] http://127.0.0.1:{port} ./"
    write(Path("machine/etc/apt/sources.list"), sources.encode())
    write(Path("machine/var/lib/dpkg/status"), b"")
    Path("machine/var/cache/apt/archives/partial").mkdir(parents=True)
    write(Path("machine/apt.conf"), f'Dir "{Path("machine").resolve()}/";'.encode())
    monkeypatch.setenv("APT_CONFIG", str(Path("machine/apt.conf").resolve()))
    make_package()


SOURCES = {"torchvision": let_torchvision_ask, "debian": let_debian_ask}


@pytest.mark.parametrize("source", SOURCES)
def test_a_download_leaves_the_four_files_and_no_output(source, network, monkeypatch, capfd):
    with web_server() as port:
        SOURCES[source](port, monkeypatch)
        before = files(".")
        found = download.find_dataset(Path("data"))
    new = {path: content for path, content in files(".").items() if path not in before}
    assert what_is_wrong(found, CONTENTS) == ""
    assert what_is_wrong(new, {str(RAW / name): CONTENTS[name] for name in CONTENTS}) == ""
    assert list(Path("tmp").iterdir()) == []
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("source, timeout", [("torchvision", 0.2), ("debian", 1)])
def test_a_silent_server_is_given_up_on(source, timeout, network, monkeypatch):
    assert TIMEOUT <= 60
    monkeypatch.setattr(download, "TIMEOUT", timeout)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it accepts, but does not answer
        SOURCES[source](silent.getsockname()[1], monkeypatch)
        hang_up = threading.Timer(15, silent.close)  # so that this test ends in any case
        hang_up.start()
        start = time.monotonic()
        refusal()
        hang_up.cancel()
        assert time.monotonic() - start < 10
        silent.settimeout(0)
        connection, _ = silent.accept()  # fails if the server was not asked
        connection.close()


def test_an_apt_get_that_hangs_is_given_up_on(directory, monkeypatch):
    """The clock of subprocess runs 100 times as fast."""
    run = subprocess.run

    def run_fast(*args, timeout=None, **kwargs):
        return run(*args, timeout=timeout and timeout / 100, **kwargs)

    monkeypatch.setattr(subprocess, "run", run_fast)
    monkeypatch.setattr(download, "debian_download", debian_download)
    make_script(directory / "bin" / "apt-get", f"#!/bin/sh\nexec {shutil.which('sleep')} 20\n")
    monkeypatch.setenv("PATH", str(directory / "bin"))
    start = time.monotonic()
    refusal()
    assert time.monotonic() - start < 10


def test_a_download_by_an_old_torchvision_prints_to_stderr(monkeypatch, capsys):
    """The output may be piped, as in the README; an old torchvision prints what it downloads."""

    class OldFashionMNIST:
        raw_folder = "torchvision"

        def __init__(self, *_, **__):
            print("Downloading http://somewhere")

    monkeypatch.setattr("torchvision.datasets.FashionMNIST", OldFashionMNIST)
    monkeypatch.setattr(download, "torchvision_download", torchvision_download)
    put("torchvision")
    download.find_dataset(Path("data"))
    assert capsys.readouterr() == ("", "downloading Fashion-MNIST\nDownloading http://somewhere\n")


def test_a_failing_tool_of_debian_is_named(directory, monkeypatch):
    monkeypatch.setattr(download, "debian_download", debian_download)
    monkeypatch.setenv("PATH", str(directory / "bin"))
    assert "'apt-get'" in refusal(), "there is no apt-get"
    fail = 'case "$*" in *download*) exit 100 ;; esac'
    make_script(directory / "bin" / "apt-get", f"#!/bin/sh\n{fail}\n")
    assert "'apt-get'" in refusal(), "apt-get fails"
    make_script(directory / "bin" / "apt-get", "#!/bin/sh\n: > a.deb\n")
    make_script(directory / "bin" / "dpkg-deb", "#!/bin/sh\nexit 2\n")
    assert "'dpkg-deb'" in refusal(), "dpkg-deb fails"


# The programs


@pytest.mark.parametrize("program", [train, download], ids=["train.py", "download.py"])
def test_each_program_reports_refused_files_in_one_line(program, directory):
    write(RAW / f"{IMAGES}.gz", b"<html>404: not found</html>")
    before = sorted(directory.rglob("*"))
    with pytest.raises(SystemExit) as end:
        program.main(["--data-dir=data"])
    assert end.value.code == f"{Path(program.__file__).name}: error: {refusal()}"
    assert sorted(directory.rglob("*")) == before, "a run was started"


@pytest.mark.parametrize("flag, code", [("--data-dir=file", 1), ("--wrong", 2)])
def test_download_py_reports_an_error_in_one_line(flag, code):
    Path("file").touch()
    ended = subprocess.run([sys.executable, ROOT / "download.py", flag], timeout=60,
                           capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert ended.stderr.startswith("download.py: error: ")
    assert ended.stderr.count("\n") == 1


def test_download_py_says_that_the_files_are_verified(capsys):
    put("raw")
    download.main(["--data-dir=data"])
    assert capsys.readouterr() == (
        "--data-dir data: all four Fashion-MNIST files are present and verified\n", "")


def test_the_default_data_dir_is_beside_download_py(monkeypatch):
    asked = []
    monkeypatch.setattr(download, "find_dataset", asked.append)
    download.main([])
    assert asked == [ROOT.resolve() / "datasets"]


def test_ctrl_c_ends_download_py_in_one_line_without_traces(monkeypatch, directory, capsys):
    monkeypatch.setattr(download, "torchvision_download", failure(KeyboardInterrupt()))
    with pytest.raises(SystemExit) as end:
        download.main(["--data-dir=data"])
    assert end.value.code == 130
    assert capsys.readouterr() == ("", "download.py: interrupted\n")
    assert list(directory.rglob("*")) == [directory / "tmp"]
