"""A small made-up data set in real IDX files, and the scripts running on it."""

import hashlib
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import download
import train

ROOT = Path(__file__).parent.parent
# What the scripts verify is replaced before they start: the made-up files have other checksums.
LAUNCHER = """
import json, runpy, sys
sys.path.insert(0, {root!r})
import download
download.FILES = json.loads({files!r})
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def idx(tensor: torch.Tensor) -> bytes:
    """Return a uint8 tensor in the IDX format of the MNIST family."""
    header = struct.pack(f">HBB{tensor.dim()}I", 0, 8, tensor.dim(), *tensor.shape)
    return header + tensor.numpy().tobytes()


def make_split(n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return n images, noise over a bar whose position tells the class, and uneven labels."""
    labels = torch.rand(n, generator=generator).square().mul(10).to(torch.uint8)
    images = torch.randint(100, (n, 28, 28), generator=generator, dtype=torch.uint8)
    for label in range(10):
        images[labels == label, 2 * label + 4] += 150
    return images, labels


@pytest.fixture(scope="session")
def contents() -> dict[str, bytes]:
    """Return the four made-up files: 600 + 5,000 training images and 300 test images."""
    generator = torch.Generator().manual_seed(0)
    images, labels = make_split(5_600, generator)
    test_images, test_labels = make_split(300, generator)
    return dict(zip(download.FILES, map(idx, (images, labels, test_images, test_labels))))


@pytest.fixture(scope="session")
def small_files(contents) -> dict[str, str]:
    """Return what download.FILES must say for the made-up files to be accepted."""
    return {name: hashlib.sha256(c).hexdigest() for name, c in contents.items()}


@pytest.fixture
def data_dir(contents, small_files, tmp_path, monkeypatch) -> Path:
    """Return a data folder with the made-up files, which the functions under test accept."""
    monkeypatch.setattr(download, "FILES", small_files)
    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in contents.items():
        (raw / name).write_bytes(content)
    return tmp_path / "data"


@pytest.fixture
def run(data_dir, tmp_path):
    """Return a function that trains in this process: run("--epochs", 2) -> history."""

    def run(*flags, log_dir=tmp_path / "run"):
        command = ["--data-dir", data_dir, "--log-dir", log_dir, "--device", "cpu", *flags]
        return train.main([str(word) for word in command])

    return run


@pytest.fixture
def launcher(data_dir, small_files, tmp_path) -> Path:
    """Return an executable that takes Python's place for the scripts: `launcher train.py ...`."""
    script = tmp_path / "launcher.py"
    script.write_text(LAUNCHER.format(root=str(ROOT), files=json.dumps(small_files)))
    launcher = tmp_path / "launcher"
    launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
    launcher.chmod(0o755)
    return launcher


@pytest.fixture
def recorder(tmp_path, monkeypatch):
    """Put in Python's place for experiments.sh a script that fails at call FAIL_AT; return its log."""
    script, calls = tmp_path / "recorder", tmp_path / "calls"
    script.write_text('#!/bin/sh\necho "$@" >> "$CALLS"\n[ "$FAIL_AT" != "$(wc -l < "$CALLS")" ]\n')
    script.chmod(0o755)
    monkeypatch.setenv("PYTHON", str(script))
    monkeypatch.setenv("CALLS", str(calls))
    return calls


@pytest.fixture
def start(launcher, data_dir, tmp_path):
    """Return a function that starts train.py as a process of its own."""
    processes = []

    def start(*flags, log_dir=tmp_path / "run", **options):
        command = [launcher, ROOT / "train.py", "--data-dir", data_dir, "--log-dir", log_dir, *flags]
        processes.append(subprocess.Popen(
            [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, **options))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def checkpoint(log_dir: Path) -> dict:
    return torch.load(Path(log_dir) / "checkpoint.pt", weights_only=True)


def equal(a, b) -> bool:
    """Return whether two nested structures of tensors and plain values are equal bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b
