import gzip
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import pytest
from torchvision.datasets import FashionMNIST

import download
from conftest import CONTENTS, RAW, run

FIRST, *OTHERS = CONTENTS


def pack(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in CONTENTS.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content, 0))  # 0: only stored
    return folder


def files(raw: Path = RAW) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in raw.iterdir() if path.suffix != ".gz"}


def test_missing_files_come_from_beside_package_torchvision_or_debian_in_order(home, monkeypatch):
    kept = [(RAW / name).stat().st_ino for name in OTHERS]
    package, torchvision, debian = (pack(home / name) for name in ("have", "torchvision", "debian"))
    monkeypatch.setattr(download, "PACKAGE_DIR", package)
    monkeypatch.setattr(download, "torchvision_download", Mock(return_value=torchvision))
    monkeypatch.setenv("PATH", f"{home}:{os.environ['PATH']}")
    for tool, script in (("apt-get", f'echo $@ >>"{home}/calls"; [ $6 = update ] || touch $7.deb'),
                         ("dpkg-deb", f'mkdir -p "$3{home}"; cp -r "{debian}" "$3{package}"')):
        Path(tool).write_text(f"#!/bin/sh\n{script}")
        Path(tool).chmod(0o755)
    for place in pack(RAW), package, torchvision, debian:
        (RAW / FIRST).unlink()
        assert download.find_dataset(Path("data")) == RAW and files() == CONTENTS
        (place / f"{FIRST}.gz").write_bytes(gzip.compress(b"damaged for the next"))
    update, fetch = Path("calls").read_text().splitlines()
    assert "=15 -oAcquire::Retries=0 update" in update and "load dataset-fashion-mnist" in fetch
    assert download.torchvision_download.call_count == 2  # in rounds 3 and, damaged, 4
    assert kept == [(RAW / name).stat().st_ino for name in OTHERS]  # these were not made again
    download.torchvision_download.side_effect = RuntimeError("no\nnetwork")
    words = "internet, save .* in new/F.*, or install .*No such.*damaged.*no network.*damaged"
    with pytest.raises(SystemExit, match=f"^download.py: error: .*{words}[^\n]*$"):
        download.main(["--data-dir=new"])
    assert not Path("new").exists()


def test_torchvision_downloads_with_a_word_and_gives_a_silent_server_up(monkeypatch, capsys):
    silent = socket.create_server(("127.0.0.1", 0))  # takes connections and says nothing
    monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{silent.getsockname()[1]}/"])
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    socket.setdefaulttimeout(2)
    with pytest.raises((OSError, RuntimeError)):
        download.torchvision_download(Path("scratch"))
    assert socket.getdefaulttimeout() == 0.2
    socket.setdefaulttimeout(None)
    assert capsys.readouterr().err.startswith("downloading Fashion-MNIST\n")
    assert download.torchvision_download(Path("data")) == RAW  # which is there already


def test_a_damaged_file_is_named_and_never_trained_on_nor_overwritten():
    for name, whole in CONTENTS.items():
        for damaged in {whole[:-1], whole[:-1] + b"?", whole + b"?", *CONTENTS.values()} - {whole}:
            (RAW / name).write_bytes(damaged)
            with pytest.raises(SystemExit, match=f"error: {RAW / name} is .*; move or delete it$"):
                run()
            assert not Path("run").exists() and (RAW / name).read_bytes() == damaged
        (RAW / name).write_bytes(whole)


def test_a_folder_that_cannot_be_written_or_read_is_named_and_no_part_is_left(monkeypatch):
    (pack(RAW) / FIRST).unlink()
    monkeypatch.setattr(os, "replace", lambda a, _: "/raw/" in str(a) and Path("/").read_bytes())
    with pytest.raises(SystemExit, match=f"^train.py: error: {RAW} cannot be written .Is a "):
        run()
    assert files().keys() == {*OTHERS}
    (RAW / FIRST).mkdir()
    with pytest.raises(SystemExit, match=f"^train.py: error: {RAW / FIRST}: Is a directory$"):
        run()


def test_four_first_starts_at_once_succeed(monkeypatch, capsys):
    monkeypatch.setattr(download, "PACKAGE_DIR", pack(Path("package")))
    with ThreadPoolExecutor() as pool:
        list(pool.map(download.main, [["--data-dir=new"]] * 4))
    assert files(Path("new/FashionMNIST/raw")) == CONTENTS
    assert capsys.readouterr().out.count("raw: the four files of Fashion-MNIST, verified") == 4
