"""Measure how fast this is: python tests/benchmark.py (eight minutes; exit code 1: limit missed)

Machines change their speed from second to second. So what is compared takes turns, and what counts
is the median ratio of neighbours. All at one thread."""

import contextlib
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import mean, median

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import FashionMNIST
from torchvision.transforms import Compose, RandomCrop, RandomHorizontalFlip, ToTensor

TRAIN = Path(__file__).resolve().parent.parent / "train.py"
sys.path.insert(0, str(TRAIN.parent))
import train
from data import load_splits, shuffled_batches
from download import DATASETS
from model import MLP

PART = 5  # the DataLoader gets a fifth of the images: it takes seconds for all
FLIP_AND_CROP = RandomHorizontalFlip(), RandomCrop(28, padding=1)
OPTIMIZER = "import torch; torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=1); print()"
LIMITS = {"plain epoch, all included / bare loop": 1.45, "augmented / bare loop": 1.65,
          "plain / usual DataLoader": 1 / 4, "augmented / usual DataLoader": 1 / 7,
          "start-up, seconds over import torch and an optimizer": 0.8,
          "two runs together / one alone": 1.25}


def seconds(function: Callable, *arguments) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def bare_loop(batches: Iterable) -> None:  # a step per batch, and nothing else
    model, criterion = MLP(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    for images, labels in batches:
        optimizer.zero_grad()
        criterion(model(images), labels).backward()
        optimizer.step()


class TakingTurns(io.StringIO):
    """Standard output of train.py in which each line of an epoch gives the bare loop a turn."""

    def write(self, text: str) -> int:
        if text.strip()[:1].isdigit():
            self.ours.append(time.perf_counter() - self.start)
            self.bare.append(seconds(bare_loop, self.batches))
        self.start = time.perf_counter()


def main() -> None:
    scratch, rounds = tempfile.TemporaryDirectory(), []
    TakingTurns.batches = list(shuffled_batches(*load_splits()["train"], 128))

    def ours(*flags: str) -> float:
        TakingTurns.ours, TakingTurns.bare = [], []
        with contextlib.redirect_stdout(TakingTurns()):
            train.main([*flags, "--log-dir", tempfile.mkdtemp(dir=scratch.name)])
        return mean(TakingTurns.ours) / mean(TakingTurns.bare)

    def usual(*transforms: Callable) -> float:
        dataset = FashionMNIST(DATASETS, transform=Compose([*transforms, ToTensor()]))
        loader = DataLoader(Subset(dataset, range(55_000 // PART)), batch_size=128, shuffle=True)
        return PART * seconds(bare_loop, loader) / seconds(bare_loop, TakingTurns.batches)

    def processes(wait: Callable, *commands: tuple) -> float:
        runs = [subprocess.Popen([sys.executable, *words, "--log-dir", tempfile.mkdtemp(
            dir=scratch.name)], stdout=subprocess.PIPE) for words in commands]
        elapsed = seconds(lambda: [wait(run) for run in runs])
        assert not any(run.wait() for run in runs)  # none may go on beside the next
        return elapsed

    for _ in range(5):
        plain, augmented = ours(), ours("--augment")
        start_ups = [processes(lambda run: run.stdout.readline(), words)
                     for words in ((TRAIN, "--epochs=1"), ("-c", OPTIMIZER))]
        two, one = (processes(lambda run: run.wait(), *[(TRAIN,)] * n) for n in (2, 1))
        rounds.append([plain, augmented, plain / usual(), augmented / usual(*FLIP_AND_CROP),
                       start_ups[0] - start_ups[1], two / one])
    print("| quantity | at most | median | from | to |\n|---|---|---|---|---|")
    for (name, limit), values in zip(LIMITS.items(), zip(*rounds)):
        numbers = limit, median(values), min(values), max(values)
        print(f"| {name} | {' | '.join(f'{number:.2f}' for number in numbers)} |")
    sys.exit(any(median(values) > limit for limit, values in zip(LIMITS.values(), zip(*rounds))))


if __name__ == "__main__":
    main()
