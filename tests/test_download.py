"""What download.py promises: the right four files from the first place that has them."""

import argparse
import gzip
import hashlib
import http.server
import os
import re
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import pytest
from torchvision.datasets import FashionMNIST

import download
import train
from conftest import CONTENTS, RAW, ROOT, disk_for, make_script

# As they are in download.py, since the fixtures below and in conftest.py put others in their place.
from download import FILES as STATED_HASHES
from download import PACKAGE_DIR, debian_download, torchvision_download

# A second copy, so that a slip of the keyboard in download.py's is noticed.
OFFICIAL_HASHES = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
NAMES = list(OFFICIAL_HASHES)
# Four contents that are quick to write. No test here looks at them as images or labels.
SMALL = {name: f"the content of {name} ".encode() * 100 for name in NAMES}
IMAGES = "t10k-images-idx3-ubyte"  # one of the four, where one is enough
PLACES = {  # in the order in which they are looked at; the last two are downloads
    "raw": "data/FashionMNIST/raw/{}",
    "raw.gz": "data/FashionMNIST/raw/{}.gz",
    "data-dir": "data/{}",
    "data-dir.gz": "data/{}.gz",
    "package": "package/{}.gz",
    "torchvision": "torchvision/{}.gz",
    "Debian": "debian/{}.gz",
}
PACKED_PLACES = [place for place, path in PLACES.items() if path.endswith(".gz")]
DAMAGED = {  # what may lie where IMAGES should be, and under which name
    "empty": (IMAGES, b""),
    "cut short": (IMAGES, SMALL[IMAGES][:-1]),
    "a byte changed": (IMAGES, SMALL[IMAGES][:-1] + b"?"),
    "a byte too many": (IMAGES, SMALL[IMAGES] + b"?"),
    "another of the four": (IMAGES, SMALL["train-images-idx3-ubyte"]),
    "MNIST's file": (IMAGES, b"the content of MNIST's file of the same name"),
    "packed, named as unpacked": (IMAGES, gzip.compress(SMALL[IMAGES])),
    "empty .gz": (f"{IMAGES}.gz", b""),
    "cut .gz": (f"{IMAGES}.gz", gzip.compress(SMALL[IMAGES])[:-20]),
    "header of .gz": (f"{IMAGES}.gz", gzip.compress(SMALL[IMAGES])[:10]),
    "bytes in .gz changed": (f"{IMAGES}.gz", gzip.compress(SMALL[IMAGES])[:20] + b"?" * 40),
    "no data behind header of .gz": (f"{IMAGES}.gz", gzip.compress(b"")[:10] + b"\xff" * 99),
    "checksum of .gz changed": (f"{IMAGES}.gz", gzip.compress(SMALL[IMAGES])[:-8] + b"?" * 8),
    "HTML saved as .gz": (f"{IMAGES}.gz", b"<html>404: not found</html>"),
    "MNIST's file in .gz": (f"{IMAGES}.gz", gzip.compress(b"MNIST's file of the same name")),
    "unpacked, named as .gz": (f"{IMAGES}.gz", SMALL[IMAGES]),
}
each_file = pytest.mark.parametrize("name", NAMES)
each_program = pytest.mark.parametrize(
    "program", [train, download], ids=["train.py", "download.py"])


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """Let every test work in a directory of its own, with the small files in none of the places."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in SMALL.items()}
    monkeypatch.setattr(download, "FILES", hashes)
    monkeypatch.setattr(download, "PACKAGE_DIR", tmp_path / "package")
    return tmp_path


def put(place: str, contents: dict[str, bytes] = SMALL) -> None:
    """Put files into one of PLACES, packed if they have to be."""
    for name, content in contents.items():
        path = Path(PLACES[place].format(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write(path: Path, content: bytes) -> None:
    """Write one file and, if need be, its directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def files(directory) -> dict[str, bytes]:
    """Return {path: content} of all files in a directory and in those below it."""
    paths = sorted(path for path in Path(directory).rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}


