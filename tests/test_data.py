"""What data.py promises: the splits, the 18 variants of an image, the batches."""

from collections import Counter
from pathlib import Path
from unittest.mock import Mock

import numpy
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import data
from conftest import CONTENTS, REAL_VAL_SIZE, ROOT, assert_equal, idx_file, noise_images

SPLITS = ["train", "train_clean", "val", "test", "mirrored"]
AUGMENT = pytest.mark.parametrize("augment", [False, True], ids=["plain", "augmented"])


@pytest.fixture(autouse=True)
def home(monkeypatch) -> None:
    """In place of conftest's home: let the made-up data set be found without a file."""
    monkeypatch.setattr(data, "find_dataset", Mock(return_value=CONTENTS))


@pytest.fixture(scope="module")
def full_size() -> dict[str, torch.Tensor]:
    """Return images and labels as many as the official ones: 60,000 to train on, 10,000 to test."""
    images = noise_images(70_000)
    labels = (torch.arange(70_000) % 7).byte()
    return {
        "train-images-idx3-ubyte": images[:60_000],
        "train-labels-idx1-ubyte": labels[:60_000],
        "t10k-images-idx3-ubyte": images[60_000:],
        "t10k-labels-idx1-ubyte": labels[60_000:],
    }


@pytest.fixture(scope="module")
def splits(full_size) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return the splits of these many images."""
    contents = {name: idx_file(tensor) for name, tensor in full_size.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "find_dataset", Mock(return_value=contents))
        patch.setattr(data, "VAL_SIZE", REAL_VAL_SIZE)
        return data.load_splits()


def epoch_of(images, *, batch_size=128, augment=False, seed=0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the images and labels of one shuffled epoch. An image's label is its number."""
    variants = data.make_variants(images) if augment else None
    torch.manual_seed(seed)
    batches = data.shuffled_batches(images, torch.arange(len(images)), batch_size, variants)
    batch_images, batch_labels = zip(*batches)
    return torch.cat(batch_images), torch.cat(batch_labels)


def in_order(images) -> torch.Tensor:
    """Return the images as a network sees them in an evaluation, in their order."""
    return torch.cat([batch for batch, _ in data.ordered_batches(images, torch.zeros(len(images)))])


def eighteen_variants(image: numpy.ndarray) -> dict[str, numpy.ndarray]:
    """Return by hand all that an image may become: itself or its mirror image, each at 9 places."""
    variants = {}
    for name, picture in ("as it is", image), ("mirrored", image[:, ::-1]):
        framed = numpy.pad(picture, 1)  # one black pixel on each side
        for top in range(3):
            for left in range(3):
                window = framed[top:top + 28, left:left + 28]
                variants[f"{name}, down {1 - top}, right {1 - left}"] = window
    return variants


def drawn_variants(images: torch.Tensor, index: int, times: int) -> Counter:
    """Return how often each variant of an image came when it was drawn many times."""
    torch.manual_seed(0)
    drawn = data.draw_variants(data.make_variants(images), torch.full((times,), index))
    names = {}
    for name, variant in eighteen_variants(images[index].numpy()).items():
        names[variant.tobytes()] = name
    return Counter(names.get(image.numpy().tobytes(), "none of the 18") for image in drawn)


# The files.


def test_an_image_file_becomes_exactly_its_pixels():
    images = noise_images(3)
    assert_equal(data.to_images(idx_file(images)), images, "pixels")


def test_a_label_file_becomes_exactly_its_labels():
    labels = torch.tensor([9, 0, 1, 2, 3, 4, 5, 6, 7, 8])
    assert data.to_labels(idx_file(labels.byte())).tolist() == labels.tolist()


def test_images_are_bytes_and_labels_are_whole_numbers():
    images, labels = data.load_splits()["test"]
    assert [images.dtype, labels.dtype] == [torch.uint8, torch.int64]


def test_reading_the_data_set_warns_of_nothing(recwarn):
    """torch.frombuffer() warns of bytes that cannot be written to."""
    torch.set_warn_always(True)  # else torch warns once in a process
    data.load_splits()
    torch.set_warn_always(False)
    assert [str(warning.message) for warning in recwarn] == []


def test_the_data_set_is_looked_for_where_the_caller_says():
    data.load_splits(Path("elsewhere"))
    data.find_dataset.assert_called_once_with(Path("elsewhere"))


def test_the_data_set_is_looked_for_in_datasets_by_default():
    data.load_splits()
    data.find_dataset.assert_called_once_with(ROOT.resolve() / "datasets")


# The splits.


@pytest.mark.parametrize(
    "split, size",
    [("train", 55_000), ("train_clean", 10_000), ("val", 5_000), ("test", 10_000),
     ("mirrored", 10_000)],
    ids=SPLITS)
def test_each_split_has_its_size(splits, split, size):
    images, labels = splits[split]
    assert [len(images), len(labels)] == [size, size]


