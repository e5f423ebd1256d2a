"""What a run logs to TensorBoard. Plumbing: not needed to follow the lesson.

Steps are epochs; step 0 is before training.

| tag                                 | what it shows                                              |
|-------------------------------------|------------------------------------------------------------|
| loss/train                          | mean over the epoch, as the optimizer saw it               |
| loss/..., accuracy/... of           | measured after the epoch, without augmentation or dropout  |
|   train_clean, val, test, mirrored  |                                                            |
| loss/gap                            | loss/val minus loss/train_clean                            |
| learning_rate                       | the rate in that epoch; it falls when loss/val stalls      |
| gradient_norm/..., gradients/...    | gradients of the epoch's last batch                        |
| weights/...                         | weights at step 0 and after each epoch                     |
| inputs                              | 64 training images as the network sees them                |
| filters                             | the weights of 36 hidden units                             |
| mistakes                            | the 12 test images it gets wrong most confidently          |
| confusion_matrix/test, .../mirrored | which class is mistaken for which                          |
| settings                            | flags, machine and versions of each start                  |
"""

import platform

import torch
import torchvision
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams
from torchvision.transforms.functional import pil_to_tensor, to_pil_image
from torchvision.utils import make_grid

from data import CLASSES, ordered_batches

FILTER_EPOCHS = (5, 10, 20, 50, 100, 200, 500)  # TensorBoard's slider shows only ten pictures
MAGNIFIED = 28 * 4  # side of a picture in "mistakes", in pixels: room for a caption below