def what_is_wrong(contents: dict[str, bytes]) -> str:
    """Return which files are missing, too many, or have another content than SMALL."""
    faults = [f"{name} is missing" for name in SMALL if name not in contents]
    faults += [f"{name} is none of the four" for name in contents if name not in SMALL]
    faults += [f"{name} has another content" for name in SMALL
               if contents.get(name, SMALL[name]) != SMALL[name]]
    return "; ".join(faults)


def allow_downloads(monkeypatch) -> None:
    """Let torchvision and Debian have the files that lie in torchvision and debian."""
    for way in "torchvision", "debian":
        monkeypatch.setattr(download, f"{way}_download", Mock(return_value=Path(way)))


def refusal(program, data_dir="data") -> str:
    """Return what train.py or download.py says when it ends without having the files."""
    flags = [f"--data-dir={data_dir}"]
    with pytest.raises(SystemExit) as end:
        program.main([*flags, "--log-dir=run"] if program is train else flags)
    assert isinstance(end.value.code, str), "it should end with a message and exit code 1"
    return end.value.code


# The directories that flags name.


def test_a_file_is_refused_as_a_directory():
    Path("file").write_text("no directory")
    with pytest.raises(argparse.ArgumentTypeError, match="file is a file and must be a directory"):
        download.parse_directory("file")


def test_a_file_named_with_a_tilde_is_refused_as_a_directory(home):
    Path("file").write_text("no directory")
    with pytest.raises(argparse.ArgumentTypeError, match=re.escape(f"{home / 'file'} is a file")):
        download.parse_directory("~/file")


def test_parse_directory_expands_a_tilde(home):
    assert download.parse_directory("~/fashion") == home / "fashion"


@pytest.mark.parametrize("text", ["data", "missing/one", "/"], ids=["existing", "missing", "root"])
def test_parse_directory_returns_other_paths_as_they_are(text):
    put("raw")
    assert download.parse_directory(text) == Path(text)


# What the right files are.


@each_file
def test_the_stated_hash_of_each_file_is_the_official_one(name):
    assert STATED_HASHES[name] == OFFICIAL_HASHES[name]


def test_the_data_set_is_four_files():
    assert set(STATED_HASHES) == set(OFFICIAL_HASHES)


# Where they are looked for.


@pytest.mark.parametrize("place", PLACES)
def test_all_four_files_are_found_in_each_place(place, monkeypatch):
    allow_downloads(monkeypatch)
    put(place)
    assert what_is_wrong(download.find_dataset(Path("data"))) == ""


@each_file
@pytest.mark.parametrize("place", PLACES)
def test_each_file_comes_from_the_first_place_that_has_it(place, name, monkeypatch):
    """The three others are at hand. In the places that come later, the file is damaged."""
    allow_downloads(monkeypatch)
    put("raw", {other: SMALL[other] for other in NAMES if other != name})
    put(place, {name: SMALL[name]})
    for later in list(PLACES)[list(PLACES).index(place) + 1:]:
        put(later, {name: b"damaged"})
    assert what_is_wrong(download.find_dataset(Path("data"))) == ""


def test_nothing_is_downloaded_if_all_files_are_at_hand(monkeypatch):
    allow_downloads(monkeypatch)
    put("package")
    download.find_dataset(Path("data"))
    calls = [download.torchvision_download.call_count, download.debian_download.call_count]
    assert calls == [0, 0]


def test_debian_is_not_asked_if_torchvision_downloads(monkeypatch):
    allow_downloads(monkeypatch)
    put("torchvision")
    download.find_dataset(Path("data"))
    assert download.debian_download.call_count == 0


def test_debian_is_asked_if_torchvisions_files_are_damaged(monkeypatch):
    allow_downloads(monkeypatch)
    put("torchvision", SMALL | {IMAGES: b"damaged"})
    put("Debian")
    assert what_is_wrong(download.find_dataset(Path("data"))) == ""


def test_the_package_is_looked_for_where_debian_puts_it():
    assert Path("/usr/share/datasets/fashion-mnist") == PACKAGE_DIR


