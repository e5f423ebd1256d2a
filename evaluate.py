"""Measure trained networks afresh and print the table of results.

    python evaluate.py                     # every run under runs/
    python evaluate.py --json runs/zero    # this one, for programs

Runs that differ only in their seed share a row: mean ± sample standard deviation over the seeds.
"""

import argparse
import json
import statistics
import warnings
from collections.abc import Iterable
from pathlib import Path

from download import Failure, answer_signals, run_script

if __name__ == "__main__":  # already here, because importing torch takes seconds
    answer_signals("the same command starts it again")

import torch
from torch import Tensor, nn

from data import batches, load_splits
from init import MODES
from model import MLP

# The flags that decide a run's numbers. When a run is resumed, only the epochs may differ.
SETTINGS = ("init", "augment", "dropout", "hidden", "epochs", "batch_size", "lr", "seed")


@torch.inference_mode()
def evaluate(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return the mean cross-entropy over the examples, in nats, and the accuracy, a fraction.

    images: uint8 (N, 28, 28); labels: int64 (N,). Dropout is off.
    """
    model.eval()
    total_loss = correct = 0
    for some_images, some_labels in batches(images, labels, 1000):
        logits = model(some_images)
        # Sums, divided by N at the end: a mean of batch means would overrate a short last batch.
        total_loss += nn.functional.cross_entropy(logits, some_labels, reduction="sum")
        correct += (logits.argmax(dim=1) == some_labels).sum()
    return float(total_loss) / len(images), float(correct) / len(images)


def mirror_half(images: Tensor) -> Tensor:
    """Return a copy of the images, uint8 (N, 28, 28), of which one half is mirrored left to right.

    The half is drawn with a fixed seed: every network is measured on the same pictures.
    """
    half = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[::2]
    images = images.clone()
    images[half] = images[half].flip(-1)
    return images


def load_checkpoint(path: Path, parts: dict | None = None) -> tuple[dict, MLP]:
    """Return what train.py saved, and its network. Raises Failure if the file is not intact.

    parts: the model, optimizer and scheduler that take their state from it, or a new model.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch comments on foreign files at length
            # weights_only: tensors and plain values; a pickle that would run code is refused.
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        flags, history = checkpoint["flags"], checkpoint["history"]
        parts = parts or {"model": MLP(flags["hidden"], flags["dropout"])}
        for name, part in parts.items():
            if checkpoint[name].keys() != part.state_dict().keys():
                raise KeyError(name)
            part.load_state_dict(checkpoint[name])
        if not ({"run", "optimizer", "scheduler"} <= checkpoint.keys()
                and {*SETTINGS, "data_dir"} <= flags.keys() and flags["init"] in MODES
                and checkpoint["epoch"] == len(history) and "loss/train" in history[-1]):
            raise ValueError("incomplete")
    except Exception as error:  # a broken file can break in any way
        raise Failure(f"{path} is no intact checkpoint of train.py ({type(error).__name__}); "
                      "if it should be one, delete it to start that run again") from error
    return checkpoint, parts["model"]


def measure(checkpoint: dict, model: MLP, splits: dict) -> dict[str, float]:
    """Return the last columns of the table: losses in nats, accuracies as fractions.

    All are measured here, but train_loss: only the training itself can see that one.
    """
    images, labels = splits["test"]
    test_loss, test_accuracy = evaluate(model, images, labels)
    return {
        "train_loss": checkpoint["history"][-1]["loss/train"],
        "train_eval_loss": evaluate(model, *splits["train"])[0],
        "test_loss": test_loss,
        "test_accuracy": test_accuracy,
        "mirrored_test_accuracy": evaluate(model, mirror_half(images), labels)[1],
    }


def merge(runs: list[tuple[str, dict, MLP]], splits: dict) -> dict:
    """Return one row of the table for runs, (directory's name, ...), that differ in their seed."""
    name, checkpoint, _ = runs[0]
    measured = [measure(*each, splits) for _, *each in runs]
    same = all(other == name for other, *_ in runs)  # not for xavier-seed1, xavier-seed2
    row = {"run": name if same else checkpoint["run"]}
    row |= {flag: checkpoint["flags"][flag] for flag in ("init", "augment", "dropout", "hidden")}
    row |= {"epochs": checkpoint["epoch"], "seeds": len(measured)}
    for column in measured[0]:
        values = [each[column] for each in measured]
        std = statistics.stdev(values) if len(values) > 1 else 0.0
        row[column] = {"mean": statistics.mean(values), "std": std}
    return row


def markdown(titles: list[str], rows: Iterable) -> str:
    """Return a Markdown table."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def results_table(rows: list[dict]) -> str:
    """Return the rows as a Markdown table, with the spread where there are several seeds."""
    columns = [name for name in rows[0] if name != "hidden"]
    lines = []
    for row in rows:
        cells = row | {"augment": "yes" if row["augment"] else "no"}
        for name in columns[-5:]:  # the measured ones
            spread = f" ± {row[name]['std']:.4f}" if row["seeds"] > 1 else ""
            cells[name] = f"{row[name]['mean']:.4f}{spread}"
        lines.append([cells[name] for name in columns])
    return markdown([name.replace("_", " ") for name in columns], lines)


def main(argv: list[str] | None = None) -> list[dict]:
    """Print the table and return its rows; if some runs are broken, raise Failure after that."""
    parser = argparse.ArgumentParser(
        description="Measure trained networks on the test set and print a table of the results.",
        usage=argparse.SUPPRESS, allow_abbrev=False)
    parser.add_argument("run_dirs", metavar="RUN_DIR", nargs="*", default=["runs"],
                        help="a run, or a folder of runs at any depth (default: runs)")
    parser.add_argument("--json", action="store_true", help="print a JSON list, not Markdown")
    args = parser.parse_args(argv)

    groups, failures = {}, []
    for run_dir in args.run_dirs:
        paths = sorted(Path(run_dir).rglob("checkpoint.pt"))
        if not paths:
            failures.append(f"{run_dir} holds no checkpoint.pt; train.py makes one")
        for path in paths:
            try:
                checkpoint, model = load_checkpoint(path)
            except Failure as failure:
                failures.append(str(failure))
                continue
            runs = groups.setdefault((checkpoint["run"], checkpoint["epoch"]), {})
            name = path.absolute().parent.name
            runs[checkpoint["flags"]["seed"]] = name, checkpoint, model  # repeated, it counts once
            data_dir = Path(checkpoint["flags"]["data_dir"])
    if groups:  # the recorded folder is not there if a run was trained on another machine
        splits = load_splits(data_dir if data_dir.is_dir() else "datasets")
    rows = [merge(list(runs.values()), splits) for runs in groups.values()]
    rows.sort(key=lambda row: ([*MODES].index(row["init"]), row["augment"], row["dropout"]))
    if rows or args.json:
        print(json.dumps(rows, indent=2) if args.json else results_table(rows))
    if failures:
        raise Failure("; ".join(failures))
    return rows


if __name__ == "__main__":
    run_script(main)
