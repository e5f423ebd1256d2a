import numpy
import torch

import data
import download
from conftest import idx, noise


def test_the_splits_are_cut_mirrored_and_batched_as_documented(home, monkeypatch):
    monkeypatch.setattr(data, "find_dataset", lambda data_dir: home)
    images, labels = noise(60_000), torch.arange(60_000) % 7
    test_images, test_labels = images[:10_000].flip(0), torch.arange(10_000) % 10
    for name, tensor in zip(download.FILES, (images, labels, test_images, test_labels)):
        (home / name).write_bytes(idx(tensor.byte()))
    parts = {"train": slice(55_000), "train_clean": slice(10_000), "val": slice(55_000, 60_000)}
    expected = {split: (images[part], labels[part]) for split, part in parts.items()} | {
        "test": (test_images, test_labels),
        "mirrored": (data.mirror_half(test_images), test_labels)}
    splits, on_meta = data.load_splits(), data.load_splits(device="meta")
    assert splits.keys() == on_meta.keys() == expected.keys()
    assert all(all(map(torch.equal, splits[split], pair)) for split, pair in expected.items())
    assert all(tensor.is_meta for pair in on_meta.values() for tensor in pair)
    assert [len(batch) for batch, _ in data.ordered_batches(*splits["val"])] == [1000] * 5


def test_the_same_half_of_the_images_is_mirrored_whatever_else_is_drawn():
    images, before, state = noise(1000), noise(1000), torch.manual_seed(3).get_state()
    mirrored = data.mirror_half(images)
    assert torch.equal(state, torch.get_rng_state()) and torch.equal(images, before)
    kept, flipped = ((mirrored == whole).flatten(1).all(1) for whole in (images, images.flip(2)))
    assert kept.sum() == flipped.sum() == 500 and (kept ^ flipped).all()
    assert 200 < flipped[:500].sum() < 300 and 200 < flipped[::2].sum() < 300  # from everywhere
    torch.rand(1)
    assert torch.equal(mirrored, data.mirror_half(images))


def draw(images, variants=None, seed=0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return an epoch's images and their numbers in the set, drawn in batches of 128."""
    torch.manual_seed(seed)
    batches = list(data.shuffled_batches(images, torch.arange(len(images)), 128, variants))
    assert [len(batch) for _, batch in batches] == [128] * 15 + [80]
    return tuple(map(torch.cat, zip(*batches)))


def test_an_epoch_holds_every_example_once_or_one_of_its_18_variants_in_the_order_of_the_seed():
    images = noise(2000)
    drawn, numbers = draw(images)
    assert torch.equal(numbers.sort().values, torch.arange(2000))
    assert torch.equal(drawn, images[numbers] / 255)  # every label stays with its image
    assert not torch.equal(draw(images, seed=1)[1], numbers)
    rimmed = torch.from_numpy(numpy.pad(images, ((0, 0), (1, 1), (1, 1))))
    references = torch.stack([whole[:, top:top + 28, left:left + 28]
        for whole in (rimmed, rimmed.flip(2)) for top in range(3) for left in range(3)], dim=1)
    variants = data.make_variants(images)
    assert torch.equal(variants.flatten(1, 3), references)
    assert variants.untyped_storage().nbytes() == 2000 * 2 * 30 * 30  # they are views
    drawn, same_numbers = draw(images, variants)
    assert torch.equal(same_numbers, numbers)  # runs of a seed see the same order
    found = (drawn.unsqueeze(1) == references[numbers] / 255).flatten(2).all(2)  # (2000, 18)
    assert found.sum(1).eq(1).all() and 930 < found[:, 9:].sum() < 1070  # half are mirrored
    assert found.sum(0).min() > 70 and found.sum(0).max() < 160  # 111 are expected
