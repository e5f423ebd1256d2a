"""Train one network on Fashion-MNIST and log to TensorBoard what is worth seeing.

    python train.py                            # into runs/vanilla: checkpoint.pt, event files
    python train.py --init xavier --augment    # into runs/xavier-augment
    tensorboard --logdir runs                  # see both, overlaid
"""

import argparse
import io
import os
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from data import load_splits, make_variants, ordered_batches, shuffled_batches
from download import DATASETS, folder
from init import MODES, initialize
from log import log_end, log_epoch, log_start
from model import MLP


def train_epoch(model: nn.Module, criterion: nn.Module, optimizer: torch.optim.Optimizer,
                batches: Iterable) -> float:
    """Take one optimizer step per batch; return the mean loss over the examples, in nats.

    batches: yields images, float32 (B, 28, 28), and labels, int64 (B,), as a DataLoader does.
    It is the loss that the optimizer saw: weights still moving and, in some runs, images augmented,
    dropout on. Between runs it cannot be compared; what evaluate() says of train_clean can.
    """
    model.train()  # switches dropout on
    total_loss, n = 0.0, 0
    for images, labels in batches:
        optimizer.zero_grad()  # else backward() would add to the gradients of the last batch
        loss = criterion(model(images), labels)
        loss.backward()  # computes the gradient of the loss for each parameter: parameter.grad
        optimizer.step()  # moves each parameter against it: parameter -= learning_rate * grad
        # Times the batch's length: the last one is short. (detach: it needs no gradient any more.)
        total_loss += loss.detach() * len(labels)
        n += len(labels)
    return float(total_loss) / n


@torch.inference_mode()  # nothing is learned here, so nothing is recorded for backward()
def evaluate(model: nn.Module, criterion: nn.Module, batches: Iterable) -> tuple[float, float]:
    """Return the mean loss over the examples, in nats, and the accuracy, a fraction."""
    model.eval()  # switches dropout off: all hidden units answer
    total_loss, correct, n = 0.0, 0, 0
    for images, labels in batches:
        logits = model(images)
        total_loss += criterion(logits, labels) * len(labels)
        correct += (logits.argmax(dim=1) == labels).sum()
        n += len(labels)
    return float(total_loss) / n, int(correct) / n


HEADER = """\
         loss:                      accuracy:                    learning
epoch    train      val     test      val     test mirrored       rate  seconds"""
SHOWN = "loss/train", "loss/val", "loss/test", "accuracy/val", "accuracy/test", "accuracy/mirrored"


def train(args: argparse.Namespace) -> list[dict[str, float]]:
    """Train one run, from its start or its checkpoint; return its history: metrics per epoch."""
    torch.manual_seed(args.seed)
    model = MLP(args.hidden, args.dropout)
    initialize(model, args.init)
    model.to(args.device)  # only now: drawn on the CPU, a seed's weights are the same everywhere
    criterion = nn.CrossEntropyLoss()  # the batch's mean of -ln p, p = softmax(logits)[label]
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr)
    # Divides the learning rate by 10 after patience + 1 epochs without a new low of loss/val.
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=2)

    path = args.log_dir / "checkpoint.pt"
    state = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    history = load_checkpoint(path, state, args.settings) if path.exists() else []  # with --resume
    if len(history) >= args.epochs:
        print(f"{args.log_dir}: finished already, {len(history)} epochs")
        return history

    splits = load_splits(args.data_dir, args.device)
    variants = make_variants(splits["train"][0]) if args.augment else None
    print(f"{args.log_dir}: epochs {len(history) + 1} to {args.epochs}\n{HEADER}", flush=True)
    # Purge from TensorBoard what was logged after the last checkpoint: it will be logged again.
    with SummaryWriter(args.log_dir, purge_step=len(history) + 1 if history else 0) as writer:
        if not history:
            torch.manual_seed(args.seed)  # the same pictures for all runs of a seed
            inputs, _ = next(shuffled_batches(*splits["train"], 64, variants))
            log_start(writer, model, inputs, args.settings)
        for epoch in range(len(history) + 1, args.epochs + 1):
            start = time.perf_counter()
            # Seeded anew, a resumed run repeats an uninterrupted one; all runs of a seed see the
            # images in one order, whatever their init drew. (The factor: no two seeds overlap.)
            torch.manual_seed(args.seed + 100_000 * epoch)
            train_batches = shuffled_batches(*splits["train"], args.batch_size, variants)
            metrics = {"loss/train": train_epoch(model, criterion, optimizer, train_batches)}
            for split in ("train_clean", "val", "test", "mirrored"):
                loss, accuracy = evaluate(model, criterion, ordered_batches(*splits[split]))
                metrics |= {f"loss/{split}": loss, f"accuracy/{split}": accuracy}
            metrics["learning_rate"] = optimizer.param_groups[0]["lr"]  # this epoch's
            scheduler.step(metrics["loss/val"])  # not the test loss: nothing is decided by that
            if not metrics["loss/train"] + metrics["loss/val"] < 1e6:  # or nan; guessing costs 2.3
                sys.exit(f"train.py: error: the loss of epoch {epoch} is not finite, or absurd; "
                         f"start again with --lr lower than {args.lr:g}")
            history.append(metrics)
            log_epoch(writer, model, metrics, epoch)
            if epoch == args.epochs:
                log_end(writer, model, *splits["test"], args.settings, epoch)
            writer.flush()  # before the checkpoint: what is in it is in TensorBoard, too
            save_checkpoint(path, state, args.settings, history)
            numbers = "".join(f"{metrics[tag]:9.4f}" for tag in SHOWN)
            seconds = time.perf_counter() - start
            print(f"{epoch:5}{numbers}{metrics['learning_rate']:11.3g}{seconds:9.2f}", flush=True)
    return history


