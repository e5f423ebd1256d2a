"""Print the table of results, as the runs have measured themselves: python results.py [FOLDER]

Runs that differ in nothing but their seed share a row: mean ± sample standard deviation.
"""

import argparse
import glob
import os
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path
from statistics import mean, stdev

import torch

COLUMNS = ["loss/train", "loss/train_clean", "loss/test", "accuracy/test", "accuracy/mirrored"]


def main(argv: list[str] | None = None) -> dict[tuple, list[list[float]]]:
    """Print the table; return the COLUMNS of each row's runs. Exit with 1 if one is left out."""
    parser = argparse.ArgumentParser(description="Print the results.", usage=argparse.SUPPRESS)
    parser.add_argument("folder", metavar="FOLDER", nargs="?", default="runs", help="default: runs")
    folder = os.path.expanduser(parser.parse_args(argv).folder)
    # glob follows symbolic links; resolved, a run that is found twice counts once
    found = glob.glob(os.path.join(glob.escape(folder), "**", "checkpoint.pt"), recursive=True)
    if not found:
        sys.exit(f"results.py: error: there is no run in {folder}; train.py makes one")
    runs, copies, left_out = defaultdict(list), Counter(), []
    for path in sorted({Path(path).resolve() for path in found}):
        try:  # weights_only: tensors and plain values; a file that would run code is refused
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
            settings, history = dict(checkpoint["settings"]), checkpoint["history"]
            epochs, seed = settings["epochs"], settings.pop("seed")
            if len(history) < epochs:
                raise ValueError(f"not finished, {len(history)} of {epochs} epochs")
            numbers = [float(history[-1][column]) for column in COLUMNS]
        except Exception as error:  # a damaged file can fail in any way
            left_out.append(f"results.py: error: {path} left out: {error!r:.150}")
            continue
        row = re.sub(r"-seed\d+$", "", path.parent.name), str(sorted(settings.items()))
        copies[row, seed] += 1  # a second run of one row and seed gets a row of its own
        runs[(*row, copies[row, seed])].append(numbers)

    print(f"| run | seeds | {' | '.join(COLUMNS)} |\n{'|---' * (2 + len(COLUMNS))}|")
    for (name, *_), measured in sorted(runs.items()):
        cells = [f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")
                 for values in zip(*measured)]
        print(f"| {name} | {len(measured)} | {' | '.join(cells)} |")
    if left_out:
        sys.exit("\n".join(left_out))
    return runs


if __name__ == "__main__":
    main()