def log_table(writer: SummaryWriter, tag: str, rows: list[list], epoch: int) -> None:
    """Log a table, column titles first, to the TEXT page, which renders Markdown."""
    rows = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    writer.add_text(tag, "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows), epoch)


def log_settings(
    writer: SummaryWriter, settings: dict, device: str, threads: int, epoch: int
) -> None:
    """Log the settings and whatever else affects the results, even if only their last digits."""
    machine = {"device": device, "threads": threads,
               "CPU instructions": torch.backends.cpu.get_cpu_capability()}
    if device.startswith("cuda"):
        machine["GPU"] = torch.cuda.get_device_name(device)
    versions = {"Python": platform.python_version(), "torch": torch.__version__,
                "torchvision": torchvision.__version__}
    rows = [["setting", "value"], *(settings | machine | versions).items()]
    log_table(writer, "settings", rows, epoch)


def log_filters(writer: SummaryWriter, model: nn.Module, epoch: int) -> None:
    """Log the weights of 36 hidden units as pictures: black is -0.3 or less, grey 0, white 0.3.

    A network whose first layer is not connected to all 784 pixels has no such pictures.
    """
    weights = next(model.parameters()).detach()
    if weights.dim() != 2 or weights.shape[1] != 28 * 28:
        return
    filters = weights[:36].view(-1, 1, 28, 28)
    grid = make_grid(filters, nrow=6, padding=1, normalize=True, value_range=(-0.3, 0.3))
    writer.add_image("filters", grid, epoch)


def log_weights(writer: SummaryWriter, model: nn.Module, epoch: int) -> None:
    """Log a histogram of the weights of each layer."""
    for name, parameter in model.named_parameters():
        if name.endswith("weight"):
            writer.add_histogram(f"weights/{name}", parameter, epoch, bins=64)


def log_start(writer: SummaryWriter, model: nn.Module, inputs: Tensor) -> None:
    """Log the initial weights and the inputs: images as the network sees them, (B, 28, 28)."""
    writer.add_image("inputs", make_grid(inputs.unsqueeze(1), nrow=8), 0)
    log_filters(writer, model, 0)
    log_weights(writer, model, 0)


def log_epoch(writer: SummaryWriter, model: nn.Module, metrics: dict, epoch: int) -> None:
    """Log the metrics, the weights after the epoch, and the gradients of its last batch.

    The last batch may be smaller than the others, which makes its gradients noisier.
    """
    for tag, value in metrics.items():
        writer.add_scalar(tag, value, epoch)
    log_weights(writer, model, epoch)
    for name, parameter in model.named_parameters():
        if parameter.grad is None:  # a frozen layer
            continue
        writer.add_scalar(f"gradient_norm/{name}", parameter.grad.norm(), epoch)
        if name.endswith("weight"):
            writer.add_histogram(f"gradients/{name}", parameter.grad, epoch, bins=64)
    if epoch in FILTER_EPOCHS:
        log_filters(writer, model, epoch)


@torch.inference_mode()
def log_end(writer: SummaryWriter, model: nn.Module, splits: dict, settings: dict, defaults: dict,
            epoch: int) -> None:
    """Log what only a finished run has: mistakes, confusion matrices, its line in HPARAMS."""
    if epoch not in FILTER_EPOCHS:  # otherwise log_epoch() has logged them
        log_filters(writer, model, epoch)
    model.eval()
    for split in "test", "mirrored":
        images, labels = splits[split]
        logits = torch.cat([model(batch) for batch, _ in ordered_batches(images, labels)])
        confidence, predicted = logits.softmax(dim=1).max(dim=1)
        log_confusion(writer, split, labels, predicted, epoch)
        if split == "test":
            log_mistakes(writer, images, labels, predicted, confidence, epoch)
    log_hparams(writer, settings, defaults, epoch)


def log_hparams(writer: SummaryWriter, settings: dict, defaults: dict, epoch: int) -> None:
    """Log the run's row on the HPARAMS page: what the study compares, and non-default settings."""
    compared = {"init": settings["init"], "augment": "yes" if settings["augment"] else "no",
                "dropout": settings["dropout"]}
    # No epochs: the page would keep showing the first number if the run is made longer.
    others = {flag: value for flag, value in settings.items()
              if flag not in compared and flag != "epochs" and value != defaults[flag]}
    # SummaryWriter.add_hparams() would create a second run for this. The first of the summaries is
    # left out: with it, the page would have the columns of one run; without it, those of all runs.
    _, *line = hparams(compared | others, {})
    for summary in line:
        writer.file_writer.add_summary(summary, epoch)


def log_confusion(
    writer: SummaryWriter, split: str, labels: Tensor, predicted: Tensor, epoch: int
) -> None:
    """Log how many images of each class (a row) were classified as each class (a column)."""
    counts = torch.bincount(labels * 10 + predicted, minlength=100).view(10, 10).tolist()
    rows = [["true \\ predicted", *range(10)]]  # numbers: ten names would be too wide for a screen
    for label, name in enumerate(CLASSES):
        rows.append([f"{label} {name}", *counts[label]])
    log_table(writer, f"confusion_matrix/{split}", rows, epoch)


def log_mistakes(
    writer: SummaryWriter, images: Tensor, labels: Tensor, predicted: Tensor, confidence: Tensor,
    epoch: int,
) -> None:
    """Log the 12 images that the network gets wrong most confidently, each with a caption."""
    wrong = (predicted != labels).nonzero().squeeze(1)
    most_confident = wrong[confidence[wrong].argsort(descending=True)[:12]]
    pictures = []
    for i in most_confident.tolist():
        caption = (f"true {CLASSES[labels[i]]}\npredicted {CLASSES[predicted[i]]}\n"
                   f"confidence {confidence[i]:.3f}")
        picture = Image.new("L", (MAGNIFIED, MAGNIFIED + 48))
        picture.paste(to_pil_image(images[i].cpu()).resize((MAGNIFIED, MAGNIFIED)))
        ImageDraw.Draw(picture).multiline_text((4, MAGNIFIED + 2), caption, fill="white")
        pictures.append(pil_to_tensor(picture))
    if pictures:  # a network could get all images right
        writer.add_image("mistakes", make_grid(pictures, nrow=3), epoch)
