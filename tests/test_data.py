import numpy
import torch
from torchvision.transforms.functional import to_tensor

import data
import download
from conftest import idx, noise


def variants_by_slicing(images: torch.Tensor) -> torch.Tensor:
    """Return the 18 variants of each image, made in numpy: (N, 2, 3, 3, 28, 28)."""
    variants = numpy.zeros((len(images), 2, 3, 3, 28, 28), numpy.uint8)
    cuts = (slice(1, 28), slice(27)), (slice(28), slice(28)), (slice(27), slice(1, 28))  # to, from
    for mirrored, sources in enumerate((images.numpy(), images.numpy()[:, :, ::-1])):
        for top, (rows, source_rows) in enumerate(cuts):
            for left, (columns, source_columns) in enumerate(cuts):
                cut = sources[:, source_rows, source_columns]
                variants[:, mirrored, top, left, rows, columns] = cut
    return torch.from_numpy(variants)


def test_the_splits_are_cut_and_mirrored_as_documented(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "find_dataset", lambda data_dir: tmp_path)
    images, labels = torch.zeros(60_000, 28, 28, dtype=torch.uint8), torch.arange(60_000) // 6_000
    images[:, 0, 0], images[:, 0, 1] = torch.arange(60_000) % 256, torch.arange(60_000) // 256
    test_images, test_labels = noise(10_000), torch.arange(10_000) % 10
    for name, tensor in zip(download.FILES, (images, labels, test_images, test_labels)):
        (tmp_path / name).write_bytes(idx(tensor.byte()))
    parts = {"train": slice(55_000), "train_clean": slice(10_000), "val": slice(55_000, 60_000)}
    expected = {split: (images[part], labels[part]) for split, part in parts.items()}
    expected["test"] = test_images, test_labels
    expected["mirrored"] = data.mirror_half(test_images), test_labels
    splits = data.load_splits()
    assert list(splits) == list(expected)
    for split, pair in expected.items():
        assert all(torch.equal(one, other) for one, other in zip(splits[split], pair))
    on_meta = data.load_splits(device="meta")
    assert {tensor.device.type for pair in on_meta.values() for tensor in pair} == {"meta"}


def test_the_same_half_of_the_images_is_mirrored_whatever_else_is_drawn():
    images, before, state = noise(1000), noise(1000), torch.manual_seed(3).get_state()
    mirrored = data.mirror_half(images)
    assert torch.equal(state, torch.get_rng_state()) and torch.equal(images, before)
    kept = (mirrored == images).flatten(1).all(1)
    flipped = (mirrored == images.flip(2)).flatten(1).all(1)
    assert kept.sum() == flipped.sum() == 500 and (kept ^ flipped).all()
    assert 200 < flipped[:500].sum() < 300 and 200 < flipped[::2].sum() < 300  # from everywhere
    torch.rand(1)
    assert torch.equal(mirrored, data.mirror_half(images))


def test_ordered_batches_hold_what_totensor_makes():
    images, labels = noise(2500), torch.arange(2500)
    batch_images, batch_labels = zip(*data.ordered_batches(images, labels))
    assert [len(batch) for batch in batch_images] == [1000, 1000, 500]
    expected = torch.cat([to_tensor(image.numpy()) for image in images])
    assert torch.equal(torch.cat(batch_images), expected)
    assert torch.equal(torch.cat(batch_labels), labels)


def draw(images, variants=None, batch_size=128, seed=0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return an epoch's images and their numbers in the set; check the sizes of its batches."""
    torch.manual_seed(seed)
    labels = torch.arange(len(images))
    batches = list(data.shuffled_batches(images, labels, batch_size, variants))
    assert [len(batch) for _, batch in batches] == [len(part) for part in labels.split(batch_size)]
    return tuple(map(torch.cat, zip(*batches)))


def test_an_epoch_holds_every_example_once_in_an_order_that_the_seed_decides():
    images = noise(500)
    drawn, numbers = draw(images)
    assert torch.equal(numbers.sort().values, torch.arange(500))
    assert torch.equal(drawn, images[numbers] / 255)  # every label stays with its image
    assert torch.equal(draw(images, batch_size=999)[1], numbers)
    assert not torch.equal(draw(images, seed=1)[1], numbers)


def test_augmentation_keeps_the_order_and_draws_one_of_the_18_variants_of_each_image():
    images, references = noise(2000), variants_by_slicing(noise(2000))
    variants = data.make_variants(images)
    assert torch.equal(variants, references)
    assert variants.untyped_storage().nbytes() == 2000 * 2 * 30 * 30  # they are views
    drawn, numbers = draw(images, variants)
    assert torch.equal(numbers, draw(images)[1])  # runs of a seed see the same order
    found = drawn.unsqueeze(1) == references[numbers].flatten(1, 3) / 255
    found = found.flatten(2).all(2)  # (2000, 18)
    assert found.sum(1).eq(1).all() and 930 < found[:, 9:].sum() < 1070  # half are mirrored
    assert found.sum(0).min() > 70 and found.sum(0).max() < 160  # 111 are expected