def test_the_data_dir_may_be_a_link():
    put("raw")
    Path("link").symlink_to("data")
    assert what_is_wrong(download.find_dataset(Path("link"))) == ""


# What is written.


@pytest.mark.parametrize("place", PACKED_PLACES)
def test_packed_files_are_saved_unpacked_in_raw(place, monkeypatch):
    allow_downloads(monkeypatch)
    put(place)
    download.find_dataset(Path("data"))
    unpacked = {name: content for name, content in files(RAW).items() if name in NAMES}
    assert what_is_wrong(unpacked) == ""


@pytest.mark.parametrize("place", ["raw", "data-dir"])
def test_nothing_is_written_if_all_files_are_unpacked(place):
    put(place)
    before = sorted(Path("data").rglob("*"))
    download.find_dataset(Path("data"))
    assert sorted(Path("data").rglob("*")) == before


def test_packed_files_are_left_where_they_lie():
    put("raw.gz")
    before = files(RAW)
    download.find_dataset(Path("data"))
    after = files(RAW)
    assert [name for name in before if before[name] != after.get(name)] == []


def test_files_that_are_there_are_not_written_again(monkeypatch):
    put("raw", {name: SMALL[name] for name in NAMES if name != IMAGES})
    put("package", {IMAGES: SMALL[IMAGES]})
    monkeypatch.setattr(os, "replace", Mock(wraps=os.replace))
    download.find_dataset(Path("data"))
    written = [Path(call.args[1]).name for call in os.replace.mock_calls]
    assert written == [IMAGES]


def test_a_file_is_written_beside_and_moved_to_its_name(monkeypatch):
    """Within a directory, a move is one act: the name has the whole file or none."""
    put("package")
    monkeypatch.setattr(os, "replace", Mock(wraps=os.replace))
    download.find_dataset(Path("data"))
    for call in os.replace.mock_calls:
        origin, name = (Path(path).resolve() for path in call.args)
        assert origin.is_relative_to(RAW.resolve()), f"{name} comes from elsewhere"
    assert sorted(Path(call.args[1]).name for call in os.replace.mock_calls) == sorted(NAMES)


def test_a_full_disk_leaves_no_half_file():
    with disk_for(1_000_000), pytest.raises(OSError, match="File too large"):
        download.save({IMAGES: bytes(2_000_000)}, RAW)
    assert list(files(RAW)) == []


def test_four_first_starts_at_once_do_not_disturb_each_other(monkeypatch):
    """No start moves a file into its place before all four have written theirs."""
    put("package")
    all_have_written = threading.Barrier(4, timeout=20)
    move = os.replace

    def move_together(old, new):
        all_have_written.wait()
        move(old, new)

    monkeypatch.setattr(os, "replace", move_together)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(download.find_dataset, [Path("data")] * 4))
    assert [what_is_wrong(contents) for contents in found] == [""] * 4
    assert what_is_wrong(files(RAW)) == ""


# Places that cannot be written.


@pytest.mark.parametrize("place", ["raw.gz", "data-dir.gz", "package"])
def test_packed_files_on_a_read_only_disk_are_used(place, monkeypatch):
    put(place)
    read_only = OSError(30, "Read-only file system")
    monkeypatch.setattr(download, "save", Mock(side_effect=read_only))
    assert what_is_wrong(download.find_dataset(Path("data"))) == ""


@each_program
@pytest.mark.parametrize("way", ["torchvision", "Debian"])
def test_if_a_download_cannot_be_saved_data_dir_is_the_advice(way, program, monkeypatch):
    allow_downloads(monkeypatch)
    put(way)
    Path("data").mkdir()
    Path("data/FashionMNIST").write_text("a file, where a directory should be made")
    message = refusal(program)
    start = f"{Path(program.__file__).name}: error: {RAW} cannot be written"
    assert message[:len(start)] == start
    assert "choose another --data-dir" in message


