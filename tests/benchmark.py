"""Measure how fast this is, in one table: python tests/benchmark.py (ten minutes on two cores)

Machines are shared and change their speed from second to second. So what is compared takes turns,
epoch by epoch or start by start, and what counts is the median ratio of neighbours. Everything runs
at one thread, as by default. Exit code 1: a limit is missed.
"""

import contextlib
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from math import inf
from pathlib import Path
from statistics import mean, median

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import FashionMNIST
from torchvision.transforms import Compose, RandomCrop, RandomHorizontalFlip, ToTensor

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import train
from data import load_splits, shuffled_batches
from download import DATASETS
from model import MLP

ROUNDS = 5
TRAIN = ROOT / "train.py"
PART = 5  # a DataLoader takes seconds for all images, and so gets a fifth of them
FLIP_AND_CROP = RandomHorizontalFlip(), RandomCrop(28, padding=1)
LIMITS = [("plain epoch, all included / bare loop", 0, 1.45), ("augmented / bare loop", 0, 1.65),
          ("usual DataLoader / ours", 4, inf), ("the same, augmented", 7, inf),
          ("start-up, seconds over import torch and an optimizer", -inf, 0.8),
          ("two runs together / one alone", 0, 1.25)]
OPTIMIZER = "import torch; torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=1); print()"


def seconds(function: Callable, *arguments) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def bare_loop(batches: Iterable) -> None:
    """Take one step per batch and do nothing else."""
    model, criterion = MLP(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    for images, labels in batches:
        optimizer.zero_grad()
        criterion(model(images), labels).backward()
        optimizer.step()


class TakingTurns(io.StringIO):
    """Standard output of train.py in which each line of an epoch gives the bare loop a turn."""

    def __init__(self, batches: list) -> None:
        super().__init__()
        self.batches, self.ours, self.bare, self.start = batches, [], [], 0.0

    def write(self, text: str) -> int:
        if text.strip()[:1].isdigit():
            self.ours.append(time.perf_counter() - self.start)
            self.bare.append(seconds(bare_loop, self.batches))
        self.start = time.perf_counter()
        return len(text)


def main() -> None:
    torch.set_num_threads(1)
    batches = list(shuffled_batches(*load_splits()["train"], 128))
    scratch = tempfile.TemporaryDirectory()

    def command(*flags: str) -> list[str]:  # in a run directory of its own
        return [*flags, "--log-dir", tempfile.mkdtemp(dir=scratch.name)]

    def ours(*flags: str) -> float:
        with contextlib.redirect_stdout(TakingTurns(batches)) as output:
            train.main(command(*flags))
        return mean(output.ours) / mean(output.bare)

    def usual(*transforms: Callable) -> float:
        dataset = FashionMNIST(DATASETS, transform=Compose([*transforms, ToTensor()]))
        loader = DataLoader(Subset(dataset, range(55_000 // PART)), batch_size=128, shuffle=True)
        return PART * seconds(bare_loop, loader) / seconds(bare_loop, batches)

    def start_up(*words: str | Path) -> float:  # until the first line is printed
        process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE)
        elapsed = seconds(process.stdout.readline)
        process.kill()
        return elapsed

    def together(count: int) -> float:
        runs = [subprocess.Popen([sys.executable, TRAIN, *command()], stdout=subprocess.DEVNULL)
                for _ in range(count)]
        return seconds(lambda: [run.wait() for run in runs])

    rounds = []
    for _ in range(ROUNDS):
        plain, augmented = ours(), ours("--augment")
        rounds.append([plain, augmented, usual() / plain, usual(*FLIP_AND_CROP) / augmented,
                       start_up(TRAIN, *command()) - start_up("-c", OPTIMIZER),
                       together(2) / together(1)])
    missed = False
    print("| quantity | limit | median | from | to |\n|---|---|---|---|---|")
    for (name, low, high), values in zip(LIMITS, zip(*rounds)):
        limit = f"at least {low}" if high == inf else f"at most {high}"
        numbers = (f"{number(values):.2f}" for number in (median, min, max))
        print(f"| {name} | {limit} | {' | '.join(numbers)} |")
        missed |= not low <= median(values) <= high
    sys.exit(missed)


if __name__ == "__main__":
    main()
