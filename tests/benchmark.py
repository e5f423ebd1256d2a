"""Measure how fast this is: python tests/benchmark.py (eight minutes; exit code 1: limit missed)

A machine's speed varies from second to second. So the things compared take turns, and the result is
the median over five rounds of the ratios of adjacent measurements. Everything runs on one thread.
"""

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
from download import DEFAULT_DATA_DIR
from model import MLP

PART = 5  # the usual DataLoader gets a fifth of the images, since it takes seconds for all
OPTIMIZER = "import torch; torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=1); print()"
LIMITS = {  # at most
    "plain epoch, all included / bare loop": 1.45,
    "augmented epoch, all included / bare loop": 1.75,
    "plain epoch / the same with the usual DataLoader": 1 / 4,
    "augmented epoch / the same with the usual DataLoader": 1 / 7,
    "start-up, seconds beyond import torch and an optimizer": 0.8,
    "two runs together / one alone": 1.25,
}


def seconds(function: Callable, *arguments) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def bare_loop(batches: Iterable) -> None:
    """Take a step per batch and do nothing else: the cost that cannot be avoided."""
    model = MLP()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    for images, labels in batches:
        optimizer.zero_grad()
        criterion(model(images), labels).backward()
        optimizer.step()


class TakingTurns(io.StringIO):
    """Standard output for train.py: after each line of an epoch, the bare loop has its turn."""

    def __init__(self, batches: list) -> None:
        super().__init__()
        self.batches = batches
        self.ours = []
        self.bare = []
        self.start = time.perf_counter()

    def write(self, text: str) -> int:
        is_epoch = text.strip()[:1].isdigit()
        if is_epoch:
            self.ours.append(time.perf_counter() - self.start)
            self.bare.append(seconds(bare_loop, self.batches))
        self.start = time.perf_counter()
        return len(text)


def our_epoch(batches: list, *flags: str) -> float:
    """Return the time of train.py's epochs, evaluations and logs included, in bare loops."""
    output = TakingTurns(batches)
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(output):
        train.main([*flags, "--log-dir", f"{scratch}/run"])
    return mean(output.ours) / mean(output.bare)


def usual_epoch(batches: list, *transforms: Callable) -> float:
    """Return the time of an epoch with images from a DataLoader, one by one, in bare loops."""
    dataset = FashionMNIST(DEFAULT_DATA_DIR, transform=Compose([*transforms, ToTensor()]))
    part = Subset(dataset, range(55_000 // PART))
    loader = DataLoader(part, batch_size=128, shuffle=True)
    return PART * seconds(bare_loop, loader) / seconds(bare_loop, batches)


def first_line(*command) -> float:
    """Return the seconds until a Python process prints its first line."""
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE)
    elapsed = seconds(process.stdout.readline)
    process.communicate()  # it must not run beside the next measurement
    if process.returncode != 0:
        sys.exit(f"benchmark.py: error: {command} failed")
    return elapsed


def runs_together(n: int) -> float:
    """Return the seconds that n processes of train.py take together."""
    with tempfile.TemporaryDirectory() as scratch:
        start = time.perf_counter()
        processes = []
        for i in range(n):
            command = [sys.executable, TRAIN, "--log-dir", f"{scratch}/{i}"]
            processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        codes = [process.wait() for process in processes]
        elapsed = time.perf_counter() - start
    if any(codes):
        sys.exit("benchmark.py: error: train.py failed")
    return elapsed


def measure_round(batches: list) -> list[float]:
    """Return one value for each of LIMITS."""
    plain = our_epoch(batches)
    augmented = our_epoch(batches, "--augment")
    usual_plain = usual_epoch(batches)
    usual_augmented = usual_epoch(batches, RandomHorizontalFlip(), RandomCrop(28, padding=1))
    with tempfile.TemporaryDirectory() as scratch:
        start_up = first_line(TRAIN, "--epochs=1", "--log-dir", f"{scratch}/run")
    start_up -= first_line("-c", OPTIMIZER)
    together = runs_together(2) / runs_together(1)
    return [plain, augmented, plain / usual_plain, augmented / usual_augmented, start_up, together]


def missed(rounds: list[list[float]]) -> list[str]:
    """Return which of LIMITS the medians of the rounds miss."""
    medians = [median(values) for values in zip(*rounds)]
    return [name for (name, limit), value in zip(LIMITS.items(), medians) if value > limit]


def main() -> None:
    """Measure, print the table, and exit with 1 if a limit is missed."""
    torch.set_num_threads(1)
    batches = list(shuffled_batches(*load_splits()["train"], 128))
    rounds = [measure_round(batches) for _ in range(5)]
    print("| quantity | at most | median | from | to |\n|---|---|---|---|---|")
    for (name, limit), values in zip(LIMITS.items(), zip(*rounds)):
        numbers = (limit, median(values), min(values), max(values))
        print(f"| {name} | {' | '.join(f'{number:.2f}' for number in numbers)} |")
    too_slow = missed(rounds)
    if too_slow:
        sys.exit(f"benchmark.py: error: missed: {', '.join(too_slow)}")


if __name__ == "__main__":
    main()
