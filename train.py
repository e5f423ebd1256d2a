"""Train one network on Fashion-MNIST and log the run to TensorBoard.

The study compares five runs of 20 epochs. After each command: its accuracy on the 10,000 test
images, then its accuracy when half of them are flipped left to right. Both are averaged over ten
seeds. A run takes about 15 seconds on one core.

    python train.py                                            # 0.88  0.76  vanilla PyTorch
    python train.py --init zero                                # 0.10  0.10  it only guesses
    python train.py --init xavier                              # 0.88  0.76
    python train.py --init xavier --augment                    # 0.87  0.87
    python train.py --init xavier --augment --dropout 0.5      # 0.85  0.85

Augmentation and dropout reduce overfitting, but here they lower the accuracy on the unchanged test
images. In 20 epochs on 55,000 images there is so little overfitting that reducing it does not make
up for the cost. The README shows when it does.

A run writes checkpoint.pt and TensorBoard's event files into a directory that is named after the
flags, for example runs/xavier-augment. To see all runs: tensorboard --logdir runs
"""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from checkpoint import load_checkpoint, save_checkpoint
from data import TRAIN_SIZE, load_splits, make_variants, ordered_batches, shuffled_batches
from download import DEFAULT_DATA_DIR
from init import MODES, initialize
from log import log_end, log_epoch, log_settings, log_start
from model import MLP


def train_epoch(model: nn.Module, criterion: nn.Module, optimizer: torch.optim.Optimizer,
                batches: Iterable) -> float:
    """Take one optimizer step per batch and return the mean loss over all examples.

    batches: yields images, float32 (B, 28, 28), and labels, int64 (B,).

    The loss is cross-entropy in nats (natural logarithm): -ln of the probability of the correct
    class. It is measured while the weights change from batch to batch, and with augmentation and
    dropout if they are on. To compare runs with different settings, use loss/train_clean.
    """
    model.train()  # dropout on
    total_loss = 0.0
    n = 0
    for images, labels in batches:
        optimizer.zero_grad()  # otherwise backward() would add to the old gradients
        loss = criterion(model(images), labels)
        # For each parameter, computes the gradient of the loss from the operations that PyTorch has
        # recorded, and adds it to parameter.grad.
        loss.backward()
        optimizer.step()  # parameter -= learning_rate * parameter.grad
        # The batch's mean loss is weighted by the batch size: the last batch may be smaller.
        # Without detach(), total_loss would keep the recorded operations of all batches in memory.
        total_loss += loss.detach() * len(labels)
        n += len(labels)
    return float(total_loss) / n


@torch.inference_mode()  # no gradients are needed (no_grad() would do as well, but is slower)
def evaluate(model: nn.Module, criterion: nn.Module, batches: Iterable) -> tuple[float, float]:
    """Return the mean loss over all examples, in nats, and the accuracy, a fraction."""
    model.eval()  # dropout off: every unit is active
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
    """Train a network, or resume from its checkpoint; return the metrics of each epoch.

    args: the flags, from parse_args().
    """
    torch.manual_seed(args.seed)
    model = MLP(args.hidden, args.dropout, args.depth)
    initialize(model, args.init)
    model.to(args.device)  # moved after drawing, so a seed gives the same weights on every device
    criterion = nn.CrossEntropyLoss()  # contains the softmax
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr)  # plain SGD, without momentum
    # When loss/val stops falling, smaller steps usually bring it down further. So the scheduler
    # counts the epochs in a row without a new minimum of loss/val. When there are more of them than
    # `patience`, it divides the learning rate by 10 and starts counting again. (A minimum counts as
    # new if it is lower by more than 0.01%.)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.1, patience=args.patience)

    # Continue from the checkpoint if --resume is given and there is one.
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    path = args.log_dir / "checkpoint.pt"
    history = []  # the metrics of each epoch
    if args.resume and path.exists():
        history = resume(args, path, parts)
    if len(history) >= args.epochs:
        print(f"{args.log_dir}: already finished, {len(history)} epochs; "
              "delete the directory to train again")
        return history

    splits = load_splits(args.data_dir, args.device, args.examples)
    images, labels = splits["train"]
    variants = make_variants(images) if args.augment else None
    with SummaryWriter(args.log_dir) as writer:
        settings = settings_of(args)  # the flags that define the experiment
        log_settings(writer, settings, args.device, args.threads, len(history))
        if not history:
            # Log a batch of 64 training images. Some initialisations have drawn more random numbers
            # than others. Seeding again makes all runs with this seed log the same images.
            torch.manual_seed(args.seed)
            inputs, _ = next(shuffled_batches(images, labels, 64, variants))
            log_start(writer, model, inputs)
        print_header(args, len(history) + 1)
        for epoch in range(len(history) + 1, args.epochs + 1):
            start = time.perf_counter()
            # Seeding in every epoch makes a resumed run draw the same numbers as one that was never
            # stopped. (As seeds are below 100,000, each pair of seed and epoch has its own number.)
            torch.manual_seed(args.seed + 100_000 * epoch)
            # The first thing drawn is the order of the images. So runs with the same seed see them
            # in the same order, with or without augmentation and dropout.
            batches = shuffled_batches(images, labels, args.batch_size, variants)
            metrics = {"loss/train": train_epoch(model, criterion, optimizer, batches)}
            for split in ("train_clean", "val", "test", "mirrored"):
                loss, accuracy = evaluate(model, criterion, ordered_batches(*splits[split]))
                metrics[f"loss/{split}"] = loss
                metrics[f"accuracy/{split}"] = accuracy
            # Overfitting: how much worse the network does on new images than on training images.
            metrics["loss/gap"] = metrics["loss/val"] - metrics["loss/train_clean"]
            metrics["learning_rate"] = optimizer.param_groups[0]["lr"]
            scheduler.step(metrics["loss/val"])  # loss/test must not influence training
            check_losses(metrics, epoch, args)
            history.append(metrics)
            log_epoch(writer, model, metrics, epoch)
            if epoch == args.epochs:
                log_end(writer, model, splits, settings, default_settings(), epoch)
            writer.flush()  # before saving, so that every saved epoch is in TensorBoard
            save_checkpoint(path, parts, settings, history)
            print_epoch(metrics, epoch, time.perf_counter() - start)
    return history


