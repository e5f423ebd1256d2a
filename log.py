"""What TensorBoard shows of a run. A step is an epoch; all runs have the same tags."""

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams
from torchvision.datasets import FashionMNIST
from torchvision.utils import make_grid

from data import ordered_batches


def log_table(writer: SummaryWriter, tag: str, rows: list[list], epoch: int) -> None:
    """Show a table, its titles first, on the page TEXT, which understands Markdown."""
    rows = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    writer.add_text(tag, "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows), epoch)


def log_filters(writer: SummaryWriter, model: nn.Module, epoch: int) -> None:
    """Show the weights of 36 hidden units on one scale: black -0.3 or less, grey 0, white 0.3."""
    filters = model.hidden.weight.detach()[:36].view(-1, 1, 28, 28)  # 784 weights: 28 x 28 pixels
    grid = make_grid(filters, nrow=6, padding=1, normalize=True, value_range=(-0.3, 0.3))
    writer.add_image("filters", grid, epoch)


def log_start(writer: SummaryWriter, model: nn.Module, inputs: Tensor, settings: dict) -> None:
    """Log what a run starts from; inputs: images as the network sees them, float32 (B, 28, 28)."""
    writer.add_image("inputs", make_grid(inputs.unsqueeze(1), nrow=8), 0)
    log_filters(writer, model, 0)
    # The page HPARAMS. (SummaryWriter.add_hparams would start a second run, in a subdirectory.)
    under_study = {flag: settings[flag] for flag in ("init", "augment", "dropout")}
    under_study["augment"] = "yes" if settings["augment"] else "no"
    metrics = dict.fromkeys(["loss/train", "accuracy/test", "accuracy/mirrored"])
    for summary in hparams(under_study, metrics):
        writer.file_writer.add_summary(summary, 0)


def log_epoch(writer: SummaryWriter, model: nn.Module, metrics: dict, epoch: int) -> None:
    """Log metrics, weights after the epoch, gradients of its last batch (88 images, so noisy)."""
    for tag, value in metrics.items():
        writer.add_scalar(tag, value, epoch)
    for name, parameter in model.named_parameters():
        writer.add_scalar(f"gradient_norm/{name}", parameter.grad.norm(), epoch)
        writer.add_histogram(f"weights/{name}", parameter, epoch, bins=64)
        writer.add_histogram(f"gradients/{name}", parameter.grad, epoch, bins=64)
    if epoch % 5 == 0:
        log_filters(writer, model, epoch)


@torch.inference_mode()
def log_end(writer: SummaryWriter, model: nn.Module, images: Tensor, labels: Tensor,
            settings: dict, epoch: int) -> None:
    """Log the 32 surest mistakes on images, uint8 (N, 28, 28), the confusion matrix, settings."""
    log_table(writer, "settings", [["flag", "value"], *settings.items()], epoch)
    if epoch % 5:  # else log_epoch has done it
        log_filters(writer, model, epoch)
    model.eval()
    logits = torch.cat([model(batch) for batch, _ in ordered_batches(images, labels)])
    confidence, predicted = logits.softmax(dim=1).max(dim=1)  # here probabilities are wanted
    wrong = (predicted != labels).nonzero().squeeze(1)
    worst = wrong[confidence[wrong].argsort(descending=True)[:32]]
    classes = FashionMNIST.classes
    words = [f"{classes[labels[i]]} → {classes[predicted[i]]}, {confidence[i]:.2f}" for i in worst]
    if words:
        writer.add_image("mistakes", make_grid(images[worst].unsqueeze(1), nrow=8), epoch)
    rows = [words[i:i + 8] for i in range(0, len(words), 8)]
    log_table(writer, "mistakes", [["true → predicted, confidence"] + [""] * 7, *rows], epoch)
    counts = torch.bincount(labels * 10 + predicted, minlength=100).view(10, 10).tolist()
    matrix = [[name, *row] for name, row in zip(classes, counts)]
    log_table(writer, "confusion_matrix", [["true \\ predicted", *classes], *matrix], epoch)
