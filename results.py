"""Print the table of results, or the differences between runs. Plumbing.

    python results.py                          # the table of all runs in runs/
    python results.py seeds purpose            # of all runs in these folders
    python results.py seeds --against xavier   # the other rows minus the row xavier, seed by seed

Runs that differ only in their seed share a row. All numbers are those of the last epoch; ± is the
sample standard deviation over seeds, of the values or, with --against, of the differences.
"""

import argparse
import glob
import os
import re
import sys
from pathlib import Path
from statistics import mean, stdev

from checkpoint import read_checkpoint
from init import MODES

COLUMNS = ["loss/train", "loss/train_clean", "loss/val", "loss/test", "loss/gap", "accuracy/test",
           "accuracy/mirrored"]
# Two-sided 95% critical values of Student's t distribution with 1, 2, 3, ... degrees of freedom.
STUDENT_T = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179,
             2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093]


def find_runs(folders: list[str]) -> list[Path]:
    """Return the directories in the folders, at any depth, with a checkpoint or event files."""
    runs = {}  # by real path: a run that is found twice, say through a symbolic link, counts once
    for folder in folders:
        for pattern in "checkpoint.pt", "events.out.tfevents.*":
            anywhere = os.path.join(glob.escape(os.path.expanduser(folder)), "**", pattern)
            for path in glob.glob(anywhere, recursive=True):  # follows symbolic links
                directory = Path(path).parent
                runs.setdefault(directory.resolve(), directory)
    return sorted(runs.values())


def read_run(directory: Path) -> dict:
    """Return a finished run as a dictionary: directory, name, seed, settings, order, and numbers,
    the values of COLUMNS. Raises ValueError, with the reason, if the run is not finished.
    """
    path = directory / "checkpoint.pt"
    if not path.exists():
        raise ValueError("no checkpoint: it diverged, or stopped before the end of its first epoch")
    try:
        checkpoint = read_checkpoint(path)
    except OSError as error:
        raise ValueError(error) from None
    try:
        settings = checkpoint["settings"]
        seed = int(settings.pop("seed"))
        planned_epochs = int(settings["epochs"])
        settings["epochs"] = len(checkpoint["history"])
        order = study_order(settings)
        numbers = [float(checkpoint["history"][-1][column]) for column in COLUMNS]
    except Exception as error:  # a run of another program, or of a much older train.py
        raise ValueError(f"not a run by this version of train.py: {error!r:.150}") from None
    if settings["epochs"] < planned_epochs:
        raise ValueError(f"not finished, {settings['epochs']} of {planned_epochs} epochs")
    name = re.sub(r"-seed\d+$", "", directory.resolve().name)
    return {"directory": directory, "name": name, "seed": seed, "settings": settings,
            "order": order, "numbers": numbers}


def study_order(settings: dict) -> tuple:
    """Return what rows are sorted by: the mode as in init.py, then what was added to it."""
    modes = [*MODES, settings["init"]]  # a mode that init.py does not have comes last
    added = [float(settings.get(flag, 0)) for flag in ("augment", "dropout", "depth", "hidden")]
    return modes.index(settings["init"]), *added


def group_by_seed(runs: list[dict]) -> list[dict]:
    """Return the rows of the table, in the order of the study.

    A row is a dictionary: title, name, settings, order, and numbers, {seed: numbers of COLUMNS}.
    """
    rows = []
    for run in runs:
        same = [row for row in rows
                if row["name"] == run["name"] and row["settings"] == run["settings"]]
        without_seed = [row for row in same if run["seed"] not in row["numbers"]]
        if without_seed:
            row = without_seed[0]
        else:
            # A second run with the same seed gets a row of its own, named by its path.
            title = str(run["directory"]) if same else run["name"]
            row = run | {"title": title, "numbers": {}}
            rows.append(row)
        row["numbers"][run["seed"]] = run["numbers"]
    for row in rows:
        row["title"] += differing_settings(row, rows)
    return sorted(rows, key=lambda row: (row["order"], row["title"]))


def differing_settings(row: dict, rows: list[dict]) -> str:
    """Return the settings in which rows with the same name differ: ", lr 0.5", usually nothing."""
    namesakes = [other["settings"] for other in rows if other["name"] == row["name"]]
    words = [f", {flag} {value}" for flag, value in row["settings"].items()
             if any(settings.get(flag) != value for settings in namesakes)]
    return "".join(words)


