"""Draw the README's pictures from finished runs: python docs/pictures.py

Needs matplotlib (pip install matplotlib), the five runs of ./experiments.sh in runs/, and those of
the README's chapter "What they are for" in purpose/. Reads their histories in checkpoint.pt and the
pictures and gradients in TensorBoard's event files; writes docs/*.png. Prints how the signal
through 20 layers changes.
"""

import io
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from torchvision.utils import make_grid

DOCS = Path(__file__).resolve().parent
RUNS, PURPOSE = DOCS.parent / "runs", DOCS.parent / "purpose"
sys.path.insert(0, str(DOCS.parent))
from data import load_splits
from init import initialize
from model import MLP

# Okabe and Ito's colours, which colour-blind people can tell apart; the dashes tell twins apart.
STYLES = {
    "vanilla": ("#000000", "--"), "zero": ("#777777", ":"), "xavier": ("#0072B2", "-"),
    "+ augment": ("#D55E00", "-"), "+ dropout": ("#009E73", "-"),
    "default": ("#000000", "--"), "kaiming": ("#CC79A7", "-"),
}
FIVE = {"vanilla": "vanilla", "zero": "zero", "xavier": "xavier", "+ augment": "xavier-augment",
        "+ dropout": "xavier-augment-dropout"}  # what a picture calls the runs


def history(run: Path) -> list[dict[str, float]]:
    """Return the metrics of each epoch of a run."""
    return torch.load(run / "checkpoint.pt", weights_only=True)["history"]


def draw_lines(axes, lines: dict[str, list[float]], title: str, xlabel: str = "epoch") -> None:
    """Draw a line for each name, values for x = 1, 2, ..., and write the name at the line's end.

    Names are moved up where they would overlap. Call it after the limits and scale of y are set.
    """
    to_pixels, from_pixels = axes.transData, axes.transData.inverted()
    heights = {}
    for name, values in lines.items():
        color, dashes = STYLES[name]
        axes.plot(range(1, len(values) + 1), values, dashes, color=color, linewidth=2)
        heights[name] = to_pixels.transform((0, values[-1]))[1]
    last = len(values)
    below = -float("inf")
    for name in sorted(heights, key=heights.get):
        below = max(heights[name], below + 17)  # in pixels
        y = from_pixels.transform((0, below))[1]
        axes.text(last * 1.03, y, name, color=STYLES[name][0], va="center")
    ticks = [1] + [tick for tick in (5, 10, 15, 20, 40, 60, 80) if tick <= last]
    axes.set(title=title, xlabel=xlabel, xlim=(1, last), xticks=ticks)
    draw_frame(axes)


def draw_frame(axes) -> None:
    """Draw a grid, and no frame at the top and on the right."""
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def draw_curves(learning: dict[str, list[dict[str, float]]]) -> None:
    """Draw the training loss, test accuracy and mirrored accuracy of the four runs that learn."""
    figure, panels = plt.subplots(1, 3, figsize=(12, 4.2), layout="constrained")
    titles = {"loss/train": "training loss", "accuracy/test": "accuracy on the test images",
              "accuracy/mirrored": "accuracy, half of them mirrored"}
    for axes, (tag, title) in zip(panels, titles.items()):
        lines = {name: [metrics[tag] for metrics in epochs] for name, epochs in learning.items()}
        axes.set_ylim((0.2, 0.9) if tag == "loss/train" else (0.68, 0.9))
        draw_lines(axes, lines, title)
    figure.supxlabel("zero is off the scale: loss 2.3026 and accuracy 0.1000 in every epoch",
                     color="#666666", fontsize=11)
    figure.savefig(DOCS / "curves.png", dpi=100)


def draw_overfitting(learning: dict[str, list[dict[str, float]]]) -> None:
    """Draw the gap of the four runs that learn, and losses of long runs at a constant rate."""
    figure, panels = plt.subplots(1, 4, figsize=(12, 4), layout="constrained")
    lines = {name: [metrics["loss/gap"] for metrics in epochs] for name, epochs in learning.items()}
    panels[0].set_ylim(-0.01, 0.08)
    draw_lines(panels[0], lines, "loss/gap of the five")
    long_runs = {"constant": "xavier", "constant-augment": "+ augment",
                 "constant-dropout": "+ dropout"}
    for axes, (run, style) in zip(panels[1:], long_runs.items()):
        color = STYLES[style][0]
        metrics = history(PURPOSE / run)
        clean = [m["loss/train_clean"] for m in metrics]
        val = [m["loss/val"] for m in metrics]
        epochs = range(1, len(metrics) + 1)
        axes.plot(epochs, val, "-", color=color, linewidth=1.5)
        axes.plot(epochs, clean, "--", color=color, linewidth=1.5)
        axes.fill_between(epochs, clean, val, color=color, alpha=0.15)
        axes.text(40, 0.47, "loss/val", color=color)
        axes.text(5, 0.065, "loss/train_clean", color=color)
        axes.set(title=run, xlabel="epoch", ylim=(0.05, 0.52),
                 xlim=(1, len(metrics)), xticks=(1, 20, 40, 60, 80))
        draw_frame(axes)
    figure.savefig(DOCS / "overfitting.png", dpi=100)


