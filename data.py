"""Fashion-MNIST as tensors: three splits, shuffled batches, augmentation.

No Dataset, no DataLoader, no workers: as uint8 the whole data set takes 55 MB and lies in memory
(or in the GPU's), so that one indexing shuffles, shifts or mirrors all images of an epoch. To
transform one image at a time, the usual way, takes many times as long as the training itself.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.datasets.mnist import read_image_file, read_label_file

from download import fetch

VAL_SIZE = 5_000  # of the 60,000 training images


def load_splits(data_dir: str | Path, device: str = "cpu") -> dict[str, tuple[Tensor, Tensor]]:
    """Return {"train": (images, labels), "val": ..., "test": ...}: 55,000, 5,000, 10,000 examples.

    images: uint8 (N, 28, 28), 0 is the black background; labels: int64 (N,), from 0 to 9.
    The files are found or fetched, and verified; raises Failure or OSError where that fails.
    """
    raw = fetch(data_dir)
    images = read_image_file(raw / "train-images-idx3-ubyte").to(device)
    labels = read_label_file(raw / "train-labels-idx1-ubyte").to(device)
    test_images = read_image_file(raw / "t10k-images-idx3-ubyte").to(device)
    test_labels = read_label_file(raw / "t10k-labels-idx1-ubyte").to(device)
    return {  # the file is in random order: its end is a fair sample
        "train": (images[:-VAL_SIZE], labels[:-VAL_SIZE]),
        "val": (images[-VAL_SIZE:], labels[-VAL_SIZE:]),
        "test": (test_images, test_labels),
    }


def augment(images: Tensor) -> Tensor:
    """Return the images shifted by up to one pixel in each direction and, half of them, mirrored.

    images: uint8 (N, 28, 28), left as they are. Every image draws its own shift and its own flip
    from torch's global generator; what a shift uncovers is background.
    """
    n, device = len(images), images.device
    # All nine shifts of every image, as a view that copies nothing: (N, 30, 30) -> (N, 3, 3, 28, 28)
    shifts = F.pad(images, (1, 1, 1, 1)).unfold(1, 28, 1).unfold(2, 28, 1)
    top, left = torch.randint(3, (2, n), device=device)  # corner of the window; (1, 1): no shift
    images = shifts[torch.arange(n, device=device), top, left]
    mirrored = torch.rand(n, device=device) < 0.5
    images[mirrored] = images[mirrored].flip(-1)
    return images


def draw_epoch(images: Tensor, labels: Tensor, augmented: bool) -> tuple[Tensor, Tensor]:
    """Return the examples of one epoch: each once, in a new random order, augmented if asked to.

    Shapes and dtypes stay: uint8 (N, 28, 28), int64 (N,). Draws from torch's global generator.
    """
    order = torch.randperm(len(images), device=images.device)
    images = images.index_select(0, order)  # the same as images[order], but twice as fast
    return augment(images) if augmented else images, labels[order]


def batches(images: Tensor, labels: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the examples in their order: float32 (B, 28, 28) in [0, 1] and int64 (B,).

    The last batch holds what is left. Pixels become floats here, a batch at a time: a float copy
    of the whole set would be four times as large and cost more than the shuffling.
    """
    for some_images, some_labels in zip(images.split(batch_size), labels.split(batch_size)):
        yield some_images / 255, some_labels
