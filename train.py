"""Train one network on Fashion-MNIST. Log to TensorBoard its losses, accuracies, weights and
gradients, the images that it sees, and the mistakes that it makes.

    python train.py                            # into runs/vanilla: checkpoint.pt, event files
    python train.py --init xavier --augment    # into runs/xavier-augment
    tensorboard --logdir runs                  # see both, overlaid
"""

import argparse
import glob
import io
import math
import os
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from data import load_splits, make_variants, ordered_batches, shuffled_batches
from download import DEFAULT_DATA_DIR, check_link, parse_directory
from init import MODES, initialize
from log import log_end, log_epoch, log_settings, log_start, number_event_files
from model import MLP


def train_epoch(model: nn.Module, criterion: nn.Module, optimizer: torch.optim.Optimizer,
                batches: Iterable) -> float:
    """Take one optimizer step per batch; return the mean loss over the examples.

    batches: yields images, float32 (B, 28, 28), and labels, int64 (B,). The loss, -ln of the
    probability that the network gave to the right class, is in nats, as ln is the natural
    logarithm. The mean is that of the losses the optimizer saw: the weights change with every
    batch, images may be augmented, and dropout may be on. Runs that differ in augmentation or
    dropout are better compared by their loss on train_clean.
    """
    model.train()  # switches dropout on
    total_loss = 0.0
    n = 0
    for images, labels in batches:
        optimizer.zero_grad()  # else backward() would add to the previous batch's gradients
        loss = criterion(model(images), labels)
        loss.backward()  # computes the gradient of the loss for each parameter: parameter.grad
        optimizer.step()  # moves each parameter against it: parameter -= learning_rate * grad
        # The loss is a mean over the batch, so it counts as often as the batch has examples: the
        # epoch's last batch is smaller. (detach: the sum needs no gradient.)
        total_loss += loss.detach() * len(labels)
        n += len(labels)
    return float(total_loss) / n


@torch.inference_mode()  # nothing is learned here, so nothing is recorded for backward()
def evaluate(model: nn.Module, criterion: nn.Module, batches: Iterable) -> tuple[float, float]:
    """Return the mean loss over the examples, in nats, and the accuracy, a fraction."""
    model.eval()  # switches dropout off: all hidden units answer
    total_loss = 0.0
    correct = 0
    n = 0
    for images, labels in batches:
        logits = model(images)
        total_loss += criterion(logits, labels) * len(labels)
        correct += (logits.argmax(dim=1) == labels).sum()
        n += len(labels)
    return float(total_loss) / n, int(correct) / n


def train(args: argparse.Namespace) -> list[dict[str, float]]:
    """Train one run, from its start or its checkpoint; return its history: metrics per epoch.

    args: from parse_args(): the flags; args.settings, a dict of those that affect the results; and
    args.defaults, their default values.
    """
    torch.manual_seed(args.seed)  # for the initial weights; each epoch gets a seed of its own below
    model = MLP(args.hidden, args.dropout, args.depth)
    initialize(model, args.init)
    model.to(args.device)  # only now: drawn on the CPU, a seed's weights are the same everywhere
    criterion = nn.CrossEntropyLoss()  # the batch's mean of -ln p, p = softmax(logits)[label]
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr)
    # Divides the learning rate by 10 whenever patience + 1 epochs in a row have brought no new low
    # of loss/val (a new low is at least 0.01 % lower). Smaller steps settle into a minimum that
    # larger ones jump over. They also slow overfitting down, if that is why loss/val has stalled.
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.1, patience=args.patience)

    history = []
    path = args.log_dir / "checkpoint.pt"
    state = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    if args.resume and path.exists():
        history = load_checkpoint(path, state, args.settings, args.defaults)
    if len(history) >= args.epochs:
        print(f"{args.log_dir}: finished already, {len(history)} epochs")
        return history

    splits = load_splits(args.data_dir, args.device)
    variants = make_variants(splits["train"][0]) if args.augment else None
    number_event_files(args.log_dir)  # of earlier starts, so that TensorBoard reads them first
    with SummaryWriter(args.log_dir) as writer:
        log_settings(writer, args.settings, args.device, args.threads, len(history))
        if not history:
            torch.manual_seed(args.seed)  # the same garments for all runs of a seed
            inputs, _ = next(shuffled_batches(*splits["train"], 64, variants))
            log_start(writer, model, inputs)
        print_header(args, len(history) + 1)
        for epoch in range(len(history) + 1, args.epochs + 1):
            start = time.perf_counter()
            # What an epoch draws depends on the seed and the epoch alone (and on the kind of
            # device), and the order of the images is drawn first. So all runs of a seed see them in
            # the same order, a new one in every epoch, and a resumed run draws what an
            # uninterrupted one would. Seeds are below 100,000, so that this number is another for
            # each pair of seed and epoch.
            torch.manual_seed(args.seed + 100_000 * epoch)
            train_batches = shuffled_batches(*splits["train"], args.batch_size, variants)
            metrics = {"loss/train": train_epoch(model, criterion, optimizer, train_batches)}
            for split in ("train_clean", "val", "test", "mirrored"):
                loss, accuracy = evaluate(model, criterion, ordered_batches(*splits[split]))
                metrics[f"loss/{split}"] = loss
                metrics[f"accuracy/{split}"] = accuracy
            metrics["loss/gap"] = metrics["loss/val"] - metrics["loss/train_clean"]  # overfitting
            metrics["learning_rate"] = optimizer.param_groups[0]["lr"]  # this epoch's
            scheduler.step(metrics["loss/val"])  # not the test loss: nothing is decided by that
            check_losses(metrics, epoch, args.lr)
            history.append(metrics)
            log_epoch(writer, model, metrics, epoch)
            if epoch == args.epochs:
                log_end(writer, model, splits, args.settings, epoch)
            writer.flush()  # before the checkpoint: what is in it is in TensorBoard, too
            save_checkpoint(path, state, args.settings, history)
            print_epoch(metrics, epoch, time.perf_counter() - start)
    return history


