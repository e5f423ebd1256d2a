"""A small made-up data set in real IDX files, and the scripts running on it."""

import hashlib
import json
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


CONTENTS = {}  # 1,100 + 5,000 and 300 images, noise and a bar that tells the class
for kind, n in ("train", 6_100), ("t10k", 300):
    images, labels = noise(n) // 3, torch.rand(n).square().mul(10).byte()
    images[torch.arange(n), 2 * labels.int() + 4] += 150
    CONTENTS[f"{kind}-images-idx3-ubyte"] = idx(images)
    CONTENTS[f"{kind}-labels-idx1-ubyte"] = idx(labels)
download.FILES = {name: hashlib.sha256(data).hexdigest() for name, data in CONTENTS.items()}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """Let every test work in an empty folder of its own, its home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def raw(home) -> Path:
    """Return the folder of the four files, below the data folder."""
    raw = Path("data/FashionMNIST/raw")
    raw.mkdir(parents=True)
    for name, content in CONTENTS.items():
        (raw / name).write_bytes(content)
    return raw


@pytest.fixture
def run(raw, monkeypatch):
    """Return a function that trains in this process: run("--epochs", 2) -> history."""
    # TensorBoard sorts event files by second, process and this number, as text: 10 before 9.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(1000))
    return lambda *flags, log_dir="run": train.main(
        ["--data-dir=data", f"--log-dir={log_dir}", *map(str, flags)])


@pytest.fixture
def start(raw):
    """Return a function that starts train.py in another process, without HOME and UTF-8."""
    code = (f"import runpy, sys, download; download.FILES = {download.FILES}; "
            "sys.argv[0] = 'train.py'; runpy.run_module('train', run_name='__main__')")
    environment = {"PYTHONPATH": str(ROOT), "LC_ALL": "C", "PYTHONIOENCODING": "utf-8"}
    return lambda *flags, preexec_fn=None: subprocess.Popen(
        [sys.executable, "-c", code, "--data-dir=data", *map(str, flags)], env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=preexec_fn)


def checkpoint(log_dir: str) -> dict:
    return torch.load(f"{log_dir}/checkpoint.pt", weights_only=True)


def same(*values) -> bool:
    """Return whether all checkpoints, or parts of them, are equal bit for bit."""
    return len({json.dumps(value, default=torch.Tensor.tolist) for value in values}) == 1


def read_events(log_dir: str) -> EventAccumulator:
    return EventAccumulator(log_dir, {"images": 0, "tensors": 0, "histograms": 0}).Reload()


def scalars(log_dir: str) -> dict[str, list[tuple[int, float]]]:
    events = read_events(log_dir)
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)]
            for tag in events.Tags()["scalars"]}


class Harmful:
    def __reduce__(self):  # what pickle runs when it loads one: it writes a file
        return open, ("harm", "w")
