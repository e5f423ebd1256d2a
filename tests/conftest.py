"""A small made-up data set, and the tools with which the tests train on it and look at the outcome.

Every test works in an empty directory of its own. train.py, called by run() or quick_run(), finds
the made-up data set instead of Fashion-MNIST.
"""

import contextlib
import hashlib
import io
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from functools import partialmethod
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # threads of numpy would disturb each other

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import data
import download
import train

ROOT = Path(train.__file__).parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SPLITS = ["train", "train_clean", "val", "test", "mirrored"]
VAL_SIZE = 500  # the last of the 1,600 made-up training images
EXPERIMENTS = {
    "vanilla": [],
    "zero": ["--init", "zero"],
    "xavier": ["--init", "xavier"],
    "xavier-augment": ["--init", "xavier", "--augment"],
    "xavier-augment-dropout": ["--init", "xavier", "--augment", "--dropout", "0.5"],
}


# The made-up data set


def idx_file(tensor: torch.Tensor) -> bytes:
    """Return a uint8 tensor as an IDX file: 0, 0, 8 for bytes, the dimensions, then the bytes."""
    header = struct.pack(f">HBB{tensor.dim()}I", 0, 8, tensor.dim(), *tensor.shape)
    return header + tensor.numpy().tobytes()


def noise_images(n: int) -> torch.Tensor:
    """Return n images of noise, uint8 (n, 28, 28), the same in every call."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, (n, 28, 28), dtype=torch.uint8, generator=generator)


def made_up_files() -> dict[str, bytes]:
    """Return four small files like Fashion-MNIST's: 1,100 + 500 images and 300 images.

    Each image is noise with one bright row, whose position shows the class. Some classes are
    frequent and some are rare, so that a bias alone can learn something.
    """
    contents = {}
    for kind, n in ("train", 1_600), ("t10k", 300):
        generator = torch.Generator().manual_seed(n)
        labels = (torch.rand(n, generator=generator) ** 2 * 10).byte()
        images = noise_images(n) // 3
        images[torch.arange(n), 2 * labels.int() + 4] += 150
        contents[f"{kind}-images-idx3-ubyte"] = idx_file(images)
        contents[f"{kind}-labels-idx1-ubyte"] = idx_file(labels)
    return contents


CONTENTS = made_up_files()
HASHES = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()}


def no_network(scratch: Path) -> Path:
    """Stand in for a download."""
    raise OSError("no network in the tests")


@pytest.fixture(scope="session", autouse=True)
def data_dir(tmp_path_factory) -> Path:
    """Put the made-up data set into a directory and let all programs find it there, and only there.

    No test changes the files.
    """
    directory = tmp_path_factory.mktemp("data_set")
    for name, content in CONTENTS.items():
        (directory / name).write_bytes(content)
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "DEFAULT_DATA_DIR", directory)
        patch.setattr(data, "VAL_SIZE", VAL_SIZE)
        patch.setattr(download, "FILES", HASHES)
        patch.setattr(download, "PACKAGE_DIR", Path("/no/package"))
        patch.setattr(download, "torchvision_download", no_network)
        patch.setattr(download, "debian_download", no_network)
        # Pillow would spend a third of a short run on compressing the pictures well.
        patch.setattr(Image.Image, "save", partialmethod(Image.Image.save, compress_level=1))
        yield directory


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch) -> Path:
    """Make every test work in an empty directory of its own, which is also its home directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


# Training


def run(*flags, log_dir="run") -> list[dict[str, float]]:
    """Train in this process and return the history: run("--epochs", 2)."""
    return train.main([f"--log-dir={log_dir}", *map(str, flags)])


