import gzip
import http.server
import os
import socket
import subprocess
import sys
import threading

import pytest
from torchvision.datasets import FashionMNIST

import download
import train
from conftest import ROOT
from download import find_dataset, torchvision_download


def pack(folder, contents):
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content, 1))
    return folder


def fail(scratch):
    raise OSError("no\nnetwork")


@pytest.fixture
def package(data_dir, contents, tmp_path, monkeypatch):
    """Put the made-up files where Debian's package would have them; let both downloads fail."""
    monkeypatch.setattr(download, "PACKAGE_DIR", pack(tmp_path / "package", contents))
    monkeypatch.setattr(download, "torchvision_download", fail)
    monkeypatch.setattr(download, "debian_download", fail)
    return tmp_path / "package"


def files(raw) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in raw.iterdir() if path.suffix != ".gz"}


def test_intact_files_are_used_as_they_are_and_nothing_is_made(data_dir, monkeypatch):
    monkeypatch.setattr(download, "fetch", lambda *_: pytest.fail("fetches"))
    before = (data_dir / "FashionMNIST" / "raw").stat().st_mtime_ns
    assert find_dataset(data_dir).stat().st_mtime_ns == before


def test_missing_files_come_from_beside_them_the_package_torchvision_or_debian_in_this_order(
        package, contents, tmp_path, monkeypatch):
    raw, tried, (one, *_) = tmp_path / "new" / "FashionMNIST" / "raw", [], contents
    good = {place: pack(tmp_path / place, contents) for place in ("torchvision", "debian")}
    pack(raw, contents)
    for name in "torchvision", "debian":
        monkeypatch.setattr(download, f"{name}_download", lambda _, name=name: tried.append(name) or good[name])
    for place, so_far in ((raw, []), (package, []), (good["torchvision"], ["torchvision"]),
                          (good["debian"], ["torchvision", "torchvision", "debian"])):
        assert files(find_dataset(tmp_path / "new")) == contents and tried == so_far
        (raw / one).unlink()  # the others stay, and this source is damaged for the next time
        (place / f"{one}.gz").write_bytes(gzip.compress(b"?"))
    with pytest.raises(OSError, match=f"{package}/{one}.gz is damaged"):
        find_dataset(tmp_path / "new")


def test_without_data_and_network_one_line_names_the_places_and_the_remedies(package, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "PACKAGE_DIR", tmp_path / "not installed")
    with pytest.raises(SystemExit) as exit_info:
        download.main(["--data-dir", str(tmp_path / "new")])
    for words in ("download.py: error: ", "internet", "package dataset-fashion-mnist", "no network",
                  "not installed", f"save its four .gz files in {tmp_path}/new/FashionMNIST/raw"):
        assert words in exit_info.value.code
    assert "\n" not in exit_info.value.code and not (tmp_path / "new").exists()


def test_torchvision_downloads_with_a_word_and_gives_a_silent_server_up(
        package, contents, tmp_path, monkeypatch, capsys):
    class Handler(http.server.SimpleHTTPRequestHandler):
        log_message = None

        def __init__(self, *args):
            self.log_message = lambda *_: None
            super().__init__(*args, directory=package)

    silent, server = socket.create_server(("127.0.0.1", 0)), http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(FashionMNIST, "resources", [(f"{name}.gz", None) for name in contents])
    monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    assert files(torchvision_download(tmp_path / "a")) == contents
    assert "downloading Fashion-MNIST" in capsys.readouterr().err
    server.shutdown()
    monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{silent.getsockname()[1]}/"])
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    with pytest.raises((OSError, RuntimeError)):
        torchvision_download(tmp_path / "b")
    socket.setdefaulttimeout(None)


def flip(content):
    return content[:99] + bytes([content[99] ^ 1]) + content[100:]


@pytest.mark.parametrize("damage", [lambda c: c[:100], lambda c: c + b"\0", lambda c: b"", flip])
def test_a_file_that_is_not_fashion_mnists_is_named_and_neither_used_nor_overwritten(
        package, data_dir, contents, tmp_path, damage):
    for name, content in contents.items():
        path = data_dir / "FashionMNIST" / "raw" / name
        path.write_bytes(damage(content))
        with pytest.raises(SystemExit, match=f"^train.py: error: {path} is .*; move or delete it$"):
            train.main(["--data-dir", str(data_dir), "--log-dir", str(tmp_path / "run")])
        assert not (tmp_path / "run").exists() and path.read_bytes() == damage(content)
        path.write_bytes(content)


def test_a_place_that_cannot_be_read_or_written_is_named_and_no_part_is_left(
        package, data_dir, contents, tmp_path, monkeypatch):
    path = data_dir / "FashionMNIST" / "raw" / next(iter(contents))
    flags = ["--data-dir", str(data_dir), "--log-dir", str(tmp_path / "run")]
    path.unlink()
    path.mkdir()
    with pytest.raises(SystemExit, match=f"^train.py: error: {path}: Is a directory$"):
        train.main(flags)
    path.rmdir()
    monkeypatch.setattr(os, "replace", lambda *_: fail(None))
    with pytest.raises(SystemExit, match=f"^train.py: error: {path.parent} cannot be written"):
        train.main(flags)
    assert sorted(files(path.parent)) == sorted(set(contents) - {path.name})


def test_four_processes_that_start_on_an_empty_folder_at_once_all_succeed(package, contents, tmp_path):
    code = (f"import download; download.FILES = {download.FILES}; download.PACKAGE_DIR = "
            f"download.Path({str(package)!r}); download.main(['--data-dir', {str(tmp_path / 'new')!r}])")
    processes = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
                 for _ in range(4)]
    assert [b"verified" in process.communicate()[0] for process in processes] == [True] * 4
    assert files(tmp_path / "new" / "FashionMNIST" / "raw") == contents
