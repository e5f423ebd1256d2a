"""What data.py promises: the splits, the batches, the 18 variants of an image."""

import hashlib
import inspect
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import data
import download
from conftest import ROOT, SPLITS, assert_equal, idx_file, noise_images

# pytest imports this file before any fixture runs, so this is still the true number, 5,000. Later,
# conftest.py's fixture data_dir replaces data.VAL_SIZE with a smaller one.
VAL_SIZE = data.VAL_SIZE


# The files


def test_an_image_file_becomes_its_pixels_as_uint8():
    images = noise_images(3)
    assert_equal(data.to_images(idx_file(images)), images, "pixels")


def test_a_label_file_becomes_its_labels_as_int64():
    labels = torch.tensor([9, 0, 1, 2, 3, 4, 5, 6, 7, 8])
    assert_equal(data.to_labels(idx_file(labels.byte())), labels, "labels")


def test_reading_the_files_causes_no_warning(recwarn):
    """torch.frombuffer() warns if it gets bytes that cannot be written to."""
    torch.set_warn_always(True)  # otherwise torch warns only once in a process
    data.to_images(idx_file(noise_images(3)))
    data.to_labels(idx_file(torch.zeros(3, dtype=torch.uint8)))
    torch.set_warn_always(False)
    assert [str(warning.message) for warning in recwarn] == []


def test_the_data_set_is_in_datasets_by_default():
    default = inspect.signature(data.load_splits).parameters["data_dir"].default
    assert default == ROOT / "datasets"


