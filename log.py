"""What TensorBoard shows of a run. A step is an epoch, step 0 the start."""

import platform
from pathlib import Path

import torch
import torchvision
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams
from torchvision.datasets import FashionMNIST
from torchvision.transforms.functional import pil_to_tensor, to_pil_image
from torchvision.utils import make_grid

from data import ordered_batches

CLASSES = FashionMNIST.classes  # the ten names, in the order of the labels
MAGNIFIED = 28 * 4  # pixels of a mistake's side, room for a few words


def number_event_files(log_dir: Path) -> None:
    """Number the event files that earlier starts of a run have left, in the order of their names.

    TensorBoard reads them in that order, and new names begin with the time. So it would read a new
    file too early, and skip epochs, if the clock of this machine were behind that of the last one.
    """
    for number, path in enumerate(sorted(log_dir.glob("events.out.tfevents.*"))):
        path.rename(path.with_name(f"events.out.tfevents.{number:010}"))


def log_table(writer: SummaryWriter, tag: str, rows: list[list], epoch: int) -> None:
    """Show a table, its titles first, on the page TEXT, which understands Markdown."""
    rows = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    writer.add_text(tag, "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows), epoch)


def log_settings(
    writer: SummaryWriter, settings: dict, device: str, threads: int, epoch: int
) -> None:
    """Show what the numbers depend on: the settings and, for the last digits, the machine."""
    machine = {"device": device, "threads": threads, "Python": platform.python_version(),
               "torch": torch.__version__, "torchvision": torchvision.__version__}
    rows = [["setting", "value"], *(settings | machine).items()]
    log_table(writer, "settings", rows, epoch)


def log_filters(writer: SummaryWriter, model: nn.Module, epoch: int) -> None:
    """Show the weights of 36 hidden units on one scale: black -0.3 or less, grey 0, white 0.3."""
    weights = model.hidden[0].weight.detach()[:36]  # 784 to a unit, one for each pixel
    filters = weights.view(-1, 1, 28, 28)
    grid = make_grid(filters, nrow=6, padding=1, normalize=True, value_range=(-0.3, 0.3))
    writer.add_image("filters", grid, epoch)


def log_weights(writer: SummaryWriter, model: nn.Module, epoch: int) -> None:
    """Show how the weights of each layer are distributed."""
    for name, parameter in model.named_parameters():
        if name.endswith("weight"):
            writer.add_histogram(f"weights/{name}", parameter, epoch, bins=64)


def log_start(writer: SummaryWriter, model: nn.Module, inputs: Tensor) -> None:
    """Log what a run starts from; inputs: images as the network sees them, float32 (B, 28, 28)."""
    writer.add_image("inputs", make_grid(inputs.unsqueeze(1), nrow=8), 0)
    log_filters(writer, model, 0)
    log_weights(writer, model, 0)


def log_epoch(writer: SummaryWriter, model: nn.Module, metrics: dict, epoch: int) -> None:
    """Log metrics, the weights after the epoch and the gradients of its last batch.

    That batch holds what was left, so its gradients are noisy. A frozen layer has none.
    """
    for tag, value in metrics.items():
        writer.add_scalar(tag, value, epoch)
    log_weights(writer, model, epoch)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            writer.add_scalar(f"gradient_norm/{name}", parameter.grad.norm(), epoch)
            if name.endswith("weight"):
                writer.add_histogram(f"gradients/{name}", parameter.grad, epoch, bins=64)
    if epoch % 5 == 0:
        log_filters(writer, model, epoch)


@torch.inference_mode()
def log_end(
    writer: SummaryWriter, model: nn.Module, splits: dict, settings: dict, epoch: int
) -> None:
    """Log the mistakes and confusion matrices of a run that has ended, and its line in HPARAMS."""
    if epoch % 5 != 0:  # else log_epoch has done it
        log_filters(writer, model, epoch)
    model.eval()
    for split in "test", "mirrored":
        images, labels = splits[split]
        logits = torch.cat([model(batch) for batch, _ in ordered_batches(images, labels)])
        confidence, predicted = logits.softmax(dim=1).max(dim=1)  # here probabilities are wanted
        log_confusion(writer, split, labels, predicted, epoch)
        if split == "test":
            log_mistakes(writer, images, labels, predicted, confidence, epoch)
    # The page HPARAMS. (SummaryWriter.add_hparams would show it as a run of its own.)
    under_study = {flag: settings[flag] for flag in ("init", "augment", "dropout")}
    under_study["augment"] = "yes" if settings["augment"] else "no"
    metrics = dict.fromkeys(["accuracy/test", "loss/gap", "accuracy/mirrored"])
    for summary in hparams(under_study, metrics):
        writer.file_writer.add_summary(summary, epoch)


def log_confusion(
    writer: SummaryWriter, split: str, labels: Tensor, predicted: Tensor, epoch: int
) -> None:
    """Log how many images of each class (a row) were taken for which class (a column)."""
    counts = torch.bincount(labels * 10 + predicted, minlength=100).view(10, 10).tolist()
    rows = [["true \\ predicted", *range(10)]]  # numbers, since ten names are too wide for a screen
    for label, name in enumerate(CLASSES):
        rows.append([f"{label} {name}", *counts[label]])
    log_table(writer, f"confusion_matrix/{split}", rows, epoch)


def log_mistakes(
    writer: SummaryWriter, images: Tensor, labels: Tensor, predicted: Tensor, confidence: Tensor,
    epoch: int,
) -> None:
    """Log the 12 mistakes that the network is surest of, each with its words."""
    wrong = (predicted != labels).nonzero().squeeze(1)
    surest = wrong[confidence[wrong].argsort(descending=True)[:12]]
    pictures = []
    for i in surest.tolist():
        words = f"is {CLASSES[labels[i]]}\nsaid {CLASSES[predicted[i]]}\nsure {confidence[i]:.3f}"
        picture = Image.new("L", (MAGNIFIED, MAGNIFIED + 48))
        picture.paste(to_pil_image(images[i].cpu()).resize((MAGNIFIED, MAGNIFIED)))
        ImageDraw.Draw(picture).multiline_text((4, MAGNIFIED + 2), words, fill="white")
        pictures.append(pil_to_tensor(picture))
    if pictures:  # a network could be right about all images
        writer.add_image("mistakes", make_grid(pictures, nrow=3), epoch)
