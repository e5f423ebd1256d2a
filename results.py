"""Print the table of results, as the runs have measured themselves: python results.py [FOLDER]

Runs that differ in nothing but their seed share a row: mean ± sample standard deviation.
"""

import argparse
import glob
import os
import re
import sys
from pathlib import Path
from statistics import mean, stdev

import torch

from init import MODES

COLUMNS = ["loss/train", "loss/train_clean", "loss/test", "loss/gap", "accuracy/test",
           "accuracy/mirrored"]


def find_runs(folder: str) -> list[Path]:
    """Return the directories in the folder, however deep, that hold a checkpoint or event files."""
    runs = {}  # by real path: a run that is found twice, through a symbolic link, counts once
    for pattern in "checkpoint.pt", "events.out.tfevents.*":
        everywhere = os.path.join(glob.escape(folder), "**", pattern)
        for path in sorted(glob.glob(everywhere, recursive=True)):  # follows symbolic links
            directory = Path(path).parent
            runs.setdefault(directory.resolve(), directory)
    return sorted(runs.values())


def read_run(directory: Path) -> dict:
    """Return the settings, epochs, numbers (those of COLUMNS after the last epoch) and the place
    in the table of a finished run. Raises ValueError, with the reason, for any other.
    """
    path = directory / "checkpoint.pt"
    if not path.exists():
        raise ValueError("no checkpoint: it exploded, or ended before its first epoch did")
    try:  # weights_only: tensors and plain values; a file that would run code is refused
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        settings = dict(checkpoint["settings"])
        epochs = len(checkpoint["history"])
        asked = int(settings.pop("epochs"))
        numbers = [float(checkpoint["history"][-1][column]) for column in COLUMNS]
        # The order of the study: the modes as in the table of init.py, then what was added to them.
        place = [list(MODES).index(settings["init"]) if settings["init"] in MODES else len(MODES)]
        for flag in "augment", "dropout", "depth", "hidden":
            place.append(float(settings.get(flag, 0)))  # an older run may lack a flag
    except Exception as error:  # a damaged file can fail in any way
        raise ValueError(f"unreadable or not of train.py: {error!r:.150}") from error
    if epochs < asked:
        raise ValueError(f"not finished, {epochs} of {asked} epochs")
    return {"settings": settings, "epochs": epochs, "numbers": numbers, "place": place}


def group_by_seed(runs: dict[Path, dict], folder: str) -> list[dict]:
    """Return the rows of the table: each has a name, settings, epochs, a place, a kind (what its
    runs have in common), and lists of its runs' seeds and numbers."""
    rows = []
    for directory, run in runs.items():
        name = re.sub(r"-seed\d+$", "", directory.name)
        seed = run["settings"].pop("seed", None)
        kind = name, run["epochs"], run["settings"]
        alike = [row for row in rows if row["kind"] == kind]
        without_seed = [row for row in alike if seed not in row["seeds"]]
        if without_seed:
            row = without_seed[0]
        else:
            if alike:  # the same seed again gets a row of its own, named by the run's path
                name = os.path.relpath(directory, folder)
            row = run | {"kind": kind, "name": name, "seeds": [], "numbers": []}
            rows.append(row)
        row["seeds"].append(seed)
        row["numbers"].append(run["numbers"])
    return sorted(rows, key=lambda row: (row["place"], row["name"], row["epochs"]))


def label(row: dict, rows: list[dict]) -> str:
    """Return the name of a row and, if others have the same, the settings in which they differ."""
    namesakes = [other["settings"] for other in rows if other["name"] == row["name"]]
    words = [row["name"]]
    for flag, value in row["settings"].items():
        if any(str(settings.get(flag)) != str(value) for settings in namesakes):
            words.append(f"{flag} {value}")
    return ", ".join(words)


def main(argv: list[str] | None = None) -> list[dict]:
    """Print the table; return its rows. Exit with 1 if a run is left out."""
    parser = argparse.ArgumentParser(description="Print the results.", usage=argparse.SUPPRESS)
    parser.add_argument("folder", metavar="FOLDER", nargs="?", default="runs", help="default: runs")
    folder = os.path.expanduser(parser.parse_args(argv).folder)
    directories = find_runs(folder)
    if not directories:
        sys.exit(f"results.py: error: there is no run in {folder}; train.py makes one")
    runs, left_out = {}, []
    for directory in directories:
        try:
            runs[directory] = read_run(directory)
        except ValueError as error:
            left_out.append(f"results.py: error: {directory} left out: {error}")

    rows = group_by_seed(runs, folder)
    print(f"| run | seeds | epochs | {' | '.join(COLUMNS)} |")
    print("|---" * (3 + len(COLUMNS)) + "|")
    for row in rows:
        cells = [label(row, rows), str(len(row["seeds"])), str(row["epochs"])]
        for values in zip(*row["numbers"]):
            spread = f" ± {stdev(values):.4f}" if len(values) > 1 else ""
            cells.append(f"{mean(values):.4f}{spread}")
        print(f"| {' | '.join(cells)} |")
    if left_out:
        sys.exit("\n".join(left_out))
    return rows


if __name__ == "__main__":
    main()