PARTS = pytest.mark.parametrize(
    "split, file, start, end",
    [("train", "train", 0, 55_000), ("train_clean", "train", 0, 10_000),
     ("val", "train", 55_000, 60_000), ("test", "t10k", 0, 10_000)],
    ids=SPLITS[:4])


@PARTS
def test_a_split_holds_images_in_the_order_of_the_file(
        splits, full_size, split, file, start, end):
    expected = full_size[f"{file}-images-idx3-ubyte"][start:end]
    assert_equal(splits[split][0], expected, f"{split}, images {start} to {end} of {file}")


@PARTS
def test_a_split_holds_labels_in_the_order_of_the_file(
        splits, full_size, split, file, start, end):
    expected = full_size[f"{file}-labels-idx1-ubyte"][start:end]
    assert_equal(splits[split][1], expected.long(), f"{split}, labels {start} to {end} of {file}")


def test_training_and_validation_share_no_image(splits):
    sets = {split: {image.numpy().tobytes() for image in splits[split][0]}
            for split in ("train", "val")}
    assert len(sets["train"] & sets["val"]) == 0


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_lies_on_the_device_that_is_asked_for(split):
    """The device "meta" computes nothing, but tells where it would have been done."""
    images, labels = data.load_splits(device="meta")[split]
    assert [images.device.type, labels.device.type] == ["meta", "meta"]


# The mirrored split.


def flipped_numbers(mirrored: torch.Tensor, images: torch.Tensor) -> list[int]:
    """Return the numbers of those images that are mirror images of the given ones."""
    return (mirrored == images.flip(-1)).flatten(1).all(dim=1).nonzero().flatten().tolist()


def test_half_of_split_mirrored_is_flipped_left_to_right(splits):
    assert len(flipped_numbers(splits["mirrored"][0], splits["test"][0])) == 5_000


def test_the_other_half_of_split_mirrored_is_as_in_test(splits):
    same = (splits["mirrored"][0] == splits["test"][0]).flatten(1).all(dim=1)
    assert int(same.sum()) == 5_000


def test_mirrored_images_keep_their_labels(splits):
    assert_equal(splits["mirrored"][1], splits["test"][1], "labels of mirrored and of test")


def test_the_mirrored_half_is_that_of_the_readmes_numbers(splits):
    """Another half would have other accuracies than the README, for which this one was flipped."""
    flipped = flipped_numbers(splits["mirrored"][0], splits["test"][0])
    assert (flipped[:6], sum(flipped)) == ([0, 1, 3, 4, 7, 9], 24_892_200)


def test_the_same_half_is_mirrored_whatever_the_seed():
    images = noise_images(300)
    torch.manual_seed(1)
    first = data.mirror_half(images)
    torch.manual_seed(2)
    assert_equal(data.mirror_half(images), first, "mirrored by seed 2 and by seed 1")


def test_loading_leaves_the_random_numbers_of_a_run_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    data.load_splits()
    assert_equal(torch.rand(3), expected, "the next random numbers")


def test_mirroring_leaves_the_given_images_alone():
    images = noise_images(300)
    data.mirror_half(images)
    assert_equal(images, noise_images(300), "images")


# The augmentation.


@pytest.mark.parametrize("index", [0, 1, 2], ids=["first", "middle", "last"])
def test_an_image_becomes_each_of_its_18_variants_and_no_other(index):
    images = noise_images(3)
    drawn = drawn_variants(images, index, times=1_000)
    missing = [name for name in eighteen_variants(images[index].numpy()) if name not in drawn]
    assert missing == [], "never drawn"
    assert drawn["none of the 18"] == 0


def test_black_moves_in_where_an_image_moves_away():
    white = torch.full((3, 28, 28), 255, dtype=torch.uint8)
    drawn = data.draw_variants(data.make_variants(white), torch.ones(1_000, dtype=torch.long))
    white_pixels = {int(image.count_nonzero()) for image in drawn}
    assert white_pixels == {28 * 28, 27 * 28, 27 * 27}  # as it is, moved straight, moved diagonally


def test_each_variant_is_drawn_about_equally_often():
    images = noise_images(2)
    counts = drawn_variants(images, 1, times=18_000)
    for name in eighteen_variants(images[1].numpy()):
        assert counts[name] == pytest.approx(1_000, abs=150), name  # 5 sigma


def test_each_image_of_a_batch_gets_a_variant_of_its_own():
    """One draw for the whole batch would be augmentation, too, but a poor one."""
    images = noise_images(1).repeat(100, 1, 1)
    drawn = data.draw_variants(data.make_variants(images), torch.arange(100))
    different = {image.numpy().tobytes() for image in drawn}
    assert len(different) > 9  # one draw of the mirror for all would leave 9 places


def test_variants_are_of_the_images_that_are_asked_for():
    """In a batch of its own order: each variant is one of its own image's 18."""
    images = noise_images(50)
    indices = torch.randperm(50)
    drawn = data.draw_variants(data.make_variants(images), indices)
    for index, image in zip(indices.tolist(), drawn):
        own = [variant.tobytes() for variant in eighteen_variants(images[index].numpy()).values()]
        assert image.numpy().tobytes() in own, f"image {index} became none of its variants"