# The lesson ends here. The rest is plumbing: resuming, printing, and the flags.


def resume(args: argparse.Namespace, path: Path, parts: dict) -> list[dict[str, float]]:
    """Load the checkpoint into the parts; return the metrics of each epoch so far.

    An older version of this program may have saved the checkpoint without some of today's flags. It
    is taken to have used their defaults.
    """
    return load_checkpoint(path, parts, settings_of(args), default_settings())


def check_losses(metrics: dict[str, float], epoch: int, args: argparse.Namespace) -> None:
    """Exit with a message if training has diverged, because nothing useful can follow."""
    for tag in ("loss/train", "loss/val"):
        # 1e6 is far above guessing (2.3). "not <", because nan is neither below 1e6 nor above it.
        diverged = not metrics[tag] < 1e6
        if diverged:
            sys.exit(f"train.py: error: training diverged: {tag} is {metrics[tag]:.3g} in epoch "
                     f"{epoch}; start again with --lr below {args.lr:g}, in another --log-dir or "
                     f"after deleting {args.log_dir}")


def print_header(args: argparse.Namespace, epoch: int) -> None:
    """Print which epochs follow, and the column titles for print_epoch()."""
    note = " (no checkpoint to resume from)" if args.resume and epoch == 1 else ""
    print(f"{args.log_dir}: epochs {epoch} to {args.epochs}{note}")
    print("         loss:                                accuracy:         learning")
    print("epoch    train    clean      val     test     test mirrored       rate  seconds",
          flush=True)


def print_epoch(metrics: dict[str, float], epoch: int, seconds: float) -> None:
    """Print one line for an epoch."""
    columns = ("loss/train", "loss/train_clean", "loss/val", "loss/test", "accuracy/test",
               "accuracy/mirrored")
    numbers = "".join(f"{metrics[tag]:9.4f}" for tag in columns)
    print(f"{epoch:5}{numbers}{metrics['learning_rate']:11.3g}{seconds:9.2f}", flush=True)


