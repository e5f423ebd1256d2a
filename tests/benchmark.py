"""Measure how fast this is: tables of ratios, and whether the targets for them are met.

    python tests/benchmark.py    # about five minutes on two cores; --rounds 1 for a first look

What is compared alternates in one run (A B C, A B C, ...), because other work and the clock of a
processor change from minute to minute. Values are medians over the rounds. A ratio is the median of
the rounds' own ratios: both of its times were taken seconds apart. Exit code 1: a target is missed.
"""

import argparse
import contextlib
import io
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from operator import sub, truediv
from pathlib import Path
from statistics import mean, median

import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from torchvision.transforms import Compose, RandomCrop, RandomHorizontalFlip, ToTensor

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
import train
from data import batches, draw_epoch, load_splits
from download import Failure, run_script
from evaluate import markdown
from model import MLP

EPOCHS = 20  # of a run, as by default: the pictures at its end are then shared by as many epochs
SHORT = 5  # epochs of a run whose throughput is counted
FRACTION = 5  # a DataLoader runs over a fifth of the images, because it takes seconds for all
SETTINGS = [(100, 128, 55_000), (300, 128, 55_000), (1000, 128, 55_000), (100, 32, 55_000),
            (100, 512, 55_000), (100, 1024, 55_000), (100, 128, 27_500), (100, 128, 5_500)]
FLIP_AND_CROP = Compose([RandomHorizontalFlip(), RandomCrop(28, padding=1), ToTensor()])
# Linux counts the memory of the process that starts another to the other's peak: hence a small one
# in between. It prints the seconds until the first line, which must be one of two, and the peak.
LAUNCHER = """
import os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, text=True)
line, seconds = process.stdout.readline(), time.perf_counter() - start
process.stdout.read()
_, status, usage = os.wait4(process.pid, 0)
assert status == 0 and ("ready" in line or "79,510 parameters" in line), line
print(seconds, usage.ru_maxrss)
"""
IMPORT = "import torch; print('ready', flush=True)"
OPTIMIZER = IMPORT.replace(";", "; torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=1);")


def alternate(rounds: int, measures: dict[str, Callable]) -> dict[str, tuple]:
    """Take every measure once a round, in turn; return each one's results under its name."""
    taken = [[measure() for measure in measures.values()] for _ in range(rounds)]
    return dict(zip(measures, zip(*taken)))


def print_ratios(title: str, unit: str, results: dict[str, Iterable[float]]) -> None:
    """Print a table: the median of each measure, and its ratio to the first one."""
    base, *_ = results
    rows = [(name, f"{median(values):.4g}", f"{median(map(truediv, values, results[base])):.2f}")
            for name, values in results.items()]
    print(f"\n{title}\n\n{markdown(['', unit, f'ratio to {base}'], rows)}", flush=True)