def spread(values: list[float], sign: str = "") -> str:
    """Return mean ± sample standard deviation, the latter only for two values or more."""
    text = f"{mean(values):{sign}.4f}"
    return f"{text} ± {stdev(values):.4f}" if len(values) > 1 else text


def print_table(titles: list[str], rows: list[list[str]]) -> None:
    """Print a table in Markdown."""
    for cells in [titles, ["---"] * len(titles), *rows]:
        print(f"| {' | '.join(cells)} |")


def print_results(rows: list[dict]) -> None:
    """Print one line for each row: mean ± standard deviation over its seeds."""
    lines = []
    for row in rows:
        columns = zip(*row["numbers"].values())
        lines.append([row["title"], str(len(row["numbers"])), str(row["settings"]["epochs"]),
                      *(spread(values) for values in columns)])
    print_table(["run", "seeds", "epochs", *COLUMNS], lines)


def print_differences(rows: list[dict], reference: dict) -> list[str]:
    """Print the differences between the other rows and the reference, paired by seed.

    Returns a message for each row that has fewer than two seeds in common with the reference.
    """
    lines, left_out = [], []
    numbers_of_pairs = set()
    if len(rows) == 1:
        left_out.append(f"there is no run to compare with {reference['title']}")
    for row in rows:
        if row is reference:
            continue
        seeds = sorted(row["numbers"].keys() & reference["numbers"].keys())
        if len(seeds) < 2:
            left_out.append(f"{row['title']} left out: a difference needs at least 2 seeds that "
                            f"both runs have, but {reference['title']} has {len(seeds)} of its "
                            f"{len(row['numbers'])}; train both with more values of --seed")
            continue
        numbers_of_pairs.add(len(seeds))
        for column, title in enumerate(COLUMNS):
            differences = [row["numbers"][seed][column] - reference["numbers"][seed][column]
                           for seed in seeds]
            higher = sum(difference > 0 for difference in differences)
            luck = abs(mean(differences)) <= luck_limit(len(seeds)) * stdev(differences)
            lines.append([row["title"], title, spread(differences, "+"),
                          f"{higher} of {len(seeds)}", "may be luck" if luck else ""])
    if lines:
        print_table([f"run, minus {reference['title']}", "column", "difference", "higher in", ""],
                    lines)
        limits = ", ".join(f"{luck_limit(n):.2f} times with {n} seeds"
                           for n in sorted(numbers_of_pairs))
        print("\nA difference is mean ± standard deviation over the seeds that both runs have. "
              "It may be\nluck if the mean is no larger than the standard deviation times "
              f"Student's t (95%) /\nsqrt(seeds): {limits}.")
    return left_out


def luck_limit(n: int) -> float:
    """Return how many standard deviations a mean of n differences must exceed to be beyond luck.

    This is the two-sided paired t-test at the 95% level.
    """
    degrees_of_freedom = min(n - 1, len(STUDENT_T))
    return STUDENT_T[degrees_of_freedom - 1] / n ** 0.5


def main(argv: list[str] | None = None) -> list[dict]:
    """Print the table or the differences; return the rows. Exit with 1 if a run is left out."""
    parser = argparse.ArgumentParser(description="Print the results.", usage=argparse.SUPPRESS)
    parser.add_argument("folders", metavar="FOLDER", nargs="*", default=["runs"],
                        help="folders in which to look for runs, at any depth (default: runs)")
    parser.add_argument("--against", metavar="RUN",
                        help="print the differences from this row of the table, paired by seed")
    args = parser.parse_args(argv)
    runs, left_out = [], []
    for directory in find_runs(args.folders):
        try:
            runs.append(read_run(directory))
        except ValueError as error:
            left_out.append(f"{directory} left out: {error}")
    if not runs and not left_out:
        sys.exit(f"results.py: error: there is no run in {', '.join(args.folders)}; "
                 "train.py makes one")
    rows = group_by_seed(runs)
    if args.against is not None:
        titles = [row["title"] for row in rows]
        if titles.count(args.against) != 1:
            sys.exit(f"results.py: error: --against {args.against} must name one row of the table: "
                     f"{'; '.join(titles)}")
        left_out += print_differences(rows, rows[titles.index(args.against)])
    elif rows:
        print_results(rows)
    if left_out:
        sys.exit("\n".join(f"results.py: error: {reason}" for reason in left_out))
    return rows


if __name__ == "__main__":
    main()
