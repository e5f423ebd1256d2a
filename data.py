"""Fashion-MNIST as tensors: the splits, the batches, the augmentation.

The study trains one small network five times: with different initial weights, with and without
augmentation, with and without dropout. The five commands are listed at the top of train.py. The
lesson is data.py, model.py, init.py and train.py, to be read in that order.

All images fit into memory (55 MB), so a batch is made by indexing. PyTorch's usual DataLoader reads
and transforms one image at a time, which takes several times as long as the training itself.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.datasets import FashionMNIST

from download import DEFAULT_DATA_DIR, find_dataset

VAL_SIZE = 5_000  # the last of the 60,000 training images
TRAIN_SIZE = 60_000 - VAL_SIZE
CLASSES = FashionMNIST.classes  # the ten names in the order of the labels: "T-shirt/top", ...


def load_splits(
    data_dir: Path = DEFAULT_DATA_DIR, device: str = "cpu", examples: int = TRAIN_SIZE
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return {split: (images, labels)}: images uint8 (N, 28, 28), labels int64 (N,) from 0 to 9.

    train: 55,000 images to learn from, or the first `examples` of them if that is less.
    train_clean: the first 10,000 of train. They are used for measuring and never augmented, so
        the loss on them can be compared between runs with and without augmentation.
    val: 5,000 other images. When the loss on them stops falling, the learning rate is reduced.
    test: 10,000 other images, never used for any decision.
    mirrored: the test images, half of them flipped left to right. In Fashion-MNIST nearly all shoes
        point left. Does a network recognise one that points right? The README has the answer.

    Raises OSError if the data set is not on disk and cannot be downloaded.
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
    """Return the images, uint8 (N, 28, 28), in an image file: 16 bytes of header, then pixels."""
    writable = bytearray(content)  # frombuffer() warns if given read-only bytes
    return torch.frombuffer(writable, dtype=torch.uint8, offset=16).view(-1, 28, 28)


def to_labels(content: bytes) -> Tensor:
    """Return the labels, int64 (N,), in a label file: 8 bytes of header, then a byte per label."""
    writable = bytearray(content)
    return torch.frombuffer(writable, dtype=torch.uint8, offset=8).long()


def mirror_half(images: Tensor) -> Tensor:
    """Return a copy of the images, uint8 (N, 28, 28), with a random half flipped left to right.

    It is the same half in every run, regardless of --seed.
    """
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(images), generator=generator)
    half = order[::2]  # every second index
    mirrored = images.clone()
    mirrored[half] = mirrored[half].flip(-1)
    return mirrored


def ordered_batches(images: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield all examples in order, for measuring.

    Each batch is images, float32 (B, 28, 28) in [0, 1], and labels, int64 (B,).
    """
    # The batch size does not matter for measuring; 1,000 is fast.
    for batch_images, batch_labels in zip(images.split(1000), labels.split(1000)):
        yield batch_images / 255, batch_labels


def shuffled_batches(
    images: Tensor, labels: Tensor, batch_size: int, variants: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield all examples once in a new random order, for one epoch of training.

    Each batch is images, float32 (B, 28, 28) in [0, 1], and labels, int64 (B,). B is batch_size,
    except that the last batch may be smaller. With variants, which come from
    make_variants(images), each image is replaced by one of its flipped and shifted variants, drawn
    at random.
    """
    for indices in torch.randperm(len(images), device=images.device).split(batch_size):
        if variants is None:
            batch_images = images.index_select(0, indices)  # images[indices], but much faster
        else:
            batch_images = draw_variants(variants, indices)
        yield batch_images / 255, labels.index_select(0, indices)


# The augmentation: each training image is flipped and shifted at random. There are 18 variants.
#
# Why it reduces overfitting. A network overfits when it memorises its training images: it learns
# details that only these images happen to have, which does not help with new ones. Without
# augmentation, the network sees each image 20 times in 20 epochs, always the same. With it, one of
# the image's 18 variants is drawn in every epoch; on average, each comes up about once. Memorising
# all of them is much harder, so the network has to rely more on features that survive the flips and
# shifts and that many images share. New images are likely to have them, too.
#
# What it costs. The network has the same number of weights, but has to fit 18 variants of each
# image, so it fits each of them less well.
#
# How it shows up in TensorBoard. Compared with the same run without augmentation, the curves
# "loss/train" and "loss/train_clean" are higher, and the curve "loss/gap" is lower. (The gap is the
# loss on val minus the loss on train_clean. It measures overfitting.) The accuracy on mirrored
# improves, because half of its images are flipped. The accuracy on val and test, which are not
# flipped, improves only if there was enough overfitting to reduce. In the five runs there is too
# little. With only 1,000 training images there is enough, as the README shows.


def make_variants(images: Tensor) -> Tensor:
    """Return all 2 * 3 * 3 = 18 variants of each image: uint8 (N, 2, 3, 3, 28, 28).

    images: uint8 (N, 28, 28). The variants of 55,000 images take 0.8 GB of memory.

    variants[i, mirror, y, x] is image i, flipped left to right if mirror is 1, and then shifted up
    by y - 1 pixels and left by x - 1 pixels. (Up by -1 means down by 1, for example.)

    All of these still show the same class. (Not every augmentation suits every data set: a flipped
    7 is not a 7.)
    """
    both = torch.stack([images, images.flip(-1)], dim=1)  # (N, 2, 28, 28)
    padded = F.pad(both, (1, 1, 1, 1))  # one black pixel on each side: (N, 2, 30, 30)
    variants = images.new_empty((len(images), 2, 3, 3, 28, 28))  # filled in below
    for y in range(3):
        for x in range(3):
            # The image is in rows 1 to 28 of padded. At y = 2, rows 2 to 29 are taken: the top row
            # of the image is cut off, and the other rows move up.
            variants[:, :, y, x] = padded[:, :, y:y + 28, x:x + 28]
    return variants


def draw_variants(variants: Tensor, indices: Tensor) -> Tensor:
    """Return a random variant of each of these images: indices (B,) -> uint8 (B, 28, 28)."""
    mirror = torch.randint(2, indices.shape, device=indices.device)  # 0 or 1 for each image
    y, x = torch.randint(3, (2, len(indices)), device=indices.device)  # a row of ys and one of xs
    return variants[indices, mirror, y, x]  # entry k is variants[indices[k], mirror[k], y[k], x[k]]
