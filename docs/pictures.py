"""Draw the README's pictures from finished runs: python docs/pictures.py

Needs matplotlib (pip install matplotlib) and finished runs in seeds/, few/, few3000/, few10000/,
few55000/ and depth/; the README has the commands. Curves are means over the available seeds; bands
are one standard deviation. Writes docs/*.png, and prints two results that results.py does not have:
the size of the signal in 20 layers, and what early stopping would have given.
"""

import re
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))
from checkpoint import read_checkpoint
from data import draw_variants, load_splits, make_variants
from init import initialize
from model import MLP
from results import spread

# Okabe and Ito's colours, which colour-blind people can tell apart; dashes separate similar curves.
BLACK, GREY, BLUE, RED = "#000000", "#777777", "#0072B2", "#D55E00"
GREEN, PINK, ORANGE = "#009E73", "#CC79A7", "#E69F00"
STYLES = {
    "vanilla": (BLACK, "--"), "zero": (GREY, "-"), "xavier": (BLUE, "-"),
    "xavier-augment": (RED, "-"), "xavier-augment-dropout": (GREEN, "-"),
    "default": (BLACK, "--"), "kaiming": (PINK, "-"),
    "plain": (BLUE, "-"), "dropout0.2": (ORANGE, "-"), "augment": (RED, "-"),
    "augment-dropout0.2": (GREEN, "-"),
}
FEW = ["plain", "dropout0.2", "augment", "augment-dropout0.2"]
FOLDERS = {1_000: "few", 3_000: "few3000", 10_000: "few10000", 55_000: "few55000"}  # by images


def find(folder: str, name: str) -> dict[int, Path]:
    """Return {seed: directory} of the runs in a folder with this name, ignoring -seed1."""
    found = {}
    for path in (ROOT / folder).rglob("checkpoint.pt"):
        if re.sub(r"-seed\d+$", "", path.parent.name) == name:
            found[read_checkpoint(path)["settings"]["seed"]] = path.parent
    if not found:
        sys.exit(f"pictures.py: error: there is no run {name} in {folder}/; the README has the "
                 "commands")
    return dict(sorted(found.items()))


def histories(folder: str, name: str) -> dict[int, list[dict[str, float]]]:
    """Return {seed: history} of these runs."""
    return {seed: read_checkpoint(directory / "checkpoint.pt")["history"]
            for seed, directory in find(folder, name).items()}


def values(folder: str, name: str, tag: str) -> Tensor:
    """Return a metric of these runs: (seeds, epochs)."""
    return torch.tensor([[metrics[tag] for metrics in history]
                         for history in histories(folder, name).values()])


def draw_frame(axes) -> None:
    """Draw a grid, and no frame at the top and on the right."""
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def draw_lines(axes, lines: dict[str, Tensor], title: str, xlabel: str = "epoch") -> None:
    """For each line, (seeds, steps), draw the mean over seeds, a band, and its name at the end.

    Names that would overlap are moved up. Call this after setting the limits and scale of y.
    """
    to_pixels, from_pixels = axes.transData, axes.transData.inverted()
    heights = {}
    for name, line in lines.items():
        color, dashes = STYLES[name]
        steps = range(1, line.shape[1] + 1)
        mean = line.mean(dim=0)
        axes.plot(steps, mean, dashes, color=color, linewidth=2)
        if len(line) > 1:
            std = line.std(dim=0)
            axes.fill_between(steps, mean - std, mean + std, color=color, alpha=0.12, linewidth=0)
        heights[name] = to_pixels.transform((0, float(mean[-1])))[1]
    last = len(steps)
    below = -float("inf")
    for name in sorted(heights, key=heights.get):
        below = max(heights[name], below + 20)  # in pixels
        y = from_pixels.transform((0, below))[1]
        text = name.replace("xavier-augment-dropout", "xavier-augment\n-dropout")
        axes.text(last * 1.03, y, text, color=STYLES[name][0], va="center", fontsize=11,
                  linespacing=0.9)
        below += 14 * text.count("\n")
    axes.set(title=title, xlabel=xlabel, xlim=(1, last), xticks=[1, *range(5, last + 1, 5)])
    draw_frame(axes)


def draw_curves() -> None:
    """Draw training loss, test accuracy and mirrored accuracy of the four runs that learn."""
    names = ["vanilla", "xavier", "xavier-augment", "xavier-augment-dropout"]
    figure, panels = plt.subplots(1, 3, figsize=(12, 4.2), layout="constrained")
    titles = {"loss/train": "loss/train", "accuracy/test": "accuracy/test",
              "accuracy/mirrored": "accuracy/mirrored"}
    for axes, (tag, title) in zip(panels, titles.items()):
        axes.set_ylim((0.2, 0.9) if tag == "loss/train" else (0.68, 0.9))
        draw_lines(axes, {name: values("seeds", name, tag) for name in names}, title)
    figure.supxlabel("zero is off the scale: loss 2.303 and accuracy 0.100 in every epoch",
                     color="#666666", fontsize=11)
    figure.savefig(DOCS / "curves.png", dpi=100)