def check_losses(metrics: dict[str, float], epoch: int, lr: float) -> None:
    """Exit if training has exploded, so that its numbers mean nothing any more."""
    for tag in ("loss/train", "loss/val"):
        sane = metrics[tag] < 1e6  # guessing has ln 10 = 2.3; a comparison with nan is false
        if not sane:
            sys.exit(f"train.py: error: {tag} is {metrics[tag]:.3g} in epoch {epoch}; "
                     f"start again with --lr lower than {lr:g}")


def print_header(args: argparse.Namespace, epoch: int) -> None:
    """Print what is to come, and the titles of print_epoch's columns."""
    print(f"{args.log_dir}: epochs {epoch} to {args.epochs}")
    print("         loss:                                accuracy:         learning")
    print("epoch    train    clean      val     test     test mirrored       rate  seconds",
          flush=True)


def print_epoch(metrics: dict[str, float], epoch: int, seconds: float) -> None:
    """Print an epoch's line."""
    columns = ("loss/train", "loss/train_clean", "loss/val", "loss/test", "accuracy/test",
               "accuracy/mirrored")
    numbers = "".join(f"{metrics[tag]:9.4f}" for tag in columns)
    print(f"{epoch:5}{numbers}{metrics['learning_rate']:11.3g}{seconds:9.2f}", flush=True)


def save_checkpoint(path: Path, state: dict, settings: dict, history: list[dict]) -> None:
    """Write beside the old checkpoint, then move into its place: there is always a whole one."""
    content = {name: part.state_dict() for name, part in state.items()}
    content["settings"] = settings
    content["history"] = history
    buffer = io.BytesIO()  # since torch.save() to a full disk would not raise OSError
    torch.save(content, buffer)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())  # the content is on the disk before it gets the name
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: Path, state: dict, settings: dict, defaults: dict) -> list[dict]:
    """Load the saved state into model, optimizer, scheduler; return the history, or exit."""
    try:  # weights_only: tensors and plain values; a file that would run code is refused
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        # A flag that was added to train.py after the run was saved counts as its default.
        saved = defaults | checkpoint["settings"]
        history = list(checkpoint["history"])
    except OSError:  # it cannot be read; main() says why
        raise
    except Exception:  # a damaged file can fail in any way
        sys.exit(f"train.py: error: {path} is damaged or not a checkpoint of train.py; "
                 "choose another --log-dir")
    different = []
    for flag, value in saved.items():
        if flag != "epochs" and value != settings.get(flag):  # a run may be made longer
            different.append(f"--{flag.replace('_', '-')} was {value} and is {settings.get(flag)}")
    if different:
        sys.exit(f"train.py: error: {path}: {', '.join(different)}; choose another --log-dir")
    try:
        for name, part in state.items():
            part.load_state_dict(checkpoint[name])
    except Exception:
        sys.exit(f"train.py: error: {path} does not fit: the network in model.py is not the one "
                 "that was saved; choose another --log-dir")
    return history


def number(kind: type, low: float, below: float) -> Callable[[str], float]:
    """Return a type for argparse: a number of this kind, at least low and below the other."""
    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        inside = low <= value < below  # false for nan
        if not inside:
            name = "whole number" if kind is int else "number"
            raise argparse.ArgumentTypeError(
                f"must be a {name} of at least {low:g} and below {below:.10g}, got {text}")
        return value
    return parse


def working_device(text: str) -> str:
    """Return the name of a device, a type for argparse, if PyTorch can compute there."""
    try:
        torch.ones(1, device=text).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).splitlines()[0].split(". ")[0]  # the first sentence of sometimes fifty
        raise argparse.ArgumentTypeError(f"{text} does not work here: {reason}") from None
    return text