def save_checkpoint(path: Path, state: dict, settings: dict, history: list[dict]) -> None:
    """Write beside the old checkpoint, then move into its place: there is always a whole one."""
    content = {name: part.state_dict() for name, part in state.items()}
    buffer = io.BytesIO()  # since torch.save() to a full disk would not raise OSError
    torch.save(content | {"settings": settings, "history": history}, buffer)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())  # the content is on the disk before it gets the name
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: Path, state: dict, settings: dict) -> list[dict[str, float]]:
    """Load the saved state into model, optimizer, scheduler; return the history, or exit."""
    problem = "is damaged or not a checkpoint of train.py"
    try:  # weights_only: tensors and plain values; a file that would run code is refused
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        saved, history = checkpoint["settings"], checkpoint["history"]
        different = [f"--{flag.replace('_', '-')} was {saved[flag]} and is {settings[flag]}"
                     for flag in settings if saved[flag] != settings[flag] and flag != "epochs"]
        if different:
            sys.exit(f"train.py: error: {path}: {', '.join(different)}; choose another --log-dir")
        problem = "does not fit: the network in model.py is not the one that was saved"
        for name, part in state.items():
            part.load_state_dict(checkpoint[name])
    except Exception:  # a damaged file can fail in any way (SystemExit is no Exception)
        sys.exit(f"train.py: error: {path} {problem}; choose another --log-dir")
    return history


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read and check the flags; exit with code 2 and one line if one of them is wrong."""
    parser = argparse.ArgumentParser(description="Train one network.", usage=argparse.SUPPRESS,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False)
    add = parser.add_argument_group("under study").add_argument
    add("--init", choices=MODES, default="default", help="weight initialisation")
    add("--augment", action="store_true", help="mirror and shift the training images at random")
    add("--dropout", type=float, default=0.0, metavar="P", help="share of hidden units to drop")
    add = parser.add_argument_group("the rest").add_argument
    add("--hidden", type=int, default=100, metavar="N", help="number of hidden units")
    add("--epochs", type=int, default=20, metavar="N", help="passes over the training images")
    add("--batch-size", type=int, default=128, metavar="N", help="images per training step")
    add("--lr", type=float, default=0.2, metavar="X", help="learning rate at the start")
    add("--seed", type=int, default=0, metavar="N", help="decides all that is random")
    add("--threads", type=int, default=1, metavar="N", help="threads to compute with on a CPU")
    add("--device", default="cpu", help="where to compute: cpu, cuda, cuda:1, mps")
    add("--data-dir", type=folder, default=DATASETS, metavar="DIR", help="folder of the data set")
    add("--log-dir", type=folder, default=argparse.SUPPRESS, metavar="DIR",
        help="directory of the run (default: runs/ and the flags that differ from the defaults)")
    add("--resume", action="store_true", help="go on from the checkpoint, if there is one")
    args = parser.parse_args(argv)
    bounds = {"dropout": (0, 1), "hidden": (1, 1e6), "epochs": (1, 1e6), "batch_size": (1, 1e6),
              "lr": (1e-9, 1e9), "seed": (0, 1e5), "threads": (1, 1e3)}
    for flag, (low, high) in bounds.items():
        if not low <= (value := getattr(args, flag)) < high:  # false for nan, too
            flag = flag.replace("_", "-")
            parser.error(f"--{flag} must be at least {low} and below {high:g}, got {value}")
    try:
        torch.ones(1, device=args.device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        parser.error(f"--device {args.device} does not work here: {str(error).splitlines()[0]:.99}")
    # The flags that decide the numbers. When a run is resumed, only the epochs may differ.
    flags = "init", "augment", "dropout", "hidden", "epochs", "batch_size", "lr", "seed"
    args.settings = {flag: getattr(args, flag) for flag in flags}
    if "log_dir" not in args:
        name = "vanilla" if args.init == "default" else args.init
        short = {"augmentTrue": "augment", "dropout0.5": "dropout"}
        for flag, value in args.settings.items():
            if flag not in ("init", "epochs") and value != parser.get_default(flag):
                name += "-" + short.get(f"{flag}{value}", f"{flag}{value}")
        args.log_dir = Path("runs", name)
    if not args.resume and [*args.log_dir.glob("checkpoint.pt"), *args.log_dir.glob("events.*")]:
        parser.error(f"{args.log_dir} holds a run; use --resume to go on, or another --log-dir")
    return args


def main(argv: list[str] | None = None) -> list[dict[str, float]]:
    """Train one run as the flags say; return its history, the metrics of every epoch."""
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    try:
        history = train(args)
    except OSError as error:  # ours is a sentence; the system's has an errno, not always a file
        reason = f"{error.filename or args.log_dir}: {error.strerror}" if error.errno else error
        sys.exit(f"train.py: error: {reason}")
    print("train loss {loss/train:.4f}, test accuracy {accuracy/test:.4f}, "
          "mirrored {accuracy/mirrored:.4f}".format(**history[-1]))
    print(f'see it: tensorboard --logdir "{args.log_dir.parent}"')
    return history


if __name__ == "__main__":
    threading.excepthook = lambda failure: None  # TensorBoard's thread: flush() tells us its errors
    try:
        main()
    except KeyboardInterrupt:
        print("train.py: interrupted; the same command with --resume goes on", file=sys.stderr)
        sys.exit(130)
