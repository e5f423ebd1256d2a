import gzip
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from torchvision.datasets import FashionMNIST

import download
from conftest import CONTENTS, ROOT

FIRST = next(iter(CONTENTS))


def pack(folder):
    folder.mkdir(exist_ok=True)
    for name, content in CONTENTS.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content, 1))
    return folder


def fail(*_):
    raise OSError("no\nnetwork")


@pytest.fixture
def package(home, monkeypatch):
    """Put the made-up files where Debian's package would have them; let both downloads fail."""
    monkeypatch.setattr(download, "PACKAGE_DIR", pack(home / "package"))
    monkeypatch.setattr(download, "torchvision_download", fail)
    monkeypatch.setattr(download, "debian_download", fail)
    return home / "package"


def files(raw) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in raw.iterdir() if path.suffix != ".gz"}


def test_missing_files_come_from_beside_them_the_package_torchvision_or_debian_in_this_order(
        package, raw, monkeypatch):
    tried, data_dir = [], Path("data")
    with monkeypatch.context() as patch:
        patch.setattr(download, "fetch", fail)
        download.find_dataset(data_dir)  # all is there, and nothing is fetched
    places = {"raw": pack(raw), "package": package}
    with monkeypatch.context() as patch:
        patch.setattr(download, "PACKAGE_DIR", Path("not installed"))
        (raw / FIRST).unlink()
        kept = [path.stat().st_ino for path in sorted(raw.glob("*byte"))]
        assert files(download.find_dataset(data_dir)) == CONTENTS
        assert set(kept) < {path.stat().st_ino for path in raw.glob("*byte")}
    for name in "torchvision", "debian":
        places[name] = pack(Path(name))
        monkeypatch.setattr(download, f"{name}_download",
                            lambda _, name=name: tried.append(name) or places[name])
    for place in places.values():
        (raw / FIRST).unlink()
        assert files(download.find_dataset(data_dir)) == CONTENTS
        (place / f"{FIRST}.gz").write_bytes(gzip.compress(b"?"))  # damaged for the next time
    assert tried == ["torchvision", "torchvision", "debian"]


def test_without_data_and_network_one_line_names_the_places_and_the_remedies(package, monkeypatch):
    monkeypatch.setattr(download, "PACKAGE_DIR", Path("not installed"))
    remedies = ("internet, save its four .gz files in new/FashionMNIST/raw, or install "
                "Debian's package dataset-fashion-mnist .*not installed.*no network; no network")
    with pytest.raises(SystemExit, match=f"^download.py: error: .*{remedies}[^\n]*$"):
        download.main(["--data-dir=new"])
    assert not Path("new").exists()


def test_torchvision_downloads_with_a_word_and_gives_a_silent_server_up(raw, monkeypatch, capsys):
    silent = socket.create_server(("127.0.0.1", 0))  # takes connections and says nothing
    monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{silent.getsockname()[1]}/"])
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    socket.setdefaulttimeout(2)
    with pytest.raises((OSError, RuntimeError)):
        download.torchvision_download(Path("scratch"))
    assert socket.getdefaulttimeout() == 0.2
    assert capsys.readouterr().err.startswith("downloading Fashion-MNIST\n")
    assert download.torchvision_download(Path("data")) == raw  # which is there already
    socket.setdefaulttimeout(None)


@pytest.mark.parametrize("damage", [lambda whole: whole[:100], lambda whole: whole + b"\0",
                                    lambda whole: whole[:99] + b"?" + whole[100:]])
def test_a_damaged_file_is_named_and_never_trained_on_nor_overwritten(raw, run, damage):
    for name, content in CONTENTS.items():
        path = raw / name
        path.write_bytes(damage(content))
        with pytest.raises(SystemExit, match=f"^train.py: error: {path} is .*; move or delete it$"):
            run()
        assert not Path("run").exists() and path.read_bytes() == damage(content)
        path.write_bytes(content)


def test_a_place_that_cannot_be_read_or_written_is_named_and_no_part_is_left(
        package, raw, run, monkeypatch):
    (raw / FIRST).unlink()
    (raw / FIRST).mkdir()
    with pytest.raises(SystemExit, match=f"^train.py: error: {raw / FIRST}: Is a directory$"):
        run()
    (raw / FIRST).rmdir()
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(SystemExit, match=f"^train.py: error: {raw} cannot be written"):
        run()
    assert files(raw).keys() == CONTENTS.keys() - {FIRST}


def test_four_first_starts_at_once_succeed(package, home):
    code = (f"import download; download.FILES = {download.FILES}; download.PACKAGE_DIR = "
            f"download.Path('{package}'); download.main(['--data-dir={home}/new'])")
    processes = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
                 for _ in range(4)]
    assert [b"verified" in process.communicate()[0] for process in processes] == [True] * 4
    assert files(home / "new" / "FashionMNIST" / "raw") == CONTENTS
