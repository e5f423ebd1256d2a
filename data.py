"""Fashion-MNIST as tensors: the splits, the batches, the augmentation.

This is the first of the four files of the lesson: data.py, model.py, init.py, train.py. train.py
begins with the five runs that the study compares.

All images are kept in memory, 55 MB of uint8 (augmentation adds 99 MB), and a batch is made by
indexing. There is no torch DataLoader: the usual one reads and transforms one image at a time,
which takes several times as long as training a network this small.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.datasets import FashionMNIST

from download import DEFAULT_DATA_DIR, find_dataset

VAL_SIZE = 5_000  # the last of the 60,000 training images, which are not sorted by class
TRAIN_SIZE = 60_000 - VAL_SIZE
CLASSES = FashionMNIST.classes  # the ten names in the order of the labels: "T-shirt/top", ...


def load_splits(
    data_dir: Path = DEFAULT_DATA_DIR, device: str = "cpu", examples: int = TRAIN_SIZE
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return {split: (images, labels)}: images uint8 (N, 28, 28), labels int64 (N,) from 0 to 9.

    train: 55,000 images to learn from, or the first of them if examples is smaller.
    train_clean: the first 10,000 of train, for measuring. They are never augmented, so the loss on
        them can be compared between runs with and without augmentation or dropout.
    val: 5,000 other images. Their loss decides when the learning rate falls.
    test: 10,000 other images, never used for any decision.
    mirrored: the test images, half of them flipped left to right. A flipped shoe is still a shoe,
        but does a network know that if nearly all the shoes it has seen point left?

    Raises OSError if the data set is neither on the disk nor can be downloaded.
    """
    contents = find_dataset(data_dir)
    images = to_images(contents["train-images-idx3-ubyte"]).to(device)
    labels = to_labels(contents["train-labels-idx1-ubyte"]).to(device)
    test_images = to_images(contents["t10k-images-idx3-ubyte"]).to(device)
    test_labels = to_labels(contents["t10k-labels-idx1-ubyte"]).to(device)
    train_images = images[:-VAL_SIZE][:examples]
    train_labels = labels[:-VAL_SIZE][:examples]
    return {
        "train": (train_images, train_labels),
        "train_clean": (train_images[:10_000], train_labels[:10_000]),
        "val": (images[-VAL_SIZE:], labels[-VAL_SIZE:]),
        "test": (test_images, test_labels),
        "mirrored": (mirror_half(test_images), test_labels),
    }


def to_images(content: bytes) -> Tensor:
    """Return the images, uint8 (N, 28, 28), in the bytes of an image file.

    The file's 16 bytes of header are skipped: download.py has verified that it is the official one.
    """
    pixels = torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=16)
    return pixels.view(-1, 28, 28)


def to_labels(content: bytes) -> Tensor:
    """Return the labels, int64 (N,), in the bytes of a label file, which has 8 bytes of header."""
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=8).long()


def mirror_half(images: Tensor) -> Tensor:
    """Return a copy of the images, uint8 (N, 28, 28), with half of them flipped left to right.

    Half, so that shoes point left as often as right. It is the same half in every run.
    """
    generator = torch.Generator().manual_seed(0)  # independent of the run's seed
    half = torch.randperm(len(images), generator=generator)[::2]  # every second of a random order
    mirrored = images.clone()
    mirrored[half] = mirrored[half].flip(-1)
    return mirrored


def ordered_batches(images: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield all examples in order, for measuring.

    Each batch is images, float32 (B, 28, 28) in [0, 1], and labels, int64 (B,).
    """
    # The batch size does not affect what is measured; 1,000 is fast.
    for batch_images, batch_labels in zip(images.split(1000), labels.split(1000)):
        yield batch_images / 255, batch_labels


def shuffled_batches(
    images: Tensor, labels: Tensor, batch_size: int, variants: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield all examples once in a new random order, for one epoch of training.

    Each batch is images, float32 (B, 28, 28) in [0, 1], and labels, int64 (B,). B is batch_size,
    but the last batch may be smaller. If variants is given, from make_variants(images), each image
    is replaced by one of its variants, drawn at random.
    """
    for indices in torch.randperm(len(images), device=images.device).split(batch_size):
        if variants is None:
            batch_images = images[indices]
        else:
            batch_images = draw_variants(variants, indices)
        yield batch_images / 255, labels[indices]


# The augmentation.
#
# A network overfits when it learns its training images by heart: it fits details that only these
# images happen to have, so it gets better on them and no better, or even worse, on new ones. A
# network that hardly ever sees an image twice in the same form finds it harder to learn by heart.
# What it can learn is what all forms have in common, and that holds for new images, too. The price:
# it has 18 times as many images to fit with the same weights, so it fits each of them less well.
# In TensorBoard, loss/train and loss/train_clean rise and loss/gap, the measure of overfitting,
# falls. Whether the network gets better on new images depends on how much it overfitted before.


def make_variants(images: Tensor) -> Tensor:
    """Return all 18 variants of each image as a view, uint8 (N, 2, 3, 3, 28, 28).

    images: uint8 (N, 28, 28). variants[i, mirror, top, left] is image i, flipped left to right if
    mirror is 1, and moved by at most one pixel down or up (top) and right or left (left); [1, 1] is
    in place. Flipping and moving leave a garment a garment. Other data need another augmentation:
    a flipped digit, for instance, is no digit.
    """
    both = torch.stack([images, images.flip(-1)], dim=1)  # (N, 2, 28, 28)
    padded = F.pad(both, (1, 1, 1, 1))  # a black pixel on all sides: (N, 2, 30, 30)
    # A window of 28 x 28 pixels fits in there at 3 x 3 places. unfold() returns all of them without
    # copying a pixel: first the 3 ranges of rows, then in each of these the 3 ranges of columns.
    return padded.unfold(2, 28, 1).unfold(3, 28, 1)


def draw_variants(variants: Tensor, indices: Tensor) -> Tensor:
    """Return a random variant of each of these images: indices (B,) -> uint8 (B, 28, 28)."""
    mirror = torch.randint(2, indices.shape, device=indices.device)
    top, left = torch.randint(3, (2, len(indices)), device=indices.device)
    return variants[indices, mirror, top, left]
