import numpy
import torch

import data
import download
from conftest import idx, noise


def test_the_splits_are_cut_and_the_same_half_is_mirrored_whatever_else_is_drawn(home, monkeypatch):
    monkeypatch.setattr(data, "find_dataset", lambda data_dir: home)
    official = noise(60_000), torch.arange(60_000) % 7
    test = noise(10_000).flip(0), torch.arange(10_000) % 10
    for name, tensor in zip(download.FILES, (*official, *test)):
        (home / name).write_bytes(idx(tensor.byte()))
    parts = {"train": slice(55_000), "train_clean": slice(10_000), "val": slice(55_000, 60_000)}
    expected = {split: [tensor[part] for tensor in official] for split, part in parts.items()}
    expected |= {"test": test, "mirrored": (data.mirror_half(test[0]), test[1])}
    state, splits = torch.get_rng_state(), data.load_splits()
    assert torch.equal(state, torch.get_rng_state()) and splits.keys() == expected.keys()
    for split, on_meta in data.load_splits(device="meta").items():
        assert all(map(torch.equal, splits[split], expected[split]))
        assert all(tensor.is_meta for tensor in on_meta)
    kept, flipped = ((expected["mirrored"][0] == images).flatten(1).all(1)
                     for images in (test[0], test[0].flip(2)))
    assert kept.sum() == flipped.sum() == 5_000 and (kept ^ flipped).all()
    assert flipped.nonzero()[:6, 0].tolist() == [0, 1, 3, 4, 7, 9]  # as in the README's numbers


def test_an_epoch_holds_every_example_once_or_one_of_its_18_variants_in_the_order_of_the_seed():
    images, epochs = noise(2000), []
    rimmed = torch.from_numpy(numpy.pad(images, ((0, 0), (1, 1), (1, 1))))
    references = torch.stack([whole[:, top:top + 28, left:left + 28]
        for whole in (rimmed, rimmed.flip(2)) for top in range(3) for left in range(3)], dim=1)
    variants = data.make_variants(images)
    assert torch.equal(variants.flatten(1, 3), references)
    assert not variants.is_contiguous()  # they are views, not copies
    for choice in None, variants:
        torch.manual_seed(0)
        batches = list(data.shuffled_batches(images, torch.arange(2000), 128, choice))
        assert [len(numbers) for _, numbers in batches] == [128] * 15 + [80]
        epochs.append(map(torch.cat, zip(*batches)))
    (drawn, numbers), (augmented, same_numbers) = epochs
    assert torch.equal(numbers.sort().values, torch.arange(2000)) and numbers.equal(same_numbers)
    assert torch.equal(drawn, images[numbers] / 255)  # every label stays with its image
    found = (augmented.unsqueeze(1) == references[numbers] / 255).flatten(2).all(2)  # (2000, 18)
    assert found.sum(1).eq(1).all() and 930 < found[:, 9:].sum() < 1070  # half are mirrored
    assert found.sum(0).min() > 70 and found.sum(0).max() < 160  # 111 are expected
