import gzip
import os
import subprocess
import sys

import pytest

import download
from download import Failure, fetch
from train import main as train_main


@pytest.fixture
def package(contents, tmp_path, monkeypatch):
    """Put the made-up files where Debian's package would have them; let the other ways fail."""
    folder = tmp_path / "package"
    folder.mkdir()
    for name, content in contents.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content, 1))
    monkeypatch.setattr(download, "PACKAGE_DIR", folder)
    monkeypatch.setattr(download, "torchvision_download", fail)
    monkeypatch.setattr(download, "debian_package", fail)
    return folder


def fail(scratch):
    raise OSError("no network")


def test_intact_files_are_used_as_they_are(data_dir, monkeypatch):
    monkeypatch.setattr(download, "fetch_contents", lambda names: pytest.fail(f"fetches {names}"))
    assert fetch(data_dir) == data_dir / "FashionMNIST" / "raw"


def test_missing_files_come_from_the_installed_package(data_dir, package, contents, tmp_path):
    raw = fetch(tmp_path / "new")
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == contents


def test_the_ways_to_find_the_files_are_tried_in_their_order(data_dir, package, contents, tmp_path, monkeypatch):
    tried = []

    def works(scratch):
        tried.append("debian")
        return package

    monkeypatch.setattr(download, "PACKAGE_DIR", tmp_path / "not installed")
    monkeypatch.setattr(download, "torchvision_download", lambda scratch: tried.append("torchvision") or fail(scratch))
    monkeypatch.setattr(download, "debian_package", works)
    raw = fetch(tmp_path / "new")
    assert tried == ["torchvision", "debian"]
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == contents


def test_without_data_and_network_one_line_names_both_remedies(data_dir, package, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "PACKAGE_DIR", tmp_path / "not installed")
    with pytest.raises(Failure, match=r"internet or install Debian's package dataset-fashion-mnist") as failure:
        fetch(tmp_path / "new")
    assert "\n" not in str(failure.value)
    assert not list((tmp_path / "new" / "FashionMNIST" / "raw").iterdir())


def test_a_damaged_source_is_not_used(data_dir, package, tmp_path, contents):
    name = next(iter(contents))
    (package / f"{name}.gz").write_bytes(gzip.compress(contents[name][:-1] + b"?", 1))
    with pytest.raises(Failure, match="wrong SHA-256"):
        fetch(tmp_path / "new")


DAMAGES = {
    "cut": lambda content: content[:100],
    "padded": lambda content: content + b"\0",
    "empty": lambda content: b"",
    "wrong magic number": lambda content: b"\1" + content[1:],
    "one bit flipped": lambda content: content[:99] + bytes([content[99] ^ 1]) + content[100:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_and_fetched_again(data_dir, package, contents, capsys, damage):
    for name, content in contents.items():
        path = data_dir / "FashionMNIST" / "raw" / name
        path.write_bytes(DAMAGES[damage](content))
        fetch(data_dir)
        assert f"{path}: damaged" in capsys.readouterr().err
        assert path.read_bytes() == content


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_never_trained_on(data_dir, package, contents, tmp_path, monkeypatch, damage):
    monkeypatch.setattr(download, "PACKAGE_DIR", tmp_path / "not installed")
    for name, content in contents.items():
        path = data_dir / "FashionMNIST" / "raw" / name
        path.write_bytes(DAMAGES[damage](content))
        with pytest.raises(Failure, match="cannot be fetched"):
            train_main(["--data-dir", str(data_dir), "--log-dir", str(tmp_path / "run")])
        assert not (tmp_path / "run").exists()
        path.write_bytes(content)


def test_a_directory_in_the_place_of_a_file_is_named(data_dir, package, contents):
    path = data_dir / "FashionMNIST" / "raw" / next(iter(contents))
    path.unlink()
    path.mkdir()
    with pytest.raises(Failure, match=f"{path} cannot be written"):
        fetch(data_dir)
    assert not list(path.parent.glob("*.tmp"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_named_and_fetched_again(data_dir, package, contents, capsys):
    path = data_dir / "FashionMNIST" / "raw" / next(iter(contents))
    path.chmod(0)
    fetch(data_dir)
    assert f"{path}: " in capsys.readouterr().err and path.read_bytes()


def test_a_write_that_fails_leaves_the_old_file_and_no_temporary_one(tmp_path, monkeypatch):
    path = tmp_path / "file"
    download.write_whole(path, b"old")

    def fsync(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(Failure, match=f"{path} cannot be written: No space left on device"):
        download.write_whole(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_two_processes_that_start_on_an_empty_folder_both_succeed(package, small_files, contents, tmp_path):
    script = (f"import download; download.FILES = {small_files!r}; download.PACKAGE_DIR = "
              f"download.Path({str(package)!r}); download.main(['--data-dir', {str(tmp_path / 'new')!r}])")
    processes = [subprocess.Popen([sys.executable, "-c", script], cwd=os.path.dirname(download.__file__))
                 for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    raw = tmp_path / "new" / "FashionMNIST" / "raw"
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == contents