def test_the_classes_are_in_the_order_of_the_labels():
    assert list(data.CLASSES) == [
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
        "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


# The splits. Here the data set is noise, but it is as large as Fashion-MNIST.


@pytest.fixture(scope="module")
def large() -> Iterator[SimpleNamespace]:
    """60,000 images to train on, 10,000 to test on, their labels, and the directory of the files.

    download.py accepts only files with the right hashes. Until the tests of this file end, it has
    the hashes of the large files.
    """
    images = noise_images(70_000)
    # The labels count from 0 to 6 again and again. 55,000 and 60,000 are not multiples of 7, so
    # val and test start with other labels than train, and a split from a wrong place is noticed.
    labels = torch.arange(70_000) % 7
    files = {
        "train-images-idx3-ubyte": idx_file(images[:60_000]),
        "train-labels-idx1-ubyte": idx_file(labels[:60_000].byte()),
        "t10k-images-idx3-ubyte": idx_file(images[60_000:]),
        "t10k-labels-idx1-ubyte": idx_file(labels[60_000:].byte()),
    }
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as directory:
        patch.setattr(download, "FILES", hashes)
        patch.setattr(data, "VAL_SIZE", VAL_SIZE)
        for name, content in files.items():
            Path(directory, name).write_bytes(content)
        yield SimpleNamespace(images=images, labels=labels, directory=Path(directory))


@pytest.fixture(scope="module")
def splits(large) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """The splits of this data set."""
    return data.load_splits(large.directory)


def assert_split(split: str, splits: dict, large: SimpleNamespace, start: int, end: int) -> None:
    """Fail if a split is not the images and labels of the data set from start to end, in order."""
    images, labels = splits[split]
    assert_equal(images, large.images[start:end], f"images of {split}")
    assert_equal(labels, large.labels[start:end], f"labels of {split}")


def test_each_split_is_its_part_of_the_data_set(splits, large):
    """large.images are the 60,000 training images, then the 10,000 test images."""
    assert_split("train", splits, large, 0, 55_000)
    assert_split("train_clean", splits, large, 0, 10_000)
    assert_split("val", splits, large, 55_000, 60_000)
    assert_split("test", splits, large, 60_000, 70_000)


def test_examples_is_the_number_of_training_images(large):
    for examples, clean in (300, 300), (20_000, 10_000):
        splits = data.load_splits(large.directory, examples=examples)
        assert_split("train", splits, large, 0, examples)
        assert_split("train_clean", splits, large, 0, clean)


def test_examples_does_not_affect_the_other_splits(splits, large):
    """So the accuracy after training on few images can be compared with that after many."""
    few = data.load_splits(large.directory, examples=300)
    for split in "val", "test", "mirrored":
        assert_equal(few[split][0], splits[split][0], f"images of {split}")
        assert_equal(few[split][1], splits[split][1], f"labels of {split}")


def test_all_splits_are_on_the_requested_device(large):
    """The device "meta" stores no numbers, so it works on every computer."""
    loaded = data.load_splits(large.directory, device="meta")
    devices = {split: [part.device.type for part in loaded[split]] for split in loaded}
    assert devices == {split: ["meta", "meta"] for split in SPLITS}


# The mirrored split


def indices_where_equal(some: torch.Tensor, others: torch.Tensor) -> list[int]:
    """Return the indices of the images that are equal in both."""
    return (some == others).flatten(1).all(dim=1).nonzero().flatten().tolist()


def test_half_of_mirrored_is_flipped_and_half_is_as_in_test(splits):
    images, mirrored = splits["test"][0], splits["mirrored"][0]
    flipped = indices_where_equal(mirrored, images.flip(2))  # left to right
    unchanged = indices_where_equal(mirrored, images)
    assert [len(flipped), len(unchanged)] == [5_000, 5_000]


def test_mirrored_images_keep_their_labels(splits):
    assert_equal(splits["mirrored"][1], splits["test"][1], "labels")


def test_the_mirrored_half_is_fixed_whatever_the_seed(splits):
    """With a different half, the README's mirrored accuracies would be slightly different, too."""
    torch.manual_seed(3)
    images = splits["test"][0]
    flipped = indices_where_equal(data.mirror_half(images), images.flip(2))
    assert flipped[:6] == [0, 1, 3, 4, 7, 9]
    assert sum(flipped) == 24_892_200  # the sum of all 5,000 indices, as a checksum


def test_mirroring_does_not_affect_the_random_numbers_of_a_run():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    data.mirror_half(noise_images(10))
    assert_equal(torch.rand(3), expected, "the next random numbers")


# The batches for measuring


def test_ordered_batches_contain_every_example_in_order():
    images = noise_images(2_300)
    batch_images, batch_labels = zip(*data.ordered_batches(images, torch.arange(2_300)))
    assert torch.cat(batch_labels).tolist() == list(range(2_300))
    assert_equal(torch.cat(batch_images), images / 255, "images")


# The batches for training


def batches_of(images: torch.Tensor, augment: bool, batch_size: int = 128) -> list:
    """Return the batches of one epoch. The label of each image is its index."""
    variants = data.make_variants(images) if augment else None
    labels = torch.arange(len(images), device=images.device)
    return list(data.shuffled_batches(images, labels, batch_size, variants))


def epoch_of(images: torch.Tensor, augment: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return all images and all labels of one epoch, in the order in which training sees them."""
    batch_images, batch_labels = zip(*batches_of(images, augment))
    return torch.cat(batch_images), torch.cat(batch_labels)


# Each test in this section runs one epoch without augmentation, then one with it.


def test_an_epoch_is_a_random_permutation_given_by_the_seed():
    """It is the same with and without augmentation."""
    for augment in False, True:
        torch.manual_seed(7)
        _, labels = epoch_of(noise_images(300), augment)
        torch.manual_seed(7)
        assert labels.tolist() == torch.randperm(300).tolist(), f"augment={augment}"


def test_the_last_batch_is_what_remains():
    for augment in False, True:
        batches = batches_of(noise_images(300), augment, batch_size=128)
        sizes = [[len(images), len(labels)] for images, labels in batches]
        assert sizes == [[128, 128], [128, 128], [44, 44]], f"augment={augment}"


def test_each_label_stays_with_its_image():
    """All pixels of image i have the value i. Sorted by it, the labels must be 0, 1, 2, ..., 199.

    No shift can change the pixel in the middle.
    """
    images = torch.arange(200, dtype=torch.uint8).view(200, 1, 1).repeat(1, 28, 28)
    for augment in False, True:
        shuffled, labels = epoch_of(images, augment)
        by_value = shuffled[:, 14, 14].argsort()
        assert labels[by_value].tolist() == list(range(200)), f"augment={augment}"


def test_the_network_gets_pixels_from_0_to_1_as_float32():
    # An image that contains each value from 0 to 255 at least three times, in different rows and
    # columns, so that a shift loses none of them.
    every_value = (torch.arange(784) % 256).byte().view(1, 28, 28)
    for augment in False, True:
        images, _ = epoch_of(every_value, augment)
        assert_equal(images.unique(), torch.arange(256) / 255, f"pixels, augment={augment}")


def test_batches_are_drawn_on_the_device_of_the_images():
    """Numbers drawn on the CPU and then moved to a GPU would make training slow."""
    for augment in False, True:
        before = torch.get_rng_state()  # the state of the CPU's random numbers
        batches = batches_of(noise_images(300).to("meta"), augment)
        devices = {tensor.device.type for batch in batches for tensor in batch}
        assert devices == {"meta"}, f"augment={augment}"
        assert_equal(torch.get_rng_state(), before, f"the CPU's random state, augment={augment}")


# The augmentation: the variants


def test_variants_are_flipped_then_shifted_as_documented():
    """There are two images. Only the second has a white pixel, which shows where it was moved."""
    images = torch.zeros(2, 28, 28, dtype=torch.uint8)
    images[1, 10, 5] = 255  # row 10, column 5; flipped, column 22
    variants = data.make_variants(images)
    assert variants.shape == (2, 2, 3, 3, 28, 28)
    row_at_y = {0: 11, 1: 10, 2: 9}
    column_at_mirror_and_x = {(0, 0): 6, (0, 1): 5, (0, 2): 4,
                              (1, 0): 23, (1, 1): 22, (1, 2): 21}
    # nonzero() returns the six indices of each white pixel: one pixel in each variant of image 1.
    expected = [[1, mirror, y, x, row, column] for y, row in row_at_y.items()
                for (mirror, x), column in column_at_mirror_and_x.items()]
    assert sorted(variants.nonzero().tolist()) == sorted(expected)


def test_a_shift_moves_black_in_at_the_edge():
    white = torch.full((1, 28, 28), 255, dtype=torch.uint8)
    white_pixels = data.make_variants(white).count_nonzero(dim=(-1, -2))
    expected = torch.tensor([[27 * 27, 27 * 28, 27 * 27],
                             [28 * 27, 28 * 28, 28 * 27],
                             [27 * 27, 27 * 28, 27 * 27]])
    assert_equal(white_pixels, expected.expand(1, 2, 3, 3), "number of white pixels")


# The augmentation: the draw


def test_all_18_variants_of_an_image_are_equally_likely():
    """Here, each variant is a single number instead of 28 x 28 pixels, and all are different.

    The variants of image 0 are 0 to 17, those of image 1 are 18 to 35, and those of image 2 are 36
    to 53.
    """
    torch.manual_seed(0)
    variants = torch.arange(3 * 18).view(3, 2, 3, 3, 1, 1)
    indices = torch.full((18_000,), 1)  # a batch of image 1, repeated 18,000 times
    counts = data.draw_variants(variants, indices).flatten().bincount(minlength=54)
    expected = 18 * [0] + 18 * [1_000] + 18 * [0]
    # From 850 to 1,150: one standard deviation is 31.
    assert counts.tolist() == pytest.approx(expected, rel=0.15)


def test_augmentation_leaves_the_original_images_unchanged():
    """In load_splits(), train_clean shares memory with train, so a change would affect it."""
    images = noise_images(300)
    epoch_of(images, augment=True)
    assert_equal(images, noise_images(300), "images")


def test_an_epoch_draws_the_order_and_then_mirror_y_and_x_per_batch():
    """With the same draws in another order, a seed would not give the README's numbers."""
    images = noise_images(200)
    variants = data.make_variants(images)
    torch.manual_seed(7)
    first, second = batches_of(images, augment=True)
    torch.manual_seed(7)
    order = torch.randperm(200)
    for name, batch, indices in ("first", first, order[:128]), ("second", second, order[128:]):
        mirror = torch.randint(2, (len(indices),))
        y, x = torch.randint(3, (2, len(indices)))
        assert_equal(batch[0], variants[indices, mirror, y, x] / 255, f"images of {name} batch")