def draw_gradients() -> None:
    """Draw the gradient norms of zero beside those of vanilla, seed 0."""
    figure, panels = plt.subplots(1, 4, figsize=(12, 3.2), layout="constrained")
    names = "hidden.0.weight", "hidden.0.bias", "output.weight", "output.bias"
    for name in "vanilla", "zero":
        events = EventAccumulator(str(find("seeds", name)[0]), {"scalars": 0}).Reload()
        for axes, parameter in zip(panels, names):
            points = events.Scalars(f"gradient_norm/{parameter}")
            color, dashes = STYLES[name]
            axes.plot([point.step for point in points], [point.value for point in points], dashes,
                      color=color, linewidth=2.5, label=name)
            axes.set(title=parameter, xlabel="epoch", xlim=(1, 20), xticks=(1, 5, 10, 15, 20))
            axes.set_ylim(bottom=-0.02 * axes.get_ylim()[1])
            draw_frame(axes)
    panels[0].set_ylabel("norm of the gradient")
    panels[0].legend()
    figure.savefig(DOCS / "gradients.png", dpi=100)


def draw_overfitting() -> None:
    """Draw the losses of the runs with 1,000 training images, and where loss/val is lowest."""
    figure, panels = plt.subplots(1, 4, figsize=(12, 3.8), layout="constrained", sharey=True)
    for axes, name in zip(panels, FEW):
        color = STYLES[name][0]
        clean = values("few", name, "loss/train_clean").mean(dim=0)
        val = values("few", name, "loss/val").mean(dim=0)
        epochs = range(1, len(val) + 1)
        axes.plot(epochs, val, "-", color=color, linewidth=1.5, label="loss/val")
        axes.plot(epochs, clean, "--", color=color, linewidth=1.5, label="loss/train_clean")
        axes.fill_between(epochs, clean, val, color=color, alpha=0.15, label="loss/gap")
        lowest = int(val.argmin())
        axes.plot(lowest + 1, val[lowest], "o", color="black", markerfacecolor="none",
                  markersize=9, markeredgewidth=2, label="lowest loss/val")
        axes.set(title=name, xlabel="epoch", ylim=(0, 1.2), xlim=(1, len(val)),
                 xticks=(1, 100, 200, 300, 400))
        axes.legend(loc="upper right", fontsize=9.5)
        draw_frame(axes)
    panels[0].set_ylabel("loss")
    figure.savefig(DOCS / "overfitting.png", dpi=100)


def stopped_early(history: list[dict[str, float]]) -> dict[str, float]:
    """Return the metrics after the epoch with the lowest loss/val."""
    return min(history, key=lambda metrics: metrics["loss/val"])


def gains(name: str) -> dict[int, Tensor]:
    """Return {number of images: the test accuracy of a run minus that of plain, (seeds,)}.

    Both are stopped early.
    """
    found = {}
    for n, folder in FOLDERS.items():
        plain, run = histories(folder, "plain"), histories(folder, name)
        found[n] = torch.tensor([
            stopped_early(run[seed])["accuracy/test"] - stopped_early(plain[seed])["accuracy/test"]
            for seed in run if seed in plain])
    return found


def draw_examples() -> None:
    """Draw what dropout and augmentation add to the test accuracy, by number of training images."""
    figure, axes = plt.subplots(figsize=(9, 4.4), layout="constrained")
    axes.axhline(0, color=BLUE, linewidth=1.5, label="plain")
    for shift, name in zip((0.97, 1, 1.03), FEW[1:]):  # side by side, so that no bar hides another
        found = gains(name)
        axes.errorbar([n * shift for n in found], [gain.mean() for gain in found.values()],
                      [gain.std() for gain in found.values()], fmt="o-", capsize=4,
                      color=STYLES[name][0], label=name)
    axes.set(title="each run stopped at its lowest loss/val", xlabel="training images",
             ylabel="accuracy/test minus that of plain", xscale="log", xticks=list(FOLDERS))
    axes.set_xticklabels([f"{n:,}" for n in FOLDERS])
    axes.minorticks_off()
    axes.legend(loc="lower left")
    draw_frame(axes)
    figure.savefig(DOCS / "examples.png", dpi=100)


def print_early_stopping() -> None:
    """Print what dropout and augmentation add if each run is stopped at its lowest loss/val."""
    for name in FEW[1:]:
        for n, gain in gains(name).items():
            print(f"{name}, {n} images, stopped early: {spread(gain.tolist(), '+')}, "
                  f"higher in {int((gain > 0).sum())} of {len(gain)}")