@torch.inference_mode()
def signal(mode: str, images: Tensor) -> list[float]:
    """Return the root mean square of the activations in each of 20 hidden layers at the start."""
    torch.manual_seed(0)
    model = MLP(depth=20)
    initialize(model, mode)
    activations = images.flatten(1)
    sizes = []
    for layer in model.hidden:
        activations = layer(activations).relu()
        sizes.append(float(activations.square().mean().sqrt()))
    return sizes


def draw_depth(images: Tensor) -> None:
    """Draw the signal through 20 layers, and what training makes of them."""
    modes = "default", "xavier", "kaiming"
    figure, panels = plt.subplots(1, 3, figsize=(12, 4.2), layout="constrained")
    signals = {mode: signal(mode, images) for mode in modes}
    for mode, sizes in signals.items():
        print(f"root mean square of the activations, {mode}: first hidden layer {sizes[0]:.2g}, "
              f"last {sizes[-1]:.2g}")
    panels[0].set(yscale="log", ylim=(1e-4, 2))
    draw_lines(panels[0], signals, "root mean square of activations", "layer, before training")
    runs = {mode: history(PURPOSE / f"depth-{mode}") for mode in modes}
    panels[1].set_ylim(0, 2.5)
    panels[2].set_ylim(0, 1)
    for axes, tag, title in ((panels[1], "loss/train", "training loss"),
                             (panels[2], "accuracy/test", "accuracy on the test images")):
        lines = {mode: [metrics[tag] for metrics in runs[mode]] for mode in modes}
        draw_lines(axes, lines, title)
    figure.savefig(DOCS / "depth.png", dpi=100)


def draw_gradients(events: dict[str, EventAccumulator]) -> None:
    """Draw the norms of the last batch's gradient for each parameter of the network."""
    figure, panels = plt.subplots(1, 4, figsize=(12, 3.4), layout="constrained", sharey=True)
    names = "hidden.0.weight", "hidden.0.bias", "output.weight", "output.bias"
    for axes, parameter in zip(panels, names):
        for name, run in FIVE.items():
            points = events[run].Scalars(f"gradient_norm/{parameter}")
            color, dashes = STYLES[name]
            axes.plot([point.step for point in points], [point.value for point in points], dashes,
                      color=color, linewidth=2, label=name)
        axes.set(title=parameter, xlabel="epoch", xlim=(1, 20), xticks=(1, 5, 10, 15, 20))
        axes.grid(alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
    figure.savefig(DOCS / "gradients.png", dpi=100)


def logged(events: EventAccumulator, tag: str, index: int = 0) -> Image.Image:
    """Return a picture that a run has logged."""
    return Image.open(io.BytesIO(events.Images(tag)[index].encoded_image_string))


def draw_pictures(name: str, rows: int, height: float, pictures: dict[str, Image.Image]) -> None:
    """Show pictures under their titles, the same number in each row."""
    columns = len(pictures) // rows
    figure, panels = plt.subplots(rows, columns, figsize=(12, height), layout="constrained")
    for axes, (title, picture) in zip(panels.flat, pictures.items()):
        axes.imshow(picture, cmap="gray")
        axes.set_title(title)
        axes.axis("off")
    figure.savefig(DOCS / name, dpi=80)


def main() -> None:
    """Read the runs and write the pictures."""
    plt.rcParams |= {"font.size": 12, "axes.titlesize": 12, "savefig.facecolor": "white"}
    splits = load_splits()
    learning = {name: history(RUNS / run) for name, run in FIVE.items() if run != "zero"}
    draw_curves(learning)
    draw_overfitting(learning)
    draw_depth(splits["train"][0][:1000] / 255)
    events = {run: EventAccumulator(str(RUNS / run), {"images": 0, "scalars": 0}).Reload()
              for run in FIVE.values()}
    draw_gradients(events)
    draw_pictures("filters.png", 1, 3.3, {
        f"{run}, {when} training": logged(events[run], "filters", index)
        for run in ("vanilla", "xavier") for when, index in (("before", 0), ("after", -1))})
    two_rows = (0, 0, 242, 62)  # of the eight
    test, mirrored = (make_grid(splits[split][0][:16].unsqueeze(1), nrow=8)[0]
                      for split in ("test", "mirrored"))
    draw_pictures("inputs.png", 2, 3.9, {
        "training images": logged(events["vanilla"], "inputs").crop(two_rows),
        "the same, augmented": logged(events["xavier-augment"], "inputs").crop(two_rows),
        "test images": test, "the same, half of them mirrored": mirrored})


if __name__ == "__main__":
    main()