def make_parser() -> argparse.ArgumentParser:
    """Return the parser. A flag's name, type, range and default stand here and nowhere else."""
    parser = argparse.ArgumentParser(description="Train one network.", usage=argparse.SUPPRESS,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False)
    add = parser.add_argument_group("what is compared").add_argument
    add("--init", choices=MODES, default="default", help="weight initialisation")
    add("--augment", action="store_true", help="mirror and shift the training images at random")
    add("--dropout", type=number(float, 0, 1), default=0.0, metavar="P",
        help="share of hidden units to drop")
    add = parser.add_argument_group("the rest").add_argument
    add("--depth", type=number(int, 1, 1e3), default=1, metavar="N", help="hidden layers")
    add("--hidden", type=number(int, 1, 1e6), default=100, metavar="N", help="units in each")
    add("--epochs", type=number(int, 1, 1e6), default=20, metavar="N",
        help="passes over the training images")
    add("--batch-size", type=number(int, 1, 1e6), default=128, metavar="N",
        help="images per training step")
    add("--lr", type=number(float, 1e-9, 1e9), default=0.2, metavar="X",
        help="learning rate at the start")
    add("--patience", type=number(int, 0, 1e6), default=2, metavar="N",
        help="the rate falls after N + 1 epochs without a new low of loss/val")
    add("--seed", type=number(int, 0, 1e5), default=0, metavar="N",
        help="decides the random draws of the run")
    add("--threads", type=number(int, 1, 1e3), default=1, metavar="N",
        help="threads to compute with on a CPU (results differ by rounding)")
    add("--device", type=working_device, default="cpu",
        help="where to compute: cpu, cuda, cuda:1, mps (each kind draws other random numbers)")
    add("--data-dir", type=parse_directory, default=DEFAULT_DATA_DIR, metavar="DIR",
        help="directory of the data set")
    add("--log-dir", type=parse_directory, default=None, metavar="DIR",
        help="directory of the run; None: runs/, --init and what differs from the defaults")
    add("--resume", action="store_true", help="go on from the checkpoint, if there is one")
    return parser


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read and check the flags; exit with code 2 and one line if one of them is wrong."""
    parser = make_parser()
    args = parser.parse_args(argv)
    # The settings decide the numbers, as far as the machine does not, and are recorded with the
    # run. They are all the flags but those that say where and how it is computed.
    where_and_how = ("data_dir", "log_dir", "resume", "device", "threads")
    args.settings = {flag: value for flag, value in vars(args).items() if flag not in where_and_how}
    args.defaults = {flag: parser.get_default(flag) for flag in args.settings}
    if args.log_dir is None:
        args.log_dir = Path("runs", directory_name(args.settings, args.defaults))
    held = [name for pattern in ("checkpoint.pt", "events.*")
            for name in glob.glob(pattern, root_dir=args.log_dir)]
    if held and not args.resume:
        parser.error(f"{args.log_dir} holds a run; use --resume to go on, or another --log-dir")
    return args


def directory_name(settings: dict, defaults: dict) -> str:
    """Return the mode and the settings, except epochs, that are no defaults: xavier-lr0.5-seed1."""
    names_in_the_study = {"default": "vanilla", "dropout0.5": "dropout"}
    parts = [settings["init"]]
    for flag, value in settings.items():
        if flag not in ("init", "epochs") and value != defaults[flag]:
            name = flag.replace("_", "-")
            parts.append(name if value is True else f"{name}{value}")
    return "-".join(names_in_the_study.get(part, part) for part in parts)


def main(argv: list[str] | None = None) -> list[dict[str, float]]:
    """Train one run as the flags say; return its history, the metrics of every epoch."""
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    try:
        check_link(args.log_dir)  # a symbolic link that leads nowhere gets a sentence of its own
        history = train(args)
        print("train loss {loss/train:.4f}, gap {loss/gap:.4f}, test accuracy {accuracy/test:.4f}, "
              "mirrored {accuracy/mirrored:.4f}".format(**history[-1]))
        print(f"see it: tensorboard --logdir {shlex.quote(str(args.log_dir.parent))}", flush=True)
    except BrokenPipeError:  # `| head` has read enough
        sys.stdout = None  # else Python tries to print the rest at its exit
        sys.exit("train.py: error: the output was closed; the same command with --resume goes on")
    except OSError as error:
        reason = str(error)  # download.py's errors are sentences
        if error.errno:  # the system's have a number, a text and mostly the name of a file
            reason = f"{error.filename or args.log_dir}: {error.strerror}"
        sys.exit(f"train.py: error: {reason}")
    return history


if __name__ == "__main__":
    # TensorBoard writes in a thread of its own. If that fails, say on a full disk, flush() raises
    # the error again in train(), and main() prints it in a line. Without the next line, Python
    # would print the thread's traceback, too.
    threading.excepthook = lambda failure: None
    try:
        main()
    except KeyboardInterrupt:
        print("train.py: interrupted; the same command with --resume goes on", file=sys.stderr)
        sys.exit(130)