@each_program
def test_a_directory_in_the_place_of_a_file_is_named(program):
    put("raw")
    (RAW / IMAGES).unlink()
    (RAW / IMAGES).mkdir()
    message = refusal(program)
    start = f"{Path(program.__file__).name}: error: {RAW / IMAGES} "
    assert message[:len(start)] == start
    assert "Is a directory" in message


# Damaged files.


@each_program
@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_named_with_the_remedy(damage, program):
    name, content = DAMAGED[damage]
    put("raw", {other: SMALL[other] for other in NAMES if other != IMAGES})
    (RAW / name).write_bytes(content)
    message = refusal(program)
    start = f"{Path(program.__file__).name}: error: {RAW / name} is damaged"
    assert message[:len(start)] == start
    assert "move or delete it" in message


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_not_overwritten(damage, monkeypatch):
    allow_downloads(monkeypatch)
    put("torchvision")
    name, content = DAMAGED[damage]
    write(RAW / name, content)
    refusal(download)
    assert files("data") == {f"FashionMNIST/raw/{name}": content}


@each_file
def test_each_of_the_four_files_is_verified(name):
    put("raw", SMALL | {name: SMALL[name][:-1]})
    assert str(RAW / name) in refusal(download)


@pytest.mark.parametrize("place", ["raw", "raw.gz", "data-dir", "data-dir.gz", "package"])
def test_files_are_verified_in_each_place(place):
    put(place, SMALL | {IMAGES: SMALL[IMAGES][:-1]})
    assert PLACES[place].format(IMAGES) in refusal(download)


def test_train_py_starts_no_run_with_a_damaged_file():
    put("raw", SMALL | {IMAGES: b"damaged"})
    refusal(train)
    assert not Path("run").exists()


# Links that lead nowhere, say to a disk that is not there.


@each_program
@pytest.mark.parametrize(
    "link",
    ["data", "data/FashionMNIST", "data/FashionMNIST/raw", f"data/FashionMNIST/raw/{IMAGES}",
     f"data/FashionMNIST/raw/{IMAGES}.gz", f"data/{IMAGES}", f"data/{IMAGES}.gz"])
def test_a_link_that_leads_nowhere_is_named_with_its_target(link, program, monkeypatch):
    allow_downloads(monkeypatch)
    put("torchvision")
    Path(link).parent.mkdir(parents=True, exist_ok=True)
    Path(link).symlink_to("/unplugged/disk")
    message = refusal(program)
    start = f"{Path(program.__file__).name}: error: {link} is a link to /unplugged/disk"
    assert message[:len(start)] == start
    assert Path(link).is_symlink(), f"{link} is gone"


# Downloads: by torchvision.


