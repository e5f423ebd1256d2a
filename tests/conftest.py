"""A small made-up data set in real IDX files, and the tools to train on it and to see what came."""

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
EXPERIMENTS = {
    "vanilla": [],
    "zero": ["--init", "zero"],
    "xavier": ["--init", "xavier"],
    "xavier-augment": ["--init", "xavier", "--augment"],
    "xavier-augment-dropout": ["--init", "xavier", "--augment", "--dropout", "0.5"],
}


def idx_file(tensor: torch.Tensor) -> bytes:
    """Return a uint8 tensor as an IDX file: 0, 0, 8 for bytes, the dimensions, then the bytes."""
    header = struct.pack(f">HBB{tensor.dim()}I", 0, 8, tensor.dim(), *tensor.shape)
    return header + tensor.numpy().tobytes()


def noise_images(n: int) -> torch.Tensor:
    """Return n images of noise, uint8 (n, 28, 28), the same in every call."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, (n, 28, 28), dtype=torch.uint8, generator=generator)


def made_up_files() -> dict[str, bytes]:
    """Return four small files like Fashion-MNIST's: 1,100 + 5,000 images and 300 images.

    Each image is noise with a bright bar, whose height tells the class. Some classes are frequent
    and some are rare, so that a bias alone can learn something.
    """
    contents = {}
    for kind, n in ("train", 6_100), ("t10k", 300):
        generator = torch.Generator().manual_seed(n)
        labels = (torch.rand(n, generator=generator) ** 2 * 10).byte()
        images = noise_images(n) // 3
        images[torch.arange(n), 2 * labels.int() + 4] += 150
        contents[f"{kind}-images-idx3-ubyte"] = idx_file(images)
        contents[f"{kind}-labels-idx1-ubyte"] = idx_file(labels)
    return contents


CONTENTS = made_up_files()
HASHES = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()}


def write_files(directory: Path) -> None:
    """Write the four made-up files, unpacked."""
    directory.mkdir(parents=True)
    for name, content in CONTENTS.items():
        (directory / name).write_bytes(content)


@pytest.fixture(scope="session", autouse=True)
def made_up_world() -> None:
    """Let the made-up files be the right ones, and let nothing be found or fetched elsewhere."""

    def no_network(scratch: Path) -> Path:
        raise OSError("no network in the tests")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download, "FILES", HASHES)
        patch.setattr(download, "PACKAGE_DIR", Path("/no/package"))
        patch.setattr(download, "torchvision_download", no_network)
        patch.setattr(download, "debian_download", no_network)
        # TensorBoard's reader sorts event files by their names, which hold the second, the process
        # and this number, as texts. From 1000 on, texts sort as numbers do.
        patch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(1000))
        yield


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """Let every test work in a directory of its own, its home, with the files in data/."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    write_files(RAW)
    return tmp_path


def run(*flags, log_dir="run") -> list[dict[str, float]]:
    """Train in this process, on the made-up files; return the history. run("--epochs", 2)"""
    return train.main(["--data-dir=data", f"--log-dir={log_dir}", *map(str, flags)])


def start(*flags, file_size: int | None = None) -> subprocess.Popen:
    """Start train.py on the made-up files in a process of its own, by tests/child.py."""
    limit = [] if file_size is None else [f"file_size={file_size}"]
    command = [sys.executable, ROOT / "tests" / "child.py", *limit, "--data-dir=data"]
    return subprocess.Popen([*command, *map(str, flags)], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def checkpoint(log_dir="run") -> dict:
    """Return a checkpoint with lists in place of tensors, so that == compares it bit for bit."""
    content = torch.load(Path(log_dir, "checkpoint.pt"), weights_only=True)
    return json.loads(json.dumps(content, default=torch.Tensor.tolist))


def logged(log_dir="run") -> dict[str, list[tuple]]:
    """Return {tag: [(step, value), ...]} of all that TensorBoard's own reader finds in a run."""
    fields = {"Scalars": "value", "Images": "encoded_image_string",
              "Histograms": "histogram_value", "Tensors": "tensor_proto"}
    events = EventAccumulator(str(log_dir), {kind.lower(): 0 for kind in fields}).Reload()
    found = {}
    for kind, field in fields.items():
        for tag in events.Tags()[kind.lower()]:
            found[tag] = [(e.step, getattr(e, field)) for e in getattr(events, kind)(tag)]
    return found
