"""A small made-up data set in real IDX files, and the tools to train on it and to see what came."""

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

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import data
import download
import train

ROOT = Path(train.__file__).parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
RAW = Path("data/FashionMNIST/raw")
VAL_SIZE = 500  # the last of the made-up training images
REAL_VAL_SIZE = data.VAL_SIZE  # of the real ones
UNIX_MODULES = ["fcntl", "grp", "pwd", "resource", "termios"]  # Windows lacks them,
UNIX_FUNCTIONS = ["fork", "getuid"]  # and os has not these there
EXPERIMENTS = {
    "vanilla": [],
    "zero": ["--init", "zero"],
    "xavier": ["--init", "xavier"],
    "xavier-augment": ["--init", "xavier", "--augment"],
    "xavier-augment-dropout": ["--init", "xavier", "--augment", "--dropout", "0.5"],
}

# A third of a short run would go into packing its pictures well.
Image.Image.save = partialmethod(Image.Image.save, compress_level=1)


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

    Each image is noise with one bright row, whose place tells the class. Some classes are frequent
    and some are rare, so that a bias alone can learn something.
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


@pytest.fixture(scope="session", autouse=True)
def made_up_world() -> None:
    """Let the made-up files be the right ones, and let nothing be found or fetched elsewhere."""

    def no_network(scratch: Path) -> Path:
        raise OSError("no network in the tests")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "VAL_SIZE", VAL_SIZE)
        patch.setattr(download, "FILES", HASHES)
        patch.setattr(download, "PACKAGE_DIR", Path("/no/package"))
        patch.setattr(download, "torchvision_download", no_network)
        patch.setattr(download, "debian_download", no_network)
        yield


@pytest.fixture(scope="session")
def data_dir(made_up_world, tmp_path_factory) -> Path:
    """Return the directory of the made-up files; no test changes them."""
    home = tmp_path_factory.mktemp("data_set")
    (home / RAW).mkdir(parents=True)
    for name, content in CONTENTS.items():
        (home / RAW / name).write_bytes(content)
    return home / "data"


@pytest.fixture(autouse=True)
def home(data_dir, tmp_path, monkeypatch) -> Path:
    """Let every test work in a directory of its own, its home, with a link to the files: data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("data").symlink_to(data_dir)
    return tmp_path


def run(*flags, log_dir="run") -> list[dict[str, float]]:
    """Train in this process, on the made-up files; return the history. run("--epochs", 2)"""
    return train.main(["--data-dir=data", f"--log-dir={log_dir}", *map(str, flags)])


def start(*flags, cwd=None) -> subprocess.Popen:
    """Start train.py on the made-up files in a process of its own, by tests/child.py.

    It is killed if it still runs after two minutes.
    """
    command = [sys.executable, ROOT / "tests" / "child.py", "--data-dir=data"]
    # Empty is unset: what goes into a pipe is buffered, as for most users.
    buffered = os.environ | {"PYTHONUNBUFFERED": ""}
    process = subprocess.Popen([*command, *map(str, flags)], stdin=subprocess.DEVNULL, cwd=cwd,
                               env=buffered, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True)
    timer = threading.Timer(120, process.kill)
    timer.daemon = True  # it keeps nobody waiting
    timer.start()
    return process


@pytest.fixture(scope="session")
def plain_run(data_dir, tmp_path_factory) -> SimpleNamespace:
    """A finished run of 4 epochs, changed by no test: flags, directory, history, lines printed."""
    flags = ["--seed=5", "--hidden=20", "--epochs=4", "--batch-size=120", "--lr=0.5"]
    # in a directory whose name has to be quoted for a shell
    log_dir = tmp_path_factory.mktemp("plain") / "my $runs" / "plain"
    flags += [f"--data-dir={data_dir}", f"--log-dir={log_dir}"]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        history = train.main(flags)
    return SimpleNamespace(flags=flags, directory=log_dir, history=history,
                           printed=printed.getvalue().splitlines())


def skip_start_and_end(monkeypatch) -> None:
    """Let train.py log only the epochs: start and end take most of a short run's time."""
    monkeypatch.setattr(train, "log_start", lambda *_: None)
    monkeypatch.setattr(train, "log_end", lambda *_: None)


@pytest.fixture
def only_epochs_logged(monkeypatch) -> None:
    """For tests that do not look at what a run logs at its start and its end."""
    skip_start_and_end(monkeypatch)


def dictate_losses(monkeypatch, **losses: list[float]) -> None:
    """Let train.py learn nothing and find the losses that are listed for a split, one an epoch.

    dictate_losses(monkeypatch, val=[1, 2, 2]). Losses that are not listed fall: 1, 1/2, 1/3, ...
    A second run goes on in the lists where the first one ended.
    """
    # train_epoch() and evaluate() are not told which split it is: each gets a size of its own.
    sizes = {"train": 50, "train_clean": 40, "val": 30, "test": 20, "mirrored": 10}
    splits = train.load_splits(Path("data"))
    for split, size in sizes.items():
        images, labels = splits[split]
        splits[split] = images[:size], labels[:size]
    falling = [1 / epoch for epoch in range(1, 100)]
    coming = {sizes[split]: iter(losses.get(split, falling)) for split in sizes}

    def next_loss(batches) -> float:
        loss = next(coming[sum(len(labels) for _, labels in batches)], None)
        assert loss is not None, "the run should have ended, but goes on"
        return loss

    def train_epoch(model, criterion, optimizer, batches) -> float:
        return next_loss(batches)

    def evaluate(model, criterion, batches) -> tuple[float, float]:
        return next_loss(batches), 0.5

    monkeypatch.setattr(train, "load_splits", lambda *_: splits)
    monkeypatch.setattr(train, "train_epoch", train_epoch)
    monkeypatch.setattr(train, "evaluate", evaluate)
    skip_start_and_end(monkeypatch)


def assert_equal(actual: torch.Tensor, expected: torch.Tensor, what: str) -> None:
    """Fail if two tensors differ, with the number and the place of the differences."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, msg=lambda text: f"{what}: {text}")


def make_script(path: Path, text: str) -> None:
    """Make a program for the shell and, if need be, its directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@contextlib.contextmanager
def disk_for(size: int):
    """Let no file grow beyond size bytes, as on a full disk."""
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