def time_steps(ready: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Return the seconds of one step per batch and nothing else, with a model as train.py's."""
    model, criterion = MLP(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    start = time.perf_counter()
    for images, labels in ready:
        loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - start


class TakingTurns(io.StringIO):
    """Standard output of train.py which, after every epoch, lets the bare loop run an epoch, too.

    Other work slows a shared machine down for seconds at a time: only neighbours compare.
    """

    def __init__(self, ready: list[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.ready, self.ours, self.bare = ready, [], []

    def write(self, text: str) -> int:
        if seconds := re.search(r", ([\d.]+) s$", text):
            self.ours.append(float(seconds[1]))
            self.bare.append(time_steps(self.ready))
        return len(text)


def time_ours(flags: list[str], ready: list[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """Return the mean seconds of an epoch, with all that train.py does in it, and of a bare one."""
    with contextlib.redirect_stdout(TakingTurns(ready)) as output:
        train.main(flags)
    return mean(output.ours), mean(output.bare)


def time_dataloader(data_dir: Path, transform: Callable, workers: int) -> float:
    """Return the seconds of an epoch the usual way, scaled up except for the workers' start."""
    dataset = torchvision.datasets.FashionMNIST(data_dir, transform=transform)
    subset = Subset(dataset, range(55_000 // FRACTION))
    start = time.perf_counter()
    ready = iter(DataLoader(subset, batch_size=128, shuffle=True, num_workers=workers))
    return time.perf_counter() - start + time_steps(ready) * FRACTION


def time_epoch(images: Tensor, labels: Tensor, hidden: int, batch_size: int) -> float:
    """Return the seconds of an epoch without validation and logging."""
    model, criterion = MLP(hidden), nn.CrossEntropyLoss()
    optimizer, start = torch.optim.SGD(model.parameters(), lr=0.2), time.perf_counter()
    train.train_epoch(model, criterion, optimizer, *draw_epoch(images, labels, False), batch_size)
    return time.perf_counter() - start


def launch(*arguments: str | Path) -> tuple[float, float]:
    """Run Python; return the seconds until its first line and its peak memory in 10^6 bytes."""
    command = [sys.executable, "-c", LAUNCHER, sys.executable, *arguments]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.split()
    return float(output[0]), int(output[1]) * (1 if sys.platform == "darwin" else 1024) / 1e6


def count_runs(commands: list[list[str]], **environment: str) -> float:
    """Run train.py with each list of flags at the same time; return such runs per minute."""
    start, env = time.perf_counter(), os.environ | environment
    runs = [subprocess.Popen([sys.executable, ROOT / "train.py", *flags], env=env,
                             stdout=subprocess.DEVNULL) for flags in commands]
    if max(abs(run.wait()) for run in runs):
        raise Failure("train.py failed")
    return len(runs) * 60 / (time.perf_counter() - start)


def measure(data_dir: Path, rounds: int, scratch: str) -> list[tuple[str, str, float, float]]:
    """Print the tables; return quantity, direction, target and measured value of each target."""
    def flags(epochs: int, *more: str) -> list[str]:  # each time another run directory
        return ["--epochs", str(epochs), "--device", "cpu", "--data-dir", str(data_dir),
                "--log-dir", tempfile.mkdtemp(dir=scratch), *more]

    images, labels = load_splits(data_dir)["train"]
    ready = list(batches(images, labels, 128))
    time_ours(flags(1), ready)  # warm up
    pairs = alternate(rounds, {
        "ours, plain, all included": lambda: time_ours(flags(EPOCHS), ready),
        "ours, augmented, all included": lambda: time_ours(flags(EPOCHS, "--augment"), ready),
        **{f"DataLoader, {name}, {workers} workers":
            lambda transform=transform, workers=workers:
                (time_dataloader(data_dir, transform, workers), time_steps(ready))
           for name, transform in (("plain", ToTensor()), ("augmented", FLIP_AND_CROP))
           for workers in (0, 2)}})
    ratios = {name: median(ours / bare for ours, bare in times) for name, times in pairs.items()}
    rows = [(name, f"{median(ours for ours, _ in times):.4g}", f"{ratios[name]:.2f}")
            for name, times in pairs.items()]
    print(f"\nOne epoch (DataLoader: steps only, 1/{FRACTION} scaled up)\n")
    print(markdown(["", "seconds", "ratio to a bare loop"], rows), flush=True)
    print_ratios("One epoch without validation and logging", "seconds", alternate(rounds, {
        f"{hidden} hidden units, batch size {size}, {n:,} images":
            lambda hidden=hidden, size=size, n=n: time_epoch(images[:n], labels[:n], hidden, size)
        for hidden, size, n in SETTINGS}))
    launches = alternate(rounds, {
        "import torch": lambda: launch("-c", IMPORT),
        "import torch, first optimizer": lambda: launch("-c", OPTIMIZER),
        "train.py --augment": lambda: launch(ROOT / "train.py", *flags(2, "--augment"))})
    starts, peaks = ({name: [pair[i] for pair in pairs] for name, pairs in launches.items()}
                     for i in (0, 1))
    print_ratios("Start-up, until training begins", "seconds", starts)
    print_ratios("Peak memory", "MB", peaks)
    runs = alternate((rounds + 1) // 2, {
        "one at a time": lambda: count_runs([flags(SHORT)]),
        "one at a time, 1 thread": lambda: count_runs([flags(SHORT)], OMP_NUM_THREADS="1"),
        "two together, 1 thread": lambda: count_runs([flags(SHORT), flags(SHORT)],
                                                     OMP_NUM_THREADS="1")})
    print_ratios(f"Runs of {SHORT} epochs (1 thread: OMP_NUM_THREADS=1)", "runs a minute", runs)
    plain, shifted, loader, _, shifting_loader, _ = ratios.values()
    (_, first, ours), (torch_peak, _, peak) = starts.values(), peaks.values()
    return [
        ("plain epoch / bare loop", "at most", 1.35, plain),
        ("augmented epoch / bare loop", "at most", 1.65, shifted),
        ("DataLoader, 0 workers / ours", "at least", 5, loader / plain),
        ("the same, augmented", "at least", 8, shifting_loader / shifted),
        ("start-up, s over first optimizer", "at most", 1.5, median(map(sub, ours, first))),
        ("memory, MB over import torch", "at most", 400, median(map(sub, peak, torch_peak)))]


def main(argv: list[str] | None = None) -> list[tuple]:
    """Print all tables, return the rows of the last. Raises Failure if a target is missed."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default="datasets", help="folder of the data set")
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds, at least 1")
    args = parser.parse_args(argv)
    if args.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {args.rounds}")
    info = Path("/proc/cpuinfo")  # only Linux has it, and only there platform.processor() is empty
    cpu = re.search(r"model name\s*: (.*)", info.read_text() if info.exists() else "")
    print(f"{cpu[1] if cpu else platform.processor()}, {os.cpu_count()} cores, "
          f"{torch.get_num_threads()} threads; Python {platform.python_version()}, torch "
          f"{torch.__version__}, torchvision {torchvision.__version__}; {args.rounds} rounds")
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, direction, target, value in measure(args.data_dir, args.rounds, scratch):
            met = value <= target if direction == "at most" else value >= target
            rows.append((name, f"{direction} {target}", f"{value:.4g}", "yes" if met else "no"))
    print(f"\nTargets\n\n{markdown(['quantity', 'target', 'measured', 'met'], rows)}", flush=True)
    if any("no" in row for row in rows):
        raise Failure("a target is missed")
    return rows


if __name__ == "__main__":
    run_script(main)
