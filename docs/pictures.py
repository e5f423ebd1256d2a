"""Draw the README's pictures from finished runs: python docs/pictures.py [FOLDER]  (default: runs)

Needs matplotlib (pip install matplotlib) and the five runs of ./experiments.sh in FOLDER. It reads
their history in checkpoint.pt and TensorBoard's event files, and writes docs/*.png.
"""

import argparse
import io
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torchvision.utils import make_grid

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))
from data import load_splits

# Okabe and Ito's colours, which colour-blind people can tell apart; the dashes tell twins apart.
STYLES = {
    "vanilla": ("#000000", "--"), "zero": ("#999999", ":"), "xavier": ("#0072B2", "-"),
    "xavier-augment": ("#D55E00", "-"), "xavier-augment-dropout": ("#009E73", "-"),
}
TICKS = 1, 5, 10, 15, 20
LABELS = {"xavier-augment": "+ augment", "xavier-augment-dropout": "+ dropout"}


def label_ends(axes, ends: dict[str, float], gap: float) -> None:
    """Write each run's name beside the end of its curve, at least `gap` above the one below."""
    at = -float("inf")
    for run, end in sorted(ends.items(), key=lambda item: item[1]):
        at = max(end, at + gap)
        axes.text(20.4, at, LABELS.get(run, run), color=STYLES[run][0], va="center")


def draw_curves(histories: dict[str, list[dict[str, float]]]) -> None:
    """Draw training loss, test accuracy and mirrored accuracy of the four runs that learn."""
    figure, panels = plt.subplots(1, 3, figsize=(12, 4.2), layout="constrained")
    titles = {"loss/train": "training loss", "accuracy/test": "test accuracy",
              "accuracy/mirrored": "mirrored accuracy"}
    for axes, (tag, title) in zip(panels, titles.items()):
        ends = {}
        for run, history in histories.items():
            if run != "zero":
                values = [metrics[tag] for metrics in history]
                color, line = STYLES[run]
                axes.plot(range(1, len(values) + 1), values, line, color=color, linewidth=2)
                ends[run] = values[-1]
        low, high = (0.2, 0.9) if tag == "loss/train" else (0.68, 0.9)
        axes.set(title=title, xlabel="epoch", xlim=(1, 20), ylim=(low, high), xticks=TICKS)
        label_ends(axes, ends, (high - low) / 17)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("zero is off the scale: loss 2.3026 and accuracy 0.1000 in every epoch",
                     color="#666666", fontsize=11)
    figure.savefig(DOCS / "curves.png", dpi=100)


def draw_gradients(events: dict[str, EventAccumulator]) -> None:
    """Draw the norms of the last batch's gradient for each parameter of the network."""
    figure, panels = plt.subplots(1, 4, figsize=(12, 3.4), layout="constrained", sharey=True)
    names = "hidden.weight", "hidden.bias", "output.weight", "output.bias"
    for axes, name in zip(panels, names):
        for run in events:
            points = [(e.step, e.value) for e in events[run].Scalars(f"gradient_norm/{name}")]
            color, line = STYLES[run]
            axes.plot(*zip(*points), line, color=color, linewidth=2, label=run)
        axes.set(title=name, xlabel="epoch", xlim=(1, 20), xticks=TICKS)
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


def main(argv: list[str] | None = None) -> None:
    """Read the runs and write the pictures."""
    parser = argparse.ArgumentParser(description="Draw the README's pictures.")
    parser.add_argument("folder", type=Path, metavar="FOLDER", nargs="?", default="runs")
    folder = parser.parse_args(argv).folder
    plt.rcParams |= {"font.size": 12, "axes.titlesize": 12, "savefig.facecolor": "white"}
    draw_curves({run: torch.load(folder / run / "checkpoint.pt", weights_only=True)["history"]
                 for run in STYLES})
    events = {run: EventAccumulator(str(folder / run), {"images": 0, "scalars": 0}).Reload()
              for run in STYLES}
    draw_gradients(events)
    draw_pictures("filters.png", 1, 3.3, {
        f"{run}, {when} training": logged(events[run], "filters", index)
        for run in ("vanilla", "xavier") for when, index in (("before", 0), ("after", -1))})
    two_rows = (0, 0, 242, 62)  # of the eight
    splits = load_splits()
    test, mirrored = (make_grid(splits[split][0][:16].unsqueeze(1), nrow=8)[0]
                      for split in ("test", "mirrored"))
    draw_pictures("inputs.png", 2, 3.9, {
        "training images": logged(events["vanilla"], "inputs").crop(two_rows),
        "the same, augmented": logged(events["xavier-augment"], "inputs").crop(two_rows),
        "test images": test, "the same, half of them mirrored": mirrored})


if __name__ == "__main__":
    main()