def quick_run(*flags, log_dir="run") -> list[dict[str, float]]:
    """Train like run(), but without the pictures and tables of log_start() and log_end().

    They take most of the time of a short run, and few tests look at them.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "log_start", lambda *_: None)
        patch.setattr(train, "log_end", lambda *_: None)
        return run(*flags, log_dir=log_dir)


def start_process(*flags) -> subprocess.Popen:
    """Start train.py in a process of its own, through tests/child.py, with the same data set.

    The process is killed if it is still running after two minutes.
    """
    command = [sys.executable, ROOT / "tests" / "child.py", f"--data-dir={train.DEFAULT_DATA_DIR}",
               *map(str, flags)]
    buffered = os.environ | {"PYTHONUNBUFFERED": ""}  # empty is unset: a pipe is buffered
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=buffered, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    timer = threading.Timer(120, process.kill)
    timer.daemon = True  # pytest does not wait for it
    timer.start()
    return process


@pytest.fixture(scope="session")
def plain_run(data_dir, tmp_path_factory) -> SimpleNamespace:
    """A finished run of 4 epochs, changed by no test: flags, directory, history, lines printed."""
    flags = ["--seed=5", "--hidden=20", "--epochs=4", "--batch-size=120", "--lr=0.5"]
    # in a directory whose name has to be quoted for a shell
    log_dir = tmp_path_factory.mktemp("plain") / "my $runs" / "plain"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        history = run(*flags, log_dir=log_dir)
    return SimpleNamespace(flags=[*flags, f"--log-dir={log_dir}"], directory=log_dir,
                           history=history, printed=printed.getvalue().splitlines())


def dictate_losses(monkeypatch, **losses: list[float]) -> None:
    """Make quick_run() learn nothing and measure the given losses of a split, one in each epoch.

    dictate_losses(monkeypatch, val=[1, 2, 2]). Losses that are not given fall: 1, 1/2, 1/3, ...
    A second run continues in the lists where the first one stopped.
    """
    falling = [1 / epoch for epoch in range(1, 100)]
    coming = {split: iter(losses.get(split, falling)) for split in SPLITS}

    def name_of_split(images, *_):
        yield images, None  # one batch, whose images are the name of the split

    def next_loss(batches) -> float:
        ((split, _),) = batches
        loss = next(coming[split], None)
        assert loss is not None, "the run should have stopped, but continues"
        return loss

    monkeypatch.setattr(train, "load_splits", lambda *_: {split: (split, None) for split in SPLITS})
    monkeypatch.setattr(train, "shuffled_batches", name_of_split)
    monkeypatch.setattr(train, "ordered_batches", name_of_split)
    monkeypatch.setattr(train, "train_epoch", lambda *args: next_loss(args[-1]))
    monkeypatch.setattr(train, "evaluate", lambda *args: (next_loss(args[-1]), 0.5))


# Inspecting the outcome


def checkpoint(log_dir="run") -> dict:
    """Return a checkpoint with lists in place of tensors, so that == compares it bit for bit."""
    content = torch.load(Path(log_dir, "checkpoint.pt"), weights_only=True)
    return json.loads(json.dumps(content, default=torch.Tensor.tolist))


def logged(log_dir="run") -> dict[str, list[tuple]]:
    """Return {tag: [(step, value), ...]} of all that TensorBoard's own reader finds in a run."""
    fields = {"Scalars": "value", "Images": "encoded_image_string",
              "Histograms": "histogram_value", "Tensors": "tensor_proto"}
    keep_all = {kind.lower(): 0 for kind in fields}  # 0: without limit, not a sample
    events = EventAccumulator(str(log_dir), keep_all).Reload()
    found = {}
    for kind, field in fields.items():
        for tag in events.Tags()[kind.lower()]:
            found[tag] = [(e.step, getattr(e, field)) for e in getattr(events, kind)(tag)]
    return found


def assert_equal(actual: torch.Tensor, expected: torch.Tensor, what: str) -> None:
    """Fail if two tensors differ in shape, dtype, device or any value, and say where."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, msg=lambda text: f"{what}: {text}")


# Setting up scenarios


def make_script(path: Path, text: str) -> None:
    """Make a program for the shell and, if need be, its directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@contextlib.contextmanager
def disk_for(size: int):
    """Keep every file from growing beyond size bytes, as on a full disk."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails instead
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


class Bomb:
    """An object that makes the directory exploded/ where it is unpickled."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("exploded",)