@torch.inference_mode()
def signal(mode: str, images: Tensor, seed: int) -> list[float]:
    """Return the root mean square of the activations in each of 20 hidden layers at the start."""
    torch.manual_seed(seed)
    model = MLP(depth=20)
    initialize(model, mode)
    activations = images.flatten(1)
    sizes = []
    for layer in model.hidden:
        activations = layer(activations).relu()
        sizes.append(float(activations.square().mean().sqrt()))
    return sizes


def draw_depth(images: Tensor) -> None:
    """Draw the signal in 20 layers, and the loss and accuracy of training them."""
    modes = "default", "xavier", "kaiming"
    figure, panels = plt.subplots(1, 3, figsize=(12, 4.2), layout="constrained")
    signals = {mode: torch.tensor([signal(mode, images, seed) for seed in range(5)])
               for mode in modes}
    for mode, sizes in signals.items():
        first, last = sizes[:, 0].mean(), sizes[:, -1].mean()
        print(f"root mean square of the activations, {mode}: first hidden layer {first:.2g}, "
              f"last {last:.2g}")
    panels[0].set(yscale="log", ylim=(1e-4, 2))
    draw_lines(panels[0], signals, "size of the activations, untrained", "hidden layer")
    panels[1].set_ylim(0, 2.5)
    panels[2].set_ylim(0, 1)
    for axes, tag in (panels[1], "loss/train"), (panels[2], "accuracy/test"):
        draw_lines(axes, {mode: values("depth", mode, tag) for mode in modes}, tag)
    figure.savefig(DOCS / "depth.png", dpi=100)


def draw_filters() -> None:
    """Draw the weights of 36 hidden units of xavier, seed 0, before and after training."""
    torch.manual_seed(0)
    model = MLP()
    initialize(model, "xavier")
    trained = read_checkpoint(find("seeds", "xavier")[0] / "checkpoint.pt")["model"]
    figure, panels = plt.subplots(1, 2, figsize=(12, 6.2), layout="constrained")
    for axes, weights, title in (
            (panels[0], model.hidden[0].weight.detach(), "xavier, before training"),
            (panels[1], trained["hidden.0.weight"], "xavier, after training")):
        rows = weights[:36].view(6, 6, 28, 28).transpose(1, 2).reshape(6 * 28, 6 * 28)
        axes.imshow(rows, cmap="gray", vmin=-0.3, vmax=0.3)
        axes.set_title(title)
        axes.set(xticks=[28 * i - 0.5 for i in range(7)], yticks=[28 * i - 0.5 for i in range(7)],
                 xticklabels=[], yticklabels=[])
        axes.grid(color="black", linewidth=1)
        axes.tick_params(length=0)
    figure.savefig(DOCS / "filters.png", dpi=80)


def draw_inputs(splits: dict) -> None:
    """Draw training images plain and augmented, test images plain and mirrored.

    The flipped ones get a frame.
    """
    images, _ = splits["train"]
    variants = make_variants(images)
    torch.manual_seed(0)
    indices = torch.randperm(len(images))[:16]
    augmented = draw_variants(variants, indices)
    # An augmented image is a flipped one if it is one of the nine flipped variants of its image.
    flipped_variants = variants[indices, 1].flatten(1, 2)  # (16, 9, 28, 28)
    flipped = (augmented.unsqueeze(1) == flipped_variants).flatten(2).all(dim=2).any(dim=1)
    test, mirrored = splits["test"][0][:16], splits["mirrored"][0][:16]
    nothing = torch.zeros(16, dtype=torch.bool)
    figure, panels = plt.subplots(2, 2, figsize=(12, 3.9), layout="constrained")
    for axes, pictures, framed, title in (
            (panels[0, 0], images[indices], nothing, "training images"),
            (panels[0, 1], augmented, flipped, "the same, augmented"),
            (panels[1, 0], test, nothing, "test images"),
            (panels[1, 1], mirrored, (test != mirrored).flatten(1).any(dim=1),
             "the same, half of them mirrored")):
        rows = pictures.view(2, 8, 28, 28).transpose(1, 2).reshape(2 * 28, 8 * 28)
        axes.imshow(rows, cmap="gray")
        for i in framed.nonzero().flatten().tolist():
            corner = 28 * (i % 8), 28 * (i // 8)
            axes.add_patch(plt.Rectangle(corner, 27, 27, fill=False, color=ORANGE, linewidth=1.5))
        axes.set_title(title)
        axes.axis("off")
    figure.savefig(DOCS / "inputs.png", dpi=80)


def main() -> None:
    """Read the runs and write the pictures."""
    plt.rcParams |= {"font.size": 12, "axes.titlesize": 12, "savefig.facecolor": "white"}
    splits = load_splits()
    draw_curves()
    draw_gradients()
    draw_filters()
    draw_inputs(splits)
    draw_depth(splits["train"][0][:1000] / 255)
    draw_overfitting()
    draw_examples()
    print_early_stopping()


if __name__ == "__main__":
    main()
