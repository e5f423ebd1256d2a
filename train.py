"""Train one network on Fashion-MNIST and log to TensorBoard all that is worth seeing.

    python train.py                             # the run "vanilla", into runs/vanilla
    python train.py --init xavier --augment     # another, into runs/xavier-augment
    tensorboard --logdir runs                   # see both, overlaid

A run's directory holds a TensorBoard event file and checkpoint.pt, written after every epoch.
"""

import argparse
import io
import threading
import time
from pathlib import Path

from download import Failure, answer_signals, locked, run_script, write_whole

if __name__ == "__main__":  # already here, because importing torch takes seconds
    answer_signals("the same command with --resume goes on after the last finished epoch")

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams
from torchvision.datasets import FashionMNIST
from torchvision.utils import make_grid

from data import batches, draw_epoch, load_splits
from evaluate import SETTINGS, evaluate, load_checkpoint, markdown
from init import MODES, initialize
from model import MLP


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read and check the flags; exit with code 2 and one line if one of them is wrong."""
    parser = argparse.ArgumentParser(
        description="Train one network on Fashion-MNIST.", usage=argparse.SUPPRESS,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False)
    add = parser.add_argument
    add("--init", choices=MODES, default="default", help="weight initialisation")
    add("--augment", action="store_true", help="mirror and shift the training images at random")
    add("--dropout", type=float, default=0.0, metavar="P", help="share of hidden units to drop")
    add("--hidden", type=int, default=100, metavar="N", help="number of hidden units")
    add("--epochs", type=int, default=20, metavar="N", help="passes over the training images")
    add("--batch-size", type=int, default=128, metavar="N", help="images per optimizer step")
    add("--lr", type=float, default=0.2, metavar="X", help="learning rate at the start, above 0")
    add("--seed", type=int, default=0, metavar="N", help="decides all that is random")
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where to compute")
    add("--data-dir", type=Path, default="datasets", metavar="DIR", help="folder of the data set")
    add("--log-dir", type=Path, default=argparse.SUPPRESS, metavar="DIR",
        help="directory of the run (default: runs/ and the flags that differ from the defaults)")
    add("--resume", action="store_true", help="go on from the checkpoint, if there is one")
    args = parser.parse_args(argv)

    for flag, low, high in (("dropout", 0, 1), ("hidden", 1, 10**6), ("epochs", 1, 10**6),
                            ("batch_size", 1, 10**6), ("lr", 1e-30, 1e30), ("seed", 0, 2**32)):
        if not low <= (value := getattr(args, flag)) < high:  # false for nan, too
            parser.error(f"--{flag.replace('_', '-')} must be at least {low} and below {high}, "
                         f"got {value}")
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if args.device == "auto":
        args.device = next(device for device in there if there[device])
    if not there[args.device]:
        parser.error(f"--device {args.device} is not available here, use --device auto")

    args.run = run_name(args, parser)
    if "log_dir" not in args:
        args.log_dir = Path("runs", args.run + (f"-seed{args.seed}" if args.seed else ""))
    for flag, path in ("data", args.data_dir), ("log", args.log_dir):
        if path.exists() and not path.is_dir():
            parser.error(f"--{flag}-dir must be a directory, {path} is a file")
    names = {path.name.split(".")[0] for path in args.log_dir.glob("*")}
    if not args.resume and names & {"checkpoint", "events"}:  # the curves of two runs would mix
        parser.error(f"{args.log_dir} already holds a run; go on with --resume, "
                     "choose another --log-dir, or delete it")
    return args


def run_name(args: argparse.Namespace, parser: argparse.ArgumentParser) -> str:
    """Return a name for the settings but the seed: vanilla, xavier-augment, vanilla-lr0.05."""
    dropout = {0.0: "", 0.5: "dropout"}.get(args.dropout, f"dropout{args.dropout}")
    augment = "augment" if args.augment else ""
    parts = ["vanilla" if args.init == "default" else args.init, augment, dropout]
    for flag in ("hidden", "epochs", "batch_size", "lr"):
        if (value := getattr(args, flag)) != parser.get_default(flag):
            parts.append(f"{flag.replace('_', '-')}{value}")
    return "-".join(part for part in parts if part)


def train_epoch(model: nn.Module, criterion: nn.Module, optimizer: torch.optim.Optimizer,
                images: Tensor, labels: Tensor, batch_size: int) -> float:
    """Take one optimizer step per batch; return the mean loss over the examples, in nats.

    It is the loss that the optimizer saw: dropout on, images augmented, weights still changing.
    """
    model.train()
    total_loss = 0.0
    for some_images, some_labels in batches(images, labels, batch_size):
        optimizer.zero_grad()
        loss = criterion(model(some_images), some_labels)
        loss.backward()
        optimizer.step()
        total_loss += loss.detach() * len(some_labels)  # no .item() here: a GPU would have to wait
    return float(total_loss) / len(images)


def log_filters(writer: SummaryWriter, model: MLP, epoch: int) -> None:
    """Show the weights of the first 100 hidden units, each scaled to its largest: grey is 0."""
    filters = model.hidden.weight.detach()[:100].view(-1, 1, 28, 28)
    filters = filters / filters.abs().amax(dim=(2, 3), keepdim=True).clamp(min=1e-12)
    grid = make_grid(filters, nrow=10, padding=1, normalize=True, value_range=(-1, 1))
    writer.add_image("filters", grid, epoch)


def log_epoch(writer: SummaryWriter, model: MLP, metrics: dict[str, float], epoch: int) -> None:
    """Log the numbers of an epoch, its final weights and the gradients of its last batch."""
    for tag, value in metrics.items():
        writer.add_scalar(tag, value, epoch)
    for name, parameter in model.named_parameters():
        # 64 bins are twice what TensorBoard draws; the default of 1,500 takes five times as long.
        writer.add_histogram(f"weights/{name}", parameter, epoch, bins=64)
        writer.add_histogram(f"gradients/{name}", parameter.grad, epoch, bins=64)
    if epoch % 5 == 0:  # not more often: its PNG costs a fifth of an epoch
        log_filters(writer, model, epoch)


@torch.inference_mode()
def log_end(writer: SummaryWriter, model: MLP, images: Tensor, labels: Tensor,
            settings: dict, epoch: int) -> None:
    """Log what belongs to a finished run: test mistakes, confusion matrix, flags and HPARAMS."""
    model.eval()
    batch, _ = next(batches(images, labels, len(images)))
    confidence, predicted = model.probabilities(batch).max(dim=1)
    wrong = (predicted != labels).nonzero().squeeze(1)
    worst = wrong[confidence[wrong].argsort(descending=True)[:32]]
    if len(worst):
        writer.add_images("mistakes", images[worst].unsqueeze(1), epoch)
    counts = torch.bincount(labels * 10 + predicted, minlength=100).view(10, 10).tolist()
    classes = FashionMNIST.classes
    matrix = markdown(["true, predicted:", *classes], [[c, *row] for c, row in zip(classes, counts)])
    writer.add_text("confusion_matrix", matrix, epoch)
    writer.add_text("flags", markdown(["flag", "value"], settings.items()), epoch)
    # Not by SummaryWriter.add_hparams, which starts a second run in a subdirectory. (Zeros: only
    # the metrics' tags are looked at.)
    for summary in hparams(settings, {"loss/train": 0, "loss/test": 0, "accuracy/test": 0}):
        writer.file_writer.add_summary(summary, epoch)


def restore(path: Path, settings: dict, parts: dict) -> list[dict]:
    """Load the checkpoint into `parts`, return its history. Raises Failure if it does not fit."""
    saved = load_checkpoint(path)[0]["flags"]
    different = [f"--{flag.replace('_', '-')} was {saved[flag]} and is {settings[flag]}"
                 for flag in SETTINGS if flag != "epochs" and saved[flag] != settings[flag]]
    if different:
        raise Failure(f"{path.parent} holds a run with other flags ({', '.join(different)}); "
                      "repeat those or choose another --log-dir")
    return load_checkpoint(path, parts)[0]["history"]


def run(args: argparse.Namespace, splits: dict[str, tuple[Tensor, Tensor]]) -> list[dict]:
    """Train from the start or from the checkpoint; return the history: each epoch's metrics."""
    torch.manual_seed(args.seed)
    model = MLP(args.hidden, args.dropout)
    initialize(model, args.init)
    model.to(args.device)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=2)

    path = args.log_dir / "checkpoint.pt"
    settings = {flag: getattr(args, flag) for flag in SETTINGS}
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    # Without --resume, too: another process may have made it while this one was waiting for it.
    history = restore(path, settings, parts) if path.exists() else []
    if len(history) >= args.epochs:
        print(f"{args.log_dir}: finished already, {len(history)} epochs")
        return history
    size = sum(parameter.numel() for parameter in model.parameters())
    print(f"{args.log_dir}: {size:,} parameters, {len(splits['train'][1]):,} training images, "
          f"epochs {len(history) + 1} to {args.epochs} on {args.device}", flush=True)

    # What was logged of an epoch that the checkpoint does not hold is purged, and comes again.
    with SummaryWriter(args.log_dir, purge_step=len(history) + 1 if history else 0) as writer:
        if not history:
            log_filters(writer, model, 0)
        for epoch in range(len(history) + 1, args.epochs + 1):
            start = time.perf_counter()
            # All randomness of an epoch is a function of seed and epoch: a resumed run repeats an
            # uninterrupted one. The factor keeps the epochs of neighbouring seeds apart.
            torch.manual_seed(args.seed + 100_000 * epoch)
            images, labels = draw_epoch(*splits["train"], args.augment)
            if epoch == 1:
                writer.add_images("batch", images[:64].unsqueeze(1), epoch)
            train_loss = train_epoch(model, criterion, optimizer, images, labels, args.batch_size)
            val_loss, val_accuracy = evaluate(model, *splits["val"])
            test_loss, test_accuracy = evaluate(model, *splits["test"])  # nothing decides by it
            if not train_loss + val_loss < 1e6:  # nan, inf, or on the way: pure guessing costs 2.3
                raise Failure(f"{args.log_dir}: the loss is not finite, or absurd, in epoch {epoch} "
                              f"(train {train_loss:.3g}, val {val_loss:.3g}); start again with a "
                              f"lower --lr than {args.lr:g}")
            learning_rate = optimizer.param_groups[0]["lr"]
            metrics = {"loss/train": train_loss, "loss/val": val_loss, "loss/test": test_loss,
                       "accuracy/val": val_accuracy, "accuracy/test": test_accuracy,
                       "learning_rate": learning_rate}
            metrics |= {f"gradient_norm/{name}": parameter.grad.norm().item()
                        for name, parameter in model.named_parameters()}
            scheduler.step(val_loss)
            history.append(metrics)

            log_epoch(writer, model, metrics, epoch)
            if epoch == args.epochs:
                log_end(writer, model, *splits["test"], settings, epoch)
            writer.flush()  # before the checkpoint: what is in it is in TensorBoard, too
            buffer = io.BytesIO()
            torch.save({name: part.state_dict() for name, part in parts.items()} | {
                "run": args.run, "epoch": epoch, "history": history,
                "flags": settings | {"data_dir": str(args.data_dir.absolute())}}, buffer)
            write_whole(path, buffer.getvalue())
            norms = " ".join(f"{metrics[tag]:.3g}" for tag in metrics if "norm" in tag)
            print(f"epoch {epoch}/{args.epochs}: loss train {train_loss:.4f} val {val_loss:.4f} "
                  f"test {test_loss:.4f}, accuracy val {val_accuracy:.4f} test {test_accuracy:.4f}, "
                  f"lr {learning_rate:g}, gradient norms {norms}, {time.perf_counter() - start:.2f} s",
                  flush=True)
    return history


def main(argv: list[str] | None = None) -> list[dict]:
    """Train one run as the flags say; return the metrics of every epoch. Raises Failure."""
    args = parse_args(argv)
    splits = load_splits(args.data_dir, args.device)
    try:
        args.log_dir.mkdir(parents=True, exist_ok=True)
        with locked(args.log_dir):
            history = run(args, splits)
    except OSError as error:
        raise Failure(f"{args.log_dir} cannot be written: {error.strerror or error}") from error
    print(f"{args.log_dir}: final train loss {history[-1]['loss/train']:.4f}, "
          f"test accuracy {history[-1]['accuracy/test']:.4f}; "
          f"see it by: tensorboard --logdir {args.log_dir.parent}")
    return history


if __name__ == "__main__":
    # TensorBoard's writer works in a thread, whose errors reach us by flush(): print them once.
    threading.excepthook = lambda failure: None
    run_script(main)
