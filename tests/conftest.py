"""A small made-up data set in real IDX files, and the scripts running on it."""

import hashlib
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

import download
import train

ROOT = Path(__file__).resolve().parent.parent
AUGMENT = ["--init", "xavier", "--augment"]
EXPERIMENTS = {"vanilla": [], "zero": ["--init", "zero"], "xavier": ["--init", "xavier"],
               "xavier-augment": AUGMENT, "xavier-augment-dropout": [*AUGMENT, "--dropout", "0.5"]}


def idx(tensor: torch.Tensor) -> bytes:
    header = struct.pack(f">HBB{tensor.dim()}I", 0, 8, tensor.dim(), *tensor.shape)
    return header + tensor.numpy().tobytes()


def noise(n: int) -> torch.Tensor:
    """Return n images, uint8 (n, 28, 28), all different and always the same."""
    return torch.randint(256, (n, 28, 28), dtype=torch.uint8, generator=torch.manual_seed(1))


@pytest.fixture(scope="session")
def contents() -> dict[str, bytes]:
    """Return the four files: 600 + 5,000 and 300 images, noise over a bar that tells the class."""
    parts = []
    for n in 5_600, 300:
        images = noise(n) // 3
        labels = torch.rand(n, generator=torch.manual_seed(2)).square().mul(10).to(torch.uint8)
        for label in range(10):
            images[labels == label, 2 * label + 4] += 150
        parts += [idx(images), idx(labels)]
    return dict(zip(download.FILES, parts))


@pytest.fixture
def data_dir(contents, tmp_path, monkeypatch) -> Path:
    """Return a data folder with the made-up files, which the functions under test accept."""
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(download, "FILES", hashes)
    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in contents.items():
        (raw / name).write_bytes(content)
    return tmp_path / "data"


@pytest.fixture
def run(data_dir, tmp_path, monkeypatch):
    """Return a function that trains in this process: run("--epochs", 2) -> history."""
    # TensorBoard sorts event files by second, process and this number, as text: 10 before 9.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(1000))

    def run(*flags, log_dir=tmp_path / "run"):
        return train.main([*map(str, flags), f"--data-dir={data_dir}", f"--log-dir={log_dir}"])

    return run


@pytest.fixture
def start(data_dir):
    """Return a function that starts train.py in another process, without HOME and UTF-8."""
    code = (f"import runpy, sys, download; download.FILES = {download.FILES}; sys.argv[0] = 'train.py';"
            f"runpy.run_path({str(ROOT / 'train.py')!r}, run_name='__main__')")

    def start(*flags, **options):
        return subprocess.Popen(
            [sys.executable, "-c", code, "--data-dir", data_dir, *map(str, flags)], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
            env={"PYTHONPATH": str(ROOT), "LC_ALL": "C", "PYTHONIOENCODING": "utf-8"})

    return start


def checkpoint(log_dir: Path) -> dict:
    return torch.load(Path(log_dir) / "checkpoint.pt", weights_only=True)


def read_events(log_dir) -> EventAccumulator:
    everything = dict.fromkeys(["scalars", "images", "tensors", "histograms"], 0)
    return EventAccumulator(str(log_dir), everything).Reload()


def scalars(log_dir) -> dict[str, list[tuple[int, float]]]:
    """Return {tag: [(step, value), ...]} as TensorBoard reads them."""
    events = read_events(log_dir)
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)]
            for tag in events.Tags()["scalars"]}
