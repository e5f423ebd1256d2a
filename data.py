"""Fashion-MNIST as tensors: splits, variants for the augmentation, batches.

The whole data set lies in memory, 55 MB of uint8, and a batch is one indexing, augmented or not. To
transform one image at a time, the usual way, takes many times as long as the training itself.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.datasets.mnist import read_image_file, read_label_file

from download import DATASETS, find_dataset

VAL_SIZE = 5_000  # the last of the 60,000 training images, which are in random order


def load_splits(data_dir: Path = DATASETS, device: str = "cpu") -> dict[str, tuple[Tensor, Tensor]]:
    """Return {split: (images, labels)}: images uint8 (N, 28, 28), labels int64 (N,) from 0 to 9.

    train: 55,000 to learn from. train_clean: 10,000 of them, never augmented, to be evaluated like
    the others. val: 5,000 that decide when the learning rate falls. test: 10,000 that decide
    nothing. mirrored: these, half of them flipped left to right. Raises OSError without the files.
    """
    raw = find_dataset(data_dir)
    images = read_image_file(raw / "train-images-idx3-ubyte").to(device)
    labels = read_label_file(raw / "train-labels-idx1-ubyte").to(device)
    test_images = read_image_file(raw / "t10k-images-idx3-ubyte").to(device)
    test_labels = read_label_file(raw / "t10k-labels-idx1-ubyte").to(device)
    return {
        "train": (images[:-VAL_SIZE], labels[:-VAL_SIZE]),
        "train_clean": (images[:-VAL_SIZE][:10_000], labels[:-VAL_SIZE][:10_000]),
        "val": (images[-VAL_SIZE:], labels[-VAL_SIZE:]),
        "test": (test_images, test_labels),
        "mirrored": (mirror_half(test_images), test_labels),
    }


def mirror_half(images: Tensor) -> Tensor:
    """Return a copy of the images, uint8 (N, 28, 28), a fixed half of them mirrored."""
    generator = torch.Generator().manual_seed(0)  # its own: the same half whatever a run's seed
    half = torch.randperm(len(images), generator=generator)[::2]  # every second of a random order
    mirrored = images.clone()
    mirrored[half] = mirrored[half].flip(-1)
    return mirrored


def make_variants(images: Tensor) -> Tensor:
    """Return all 18 variants of each image: uint8 (N, 28, 28) -> (N, 2, 3, 3, 28, 28).

    variants[i, m, t, l] is image i, mirrored if m is 1, as seen through a window of 28 x 28 pixels
    whose top left corner is at row t, column l of the image with a rim of one black pixel: at
    (1, 1) the image itself, elsewhere the image shifted by a pixel.
    """
    both = torch.stack([images, images.flip(-1)], dim=1)  # (N, 2, 28, 28)
    padded = F.pad(both, (1, 1, 1, 1))  # (N, 2, 30, 30)
    # unfold: all windows of 28 rows, one step apart, then of columns; views, so nothing is copied
    return padded.unfold(2, 28, 1).unfold(3, 28, 1)


def ordered_batches(images: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the examples as they lie: images float32 (B, 28, 28) in [0, 1], labels int64 (B,)."""
    for batch_images, batch_labels in zip(images.split(1000), labels.split(1000)):  # any size does
        yield batch_images / 255, batch_labels


def shuffled_batches(images: Tensor, labels: Tensor, batch_size: int,
                     variants: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the examples likewise, but in a new random order; the last batch holds what is left.
    With variants, from make_variants, a random one of its 18 stands for each image."""
    for indices in torch.randperm(len(images), device=images.device).split(batch_size):
        if variants is None:
            batch_images = images.index_select(0, indices)  # images[indices], but faster
        else:
            mirrored = torch.randint(2, indices.shape, device=images.device)
            top, left = torch.randint(3, (2, *indices.shape), device=images.device)
            batch_images = variants[indices, mirrored, top, left]
        # To [0, 1]. Standardised, (x - mean 0.286) / std 0.353, the network learns faster, to loss
        # 0.185 instead of 0.235. But the losses of the study are those of pixels in [0, 1].
        yield batch_images / 255, labels[indices]
