"""A small made-up data set in real IDX files, and train.py running on it."""

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

ROOT = Path(train.__file__).parent
RAW = Path("data/FashionMNIST/raw")
AUGMENT = ["--init", "xavier", "--augment"]
EXPERIMENTS = {"vanilla": [], "zero": ["--init", "zero"], "xavier": ["--init", "xavier"],
               "xavier-augment": AUGMENT, "xavier-augment-dropout": [*AUGMENT, "--dropout", "0.5"]}


def idx(tensor: torch.Tensor) -> bytes:
    header = struct.pack(f">HBB{tensor.dim()}I", 0, 8, tensor.dim(), *tensor.shape)
    return header + tensor.numpy().tobytes()


def noise(n: int) -> torch.Tensor:  # n images, uint8 (n, 28, 28), always the same
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
    """Let every test work in a folder of its own, its home, that holds the four files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    # TensorBoard sorts event files by second, process and this number, as text: 10 before 9.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(1000))
    RAW.mkdir(parents=True)
    for name, content in CONTENTS.items():
        (RAW / name).write_bytes(content)
    return tmp_path


def run(*flags, log_dir="run") -> list[dict[str, float]]:
    """Train in this process; return the history: run("--epochs", 2)."""
    return train.main(["--data-dir=data", f"--log-dir={log_dir}", *map(str, flags)])


def start(*flags, limit=-1) -> subprocess.Popen:
    """Start train.py in a bare environment, without Unix's own modules, files up to limit bytes."""
    code = ("import os, resource, runpy, signal, sys, torch.utils.tensorboard, torchvision\n"
            f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "sys.modules |= dict.fromkeys(['fcntl', 'pwd', 'resource']); del os.fork, os.getuid\n"
            f"import download; download.FILES = {download.FILES}\n"
            "sys.argv[0] = 'train.py'; runpy.run_module('train', run_name='__main__')")
    return subprocess.Popen([sys.executable, "-c", code, "--data-dir=data", *map(str, flags)],
        env={"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def checkpoint(log_dir) -> dict:
    """Return a checkpoint with lists in place of tensors, so that == compares it bit for bit."""
    content = torch.load(Path(log_dir, "checkpoint.pt"), weights_only=True)
    return json.loads(json.dumps(content, default=torch.Tensor.tolist))


def logged(log_dir) -> dict[str, list[tuple]]:
    """Return {tag: [(step, value), ...]} of all that TensorBoard's own reader finds."""
    fields = {"Scalars": "value", "Images": "encoded_image_string",
              "Histograms": "histogram_value", "Tensors": "tensor_proto"}
    events = EventAccumulator(str(log_dir), {kind.lower(): 0 for kind in fields}).Reload()
    return {tag: [(event.step, getattr(event, field)) for event in getattr(events, kind)(tag)]
            for kind, field in fields.items() for tag in events.Tags()[kind.lower()]}