def test_variants_take_little_memory():
    """They are views: two framed copies of each image, not a row of 840 pixels for each pixel."""
    images = noise_images(100)
    size = data.make_variants(images).untyped_storage().nbytes()
    assert size < 3 * images.numel()


def test_preparing_variants_leaves_the_images_alone():
    images = noise_images(10)
    data.make_variants(images)
    assert_equal(images, noise_images(10), "images")


# The batches.


def test_evaluation_sees_every_example_once_in_order():
    labels = torch.arange(2_300)
    batches = data.ordered_batches(noise_images(2_300), labels)
    seen = torch.cat([batch_labels for _, batch_labels in batches])
    assert seen.tolist() == list(range(2_300))


def test_evaluation_sees_pixels_from_0_to_1():
    images = noise_images(1_100)
    assert_equal(in_order(images), images.float() / 255, "pixels")


@AUGMENT
def test_an_epoch_holds_every_example_once(augment):
    _, labels = epoch_of(noise_images(300), augment=augment)
    times = Counter(labels.tolist())
    assert {label: times[label] for label in range(300) if times[label] != 1} == {}


@AUGMENT
def test_an_epochs_order_is_pytorchs_random_permutation(augment):
    _, labels = epoch_of(noise_images(300), augment=augment, seed=7)
    torch.manual_seed(7)
    assert labels.tolist() == torch.randperm(300).tolist()


@AUGMENT
def test_the_next_epoch_has_another_order(augment):
    images = noise_images(300)
    variants = data.make_variants(images) if augment else None
    first, second = (torch.cat([labels for _, labels in data.shuffled_batches(
        images, torch.arange(300), 128, variants)]) for _ in range(2))
    assert first.tolist() != second.tolist()


@AUGMENT
def test_the_same_seed_gives_the_same_epoch(augment):
    images = noise_images(300)
    first, _ = epoch_of(images, augment=augment, seed=5)
    second, _ = epoch_of(images, augment=augment, seed=5)
    assert_equal(second, first, "images of the second and of the first epoch")


def test_augmentation_leaves_the_order_of_a_seed_as_it_is():
    """So that runs with and without it differ in nothing else."""
    images = noise_images(300)
    _, plain = epoch_of(images, augment=False)
    _, augmented = epoch_of(images, augment=True)
    assert augmented.tolist() == plain.tolist()


def test_labels_stay_with_their_images():
    images = noise_images(300)
    shuffled, labels = epoch_of(images)
    assert_equal(shuffled, in_order(images)[labels], "images, by their labels")


def test_labels_stay_with_their_augmented_images():
    """Image number i is all of the brightness i, and a frame of black does not hide the middle."""
    images = torch.arange(200, dtype=torch.uint8).view(-1, 1, 1).repeat(1, 28, 28)
    shuffled, labels = epoch_of(images, augment=True)
    middles = shuffled[:, 14, 14]
    assert_equal(middles, in_order(images)[labels, 14, 14], "images, by their labels")


@AUGMENT
def test_training_sees_pixels_from_0_to_1(augment):
    pixels = (torch.arange(784) % 256).repeat(10, 1).view(10, 28, 28).byte()  # all values
    images, _ = epoch_of(pixels, augment=augment)
    assert images.unique().tolist() == pytest.approx([value / 255 for value in range(256)])


@AUGMENT
def test_images_reach_the_network_as_float32(augment):
    images, _ = epoch_of(noise_images(10), augment=augment)
    assert images.dtype == torch.float32


@AUGMENT
def test_the_last_batch_holds_what_is_left(augment):
    images = noise_images(300)
    variants = data.make_variants(images) if augment else None
    batches = data.shuffled_batches(images, torch.arange(300), 128, variants)
    assert [len(labels) for _, labels in batches] == [128, 128, 44]


def test_every_batch_is_augmented():
    images = noise_images(300)
    plain = in_order(images)
    variants = data.make_variants(images)
    for batch, numbers in data.shuffled_batches(images, torch.arange(300), 128, variants):
        same = (batch == plain[numbers]).flatten(1).all(dim=1).float().mean().item()
        assert same < 0.4, f"batch of {len(numbers)}: so many are as they were"  # 1/18 on average


class DevicesInUse(TorchDispatchMode):
    """Notes the devices of all tensors that are computed."""

    def __init__(self):
        super().__init__()
        self.found = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.found.add(result.device.type)
        return result


@AUGMENT
def test_batches_are_made_on_the_device_of_the_images(augment):
    """Looking at the batches alone would miss what is drawn on the CPU and then moved."""
    images = noise_images(300).to("meta")
    with DevicesInUse() as devices:
        variants = data.make_variants(images) if augment else None
        list(data.shuffled_batches(images, torch.arange(300, device="meta"), 128, variants))
    assert devices.found == {"meta"}
