"""Fashion-MNIST as tensors: the splits, the augmentation, the batches.

This repository repeats a study: five runs of one small network, 20 epochs each, that differ in the
initial weights (init.py), the augmentation of the training images (here) and dropout (model.py).
README.md tells what comes of it; data.py, init.py, model.py and train.py are how it is done.

The whole data set lies in memory, 55 MB of uint8, and a batch is made by indexing. The usual way,
to transform one image at a time, takes several times as long as the training itself.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from download import DEFAULT_DATA_DIR, find_dataset

VAL_SIZE = 5_000  # the last of the 60,000 training images, which are in random order


def load_splits(
    data_dir: Path = DEFAULT_DATA_DIR, device: str = "cpu"
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return {split: (images, labels)}: images uint8 (N, 28, 28), labels int64 (N,) from 0 to 9.

    train: 55,000 images to learn from.
    train_clean: the first 10,000 of them, measured as val and test are, without augmentation and
        dropout. So its loss can be compared between runs that differ in those. The gap, the loss
        on val minus the loss on train_clean, is how much worse a network does on new images than
        on images that it was trained on. A gap that grows is a sign of overfitting.
    val: 5,000 other images; their loss decides when the learning rate falls.
    test: 10,000 other images; they decide nothing.
    mirrored: the test images, half of them flipped left to right. A flipped shoe is a shoe. Does
        a network know that, if all the shoes that it has seen pointed left?

    Raises OSError if the data set is not on the disk and cannot be downloaded either.
    """
    contents = find_dataset(data_dir)
    images = to_images(contents["train-images-idx3-ubyte"]).to(device)
    labels = to_labels(contents["train-labels-idx1-ubyte"]).to(device)
    test_images = to_images(contents["t10k-images-idx3-ubyte"]).to(device)
    test_labels = to_labels(contents["t10k-labels-idx1-ubyte"]).to(device)
    train_images, train_labels = images[:-VAL_SIZE], labels[:-VAL_SIZE]
    return {
        "train": (train_images, train_labels),
        "train_clean": (train_images[:10_000], train_labels[:10_000]),
        "val": (images[-VAL_SIZE:], labels[-VAL_SIZE:]),
        "test": (test_images, test_labels),
        "mirrored": (mirror_half(test_images), test_labels),
    }


def to_images(content: bytes) -> Tensor:
    """Return the images, uint8 (N, 28, 28), of a file of images: 16 bytes of header, then pixels.

    The header can be skipped: download.py has checked that this is the official file, byte by byte.
    """
    pixels = torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=16)
    return pixels.view(-1, 28, 28)


def to_labels(content: bytes) -> Tensor:
    """Return the labels, int64 (N,), of a file of labels: 8 bytes of header, then a byte each."""
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=8).long()


def mirror_half(images: Tensor) -> Tensor:
    """Return a copy of the images, uint8 (N, 28, 28), a fixed half of them flipped sideways."""
    generator = torch.Generator().manual_seed(0)  # its own: the same half whatever a run's seed
    half = torch.randperm(len(images), generator=generator)[::2]  # every second of a random order
    mirrored = images.clone()
    mirrored[half] = mirrored[half].flip(-1)
    return mirrored


def make_variants(images: Tensor) -> Tensor:
    """Prepare the augmentation of images, uint8 (N, 28, 28), for draw_variants().

    An image has 18 variants: itself and its mirror image, each as it is or moved by one pixel in
    one of 8 directions. All get a frame of one black pixel, which makes them 30 x 30. A window of
    28 x 28 pixels fits into that at 3 x 3 places: in the middle it shows the image as it is, at
    the other places the image moved by a pixel.

    In memory, each line of a window begins 30 pixels after the line before it. So 28 * 30 = 840
    consecutive pixels hold the window: 28 pieces of 30, of which the first 28 pixels count. Number
    the pixels of all framed images, each image followed by its mirror image. Then entry p of the
    result is the 840 pixels from number p on; draw_variants() picks entries that begin where a
    window does. Entries overlap, but as views: they store no pixels, only where to look.
    """
    both = torch.stack([images, images.flip(-1)], dim=1)  # (N, 2, 28, 28)
    framed = F.pad(both, (1, 1, 1, 1))  # (N, 2, 30, 30)
    # An image's last window begins at its pixel 2 * 30 + 2 = 62. As 62 + 840 is 902, its stretch
    # ends with 2 pixels of the next image, and 2 are needed behind the last image, too.
    pixels = F.pad(framed.flatten(), (0, 2))
    return pixels.unfold(0, 28 * 30, 1)  # entry p is a view of pixels[p : p + 840]


def draw_variants(variants: Tensor, indices: Tensor) -> Tensor:
    """Return a random one of the 18 variants of each image: indices (B,) -> uint8 (B, 28, 28)."""
    device = indices.device
    mirror = torch.randint(2, indices.shape, device=device)  # 1: the mirror image
    top, left = torch.randint(3, (2, len(indices)), device=device)  # the place of the window
    # The number, among all pixels, of the window's first pixel: framed[index, mirror, top, left].
    first = ((indices * 2 + mirror) * 30 + top) * 30 + left
    rows = variants.index_select(0, first).view(-1, 28, 30)
    return rows[:, :, :28]  # the window shows 28 pixels of each row


def ordered_batches(images: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the examples as they lie: images float32 (B, 28, 28) in [0, 1], labels int64 (B,)."""
    for batch_images, batch_labels in zip(images.split(1000), labels.split(1000)):  # any size does
        yield batch_images / 255, batch_labels


def shuffled_batches(
    images: Tensor, labels: Tensor, batch_size: int, variants: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the examples likewise, but in a new random order; the last batch holds what is left.

    With variants, from make_variants(images), a random variant stands for each image. A mirror
    image of a garment is a garment; digits, say, would need another augmentation.
    """
    for indices in torch.randperm(len(images), device=images.device).split(batch_size):
        if variants is None:
            batch_images = images.index_select(0, indices)  # images[indices], but faster
        else:
            batch_images = draw_variants(variants, indices)
        # To [0, 1], as in the study. (Standardised pixels are an exercise in the README.)
        yield batch_images / 255, labels.index_select(0, indices)