def serve(directory: Path) -> http.server.ThreadingHTTPServer:
    """Return a web server of a directory, which runs until its shutdown()."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=directory)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    quick_to_shut_down = 0.01  # seconds
    threading.Thread(target=server.serve_forever, args=[quick_to_shut_down], daemon=True).start()
    return server


@pytest.fixture
def let_torchvision_ask(monkeypatch):
    """Return a function that lets torchvision ask a port of this machine, and nobody else."""
    monkeypatch.setenv("no_proxy", "*")
    timeout = socket.getdefaulttimeout()

    def let_ask(port: int) -> None:
        without_md5 = [(f"{name}.gz", None) for name in NAMES]
        monkeypatch.setattr(FashionMNIST, "resources", without_md5)
        monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{port}/"])

    yield let_ask
    socket.setdefaulttimeout(timeout)


def test_torchvision_downloads_the_four_packed_files(let_torchvision_ask, tmp_path):
    for name, content in CONTENTS.items():  # torchvision looks into them
        write(tmp_path / "site" / f"{name}.gz", gzip.compress(content, 0))
    server = serve(tmp_path / "site")
    let_torchvision_ask(server.server_port)
    directory = torchvision_download(tmp_path / "scratch")
    server.shutdown()
    for name, content in CONTENTS.items():
        assert gzip.decompress((directory / f"{name}.gz").read_bytes()) == content, name


def test_a_download_says_that_it_takes_place(let_torchvision_ask, tmp_path, capsys):
    server = serve(tmp_path)  # which has nothing
    let_torchvision_ask(server.server_port)
    with pytest.raises(RuntimeError):
        torchvision_download(tmp_path / "scratch")
    server.shutdown()
    assert "downloading Fashion-MNIST\n" in capsys.readouterr().err


def test_what_torchvision_prints_stays_out_of_the_output(tmp_path, monkeypatch, capsys):
    """The output may be piped, as in the README; an older torchvision prints what it downloads."""

    class OlderFashionMNIST:
        raw_folder = "raw"

        def __init__(self, *_, **__):
            print("Downloading http://somewhere")

    monkeypatch.setattr("torchvision.datasets.FashionMNIST", OlderFashionMNIST)
    torchvision_download(tmp_path)
    assert capsys.readouterr().out == ""


def test_a_silent_server_is_given_up(let_torchvision_ask, tmp_path, monkeypatch):
    silent = socket.create_server(("127.0.0.1", 0))  # takes connections and says nothing
    let_torchvision_ask(silent.getsockname()[1])
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    socket.setdefaulttimeout(5)  # so that this test ends in any case
    with pytest.raises((OSError, RuntimeError), match="timed out"):
        torchvision_download(tmp_path)
    assert socket.getdefaulttimeout() == 0.2


# Downloads: Debian's package.


@pytest.fixture
def debian(home, monkeypatch) -> Path:
    """Put an apt-get and a dpkg-deb of our own in the place of Debian's; return the package.

    This apt-get notes how it is called in the file calls. It makes a package of nothing but a name,
    which this dpkg-deb unpacks to what lies in the directory debian.
    """
    put("Debian")
    monkeypatch.setattr(download, "PACKAGE_DIR", Path("/no/package"))
    tools = {"apt-get": """
        echo "noise of apt-get"; echo "$@" >> "$HOME/calls"
        for last in "$@"; do :; done  # $last is the last argument, what to do or to download
        [ "$last" = update ] || touch "${last}_1.0_all.deb"
    """, "dpkg-deb": """
        [ "$1" = -x ] && [ -f "$2" ] || exit 2
        mkdir -p "$3/no/package" && cp "$HOME"/debian/* "$3/no/package"
    """}
    for tool, script in tools.items():
        make_script(home / "bin" / tool, f"#!/bin/sh\n{script}")
    monkeypatch.setenv("PATH", f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return home / "debian"


def fetched(scratch: Path) -> Path:
    """Return the directory to which Debian's package was fetched and unpacked."""
    scratch.mkdir()
    return debian_download(scratch)


def test_debians_package_is_fetched_and_unpacked(debian, tmp_path):
    directory = fetched(tmp_path / "scratch")
    assert files(directory) == files(debian)


def test_debians_download_leaves_nothing_outside_of_scratch(debian, tmp_path):
    before = set(tmp_path.iterdir())
    directory = fetched(tmp_path / "scratch")
    assert directory.is_relative_to(tmp_path / "scratch")
    assert set(tmp_path.iterdir()) - before == {tmp_path / "scratch", tmp_path / "calls"}


def test_apt_get_updates_its_lists_then_downloads_the_package(debian, tmp_path):
    fetched(tmp_path / "scratch")
    acts = [call.split()[-1] for call in Path("calls").read_text().splitlines()]
    assert acts == ["update", "dataset-fashion-mnist"]


@pytest.mark.parametrize("act", [0, 1], ids=["update", "download"])
@pytest.mark.parametrize(
    "option",
    ["-oDir::State::Lists={}", "-oDir::Cache={}", "-oAPT::Sandbox::User=",
     "-oAcquire::http::Timeout=15", "-oAcquire::Retries=0"])
def test_apt_get_works_without_root_and_gives_up_in_time(debian, tmp_path, option, act):
    fetched(tmp_path / "scratch")
    call = Path("calls").read_text().splitlines()[act]
    assert option.format(tmp_path / "scratch") in call.split()


def test_apt_gets_update_has_a_time_limit(debian, tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", Mock(wraps=subprocess.run))
    fetched(tmp_path / "scratch")
    limits = {call.args[0][-1]: call.kwargs.get("timeout") for call in subprocess.run.mock_calls}
    assert limits["update"] is not None


def test_apt_gets_noise_is_not_shown(debian, tmp_path, capfd):
    fetched(tmp_path / "scratch")
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    "tool, act", [("apt-get", "update"), ("apt-get", "download"), ("dpkg-deb", "-x")])
def test_a_failing_tool_of_debian_is_named(debian, tool, act, tmp_path):
    script = f'#!/bin/sh\ncase "$*" in *{act}*) exit 100 ;; esac\n'
    make_script(tmp_path / "bin" / tool, script)
    with pytest.raises(subprocess.CalledProcessError, match=f"{tool}.*{act}.* exit status 100"):
        fetched(tmp_path / "scratch")


def test_where_there_is_no_apt_get_the_reason_says_so(monkeypatch):
    monkeypatch.setattr(download, "debian_download", debian_download)
    monkeypatch.setenv("PATH", "/no/programs/here")
    assert "No such file or directory: 'apt-get'" in refusal(download)


# No network at all.


@pytest.mark.parametrize(
    "remedy",
    ["connect to the internet", f"save its four .gz files in {RAW}",
     "install Debian's package dataset-fashion-mnist"])
@each_program
def test_without_a_network_the_remedies_are_told(remedy, program):
    message = refusal(program)
    start = f"{Path(program.__file__).name}: error: "
    assert message[:len(start)] == start
    assert remedy in message


def test_the_reasons_of_both_ways_are_told_in_one_line(monkeypatch):
    for way, reason in ("torchvision", "tried A:\n\tno such host"), ("debian", "apt\nis broken"):
        failure = Mock(side_effect=RuntimeError(reason))
        monkeypatch.setattr(download, f"{way}_download", failure)
    message = refusal(download)
    assert "tried A: no such host; apt is broken" in message
    assert len(message.splitlines()) == 1


def test_without_a_network_nothing_is_written():
    refusal(download)
    assert not Path("data").exists()


def test_a_damaged_download_is_never_saved(monkeypatch):
    allow_downloads(monkeypatch)
    put("torchvision", SMALL | {IMAGES: b"damaged"})
    put("Debian", SMALL | {IMAGES: b"damaged"})
    refusal(download)
    assert not Path("data").exists()


# The program download.py.


def test_download_py_says_where_the_files_are(capsys):
    put("raw")
    download.main(["--data-dir=data"])
    said = capsys.readouterr().out
    assert "data: the four files of Fashion-MNIST are at hand, verified\n" in said


def test_download_py_has_the_data_dir_beside_it_by_default(monkeypatch):
    monkeypatch.setattr(download, "find_dataset", Mock(return_value=SMALL))
    download.main([])
    download.find_dataset.assert_called_once_with(ROOT.resolve() / "datasets")


@pytest.fixture
def interrupted(monkeypatch, capsys):
    """Return how download.py ends when it is interrupted, by Ctrl-C, in a download."""
    monkeypatch.setattr(download, "torchvision_download", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(SystemExit) as end:
        download.main(["--data-dir=data"])
    return end.value.code, capsys.readouterr().err


def test_ctrl_c_ends_download_py_with_code_130(interrupted):
    assert interrupted[0] == 130


def test_ctrl_c_ends_download_py_with_one_line(interrupted):
    assert interrupted[1] == "download.py: interrupted\n"


def test_ctrl_c_leaves_nothing_behind(interrupted):
    assert not Path("data").exists()


def test_download_py_can_be_started_as_a_program():
    Path("file").write_text("no directory")
    ended = subprocess.run([sys.executable, ROOT / "download.py", "--data-dir=file"],
                           capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr == (
        "download.py: error: argument --data-dir: file is a file and must be a directory\n")