def print_summary(args: argparse.Namespace, last: dict[str, float]) -> None:
    """Print the result of the last epoch, and how to look at the run."""
    print(f"train loss {last['loss/train']:.4f}, gap {last['loss/gap']:.4f}, "
          f"test accuracy {last['accuracy/test']:.4f}, mirrored {last['accuracy/mirrored']:.4f}")
    print(f"to view it: tensorboard --logdir {shlex.quote(str(args.log_dir.parent))}", flush=True)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the flags, with their types and defaults."""
    parser = argparse.ArgumentParser(
        description="Train one network.", allow_abbrev=False,
        usage=argparse.SUPPRESS,  # so that an error is one line, without the usage
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    study = parser.add_argument_group("what the study compares")
    study.add_argument("--init", choices=MODES, default="default", help="weight initialisation")
    study.add_argument("--augment", action="store_true",
                       help="flip and shift the training images at random")
    study.add_argument("--dropout", type=float, default=0.0, metavar="P",
                       help="probability that a hidden unit is dropped, at least 0 and below 1")
    rest = parser.add_argument_group("the rest")
    rest.add_argument("--depth", type=int, default=1, metavar="N", help="number of hidden layers")
    rest.add_argument("--hidden", type=int, default=100, metavar="N",
                      help="number of units in each of them")
    rest.add_argument("--examples", type=int, default=TRAIN_SIZE, metavar="N",
                      help="train on the first N training images")
    rest.add_argument("--epochs", type=int, default=20, metavar="N",
                      help="passes over the training images")
    rest.add_argument("--batch-size", type=int, default=128, metavar="N",
                      help="images per training step")
    rest.add_argument("--lr", type=float, default=0.2, metavar="X",
                      help="initial learning rate, above 0")
    rest.add_argument("--patience", type=int, default=2, metavar="N",
                      help="divide the rate by 10 after N + 1 epochs without a new low of loss/val")
    rest.add_argument("--seed", type=int, default=0, metavar="N",
                      help="seed of all random numbers, below 100000")
    rest.add_argument("--threads", type=int, default=1, metavar="N",
                      help="CPU threads (with a different number, results differ by rounding)")
    rest.add_argument("--device", default="cpu",
                      help="cpu, cuda, cuda:1 or mps (their random numbers differ)")
    rest.add_argument("--data-dir", type=Path, default=DEFAULT_DATA_DIR, metavar="DIR",
                      help="directory of the data set")
    # SUPPRESS: without this flag, args has no log_dir until parse_args() makes up a name.
    rest.add_argument("--log-dir", type=Path, default=argparse.SUPPRESS, metavar="DIR",
                      help="directory of the run (default: named after the flags, "
                           "e.g. runs/xavier-augment)")
    rest.add_argument("--resume", action="store_true",
                      help="continue from the checkpoint, if there is one")
    return parser


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read and check the flags; exit with code 2 and one line if one of them is wrong."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if not 0 <= args.dropout < 1:
        parser.error("--dropout must be at least 0 and below 1")
    largest = {"depth": 999, "hidden": 999_999, "examples": TRAIN_SIZE, "epochs": 999_999,
               "batch_size": 999_999, "threads": 999}
    for flag, most in largest.items():
        if not 1 <= getattr(args, flag) <= most:
            parser.error(f"--{flag.replace('_', '-')} must be at least 1 and at most {most}")
    if not 0 < args.lr <= 1e9:
        parser.error("--lr must be above 0 and at most 1e9")
    if args.patience < 0:
        parser.error("--patience must be at least 0")
    if not 0 <= args.seed < 100_000:  # train() relies on it
        parser.error("--seed must be at least 0 and below 100000")
    try:
        torch.ones(1, device=args.device).item()  # try it
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).splitlines()[0].split(". ")[0]  # the first sentence
        parser.error(f"--device {args.device} does not work here; try cpu, cuda, cuda:1 or mps "
                     f"({reason})")
    if "log_dir" not in args:
        args.log_dir = Path("runs", directory_name(args))
    # The shell expands "--log-dir ~/x", but not "--log-dir=~/x".
    args.log_dir = Path(os.path.expanduser(args.log_dir))
    if os.path.isfile(args.log_dir):
        parser.error(f"--log-dir {args.log_dir} is a file but must be a directory")
    if os.path.exists(args.log_dir / "checkpoint.pt") and not args.resume:
        parser.error(f"{args.log_dir} contains a run; use --resume to continue it, or another "
                     "--log-dir")
    return args


def settings_of(args: argparse.Namespace) -> dict:
    """Return the flags that define the experiment: {flag: value}.

    They are saved with the run. All but epochs must stay the same when the run is resumed.
    """
    others = ("threads", "device", "data_dir", "log_dir", "resume")
    return {flag: value for flag, value in vars(args).items() if flag not in others}


def default_settings() -> dict:
    """Return the settings of a command without flags."""
    return settings_of(make_parser().parse_args([]))


def directory_name(args: argparse.Namespace) -> str:
    """Return the initialisation and the non-default settings except epochs: e.g. xavier-lr0.5."""
    defaults = default_settings()
    words = ["vanilla" if args.init == "default" else args.init]  # the study's name for it
    for flag, value in settings_of(args).items():
        if flag in ("init", "epochs") or value == defaults[flag]:
            continue
        name = flag.replace("_", "-")
        words.append(name if value is True else f"{name}{value}")
    return "-".join(words)


def main(argv: list[str] | None = None) -> list[dict[str, float]]:
    """Train a network as the flags say; return its history, the metrics of each epoch."""
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    try:
        history = train(args)
        print_summary(args, history[-1])
    except OSError as error:  # no data set, a full disk, a directory that cannot be written to
        sys.exit(f"train.py: error: {error}")
    except KeyboardInterrupt:
        print("train.py: interrupted; rerun it with --resume to continue", file=sys.stderr)
        sys.exit(130)  # the usual exit code after Ctrl-C
    return history


if __name__ == "__main__":
    main()
