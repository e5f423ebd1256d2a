import torch
from torchvision.transforms.functional import hflip, to_tensor

import data
import download
from conftest import idx


def numbered(n: int) -> torch.Tensor:
    """Return n images that are all different: noise, repeatable."""
    return torch.randint(256, (n, 28, 28), dtype=torch.uint8, generator=torch.manual_seed(1))


def test_the_splits_are_the_first_55000_the_last_5000_and_the_10000_test_images(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "fetch", lambda data_dir: tmp_path)
    images, labels = torch.zeros(60_000, 28, 28, dtype=torch.uint8), torch.arange(60_000) // 6_000
    images[:, 0, 0], images[:, 0, 1] = torch.arange(60_000) % 256, torch.arange(60_000) // 256
    for name, tensor in zip(download.FILES, (images, labels.byte(), images[:10_000], labels[:10_000].byte())):
        (tmp_path / name).write_bytes(idx(tensor))
    splits = data.load_splits("anywhere")
    for name, part in ("train", slice(55_000)), ("val", slice(55_000, 60_000)), ("test", slice(10_000)):
        assert torch.equal(splits[name][0], images[part]) and torch.equal(splits[name][1], labels[part])
        assert splits[name][0].dtype == torch.uint8 and splits[name][1].dtype == torch.int64


def test_every_augmented_image_is_a_flip_and_shift_of_its_own_source():
    images = numbered(1000)
    before = images.clone()
    torch.manual_seed(0)
    augmented = data.augment(images)
    assert torch.equal(images, before)
    assert augmented.dtype == torch.uint8 and augmented.shape == images.shape
    counts = {}
    for mirrored in (False, True):
        source = images.flip(-1) if mirrored else images
        padded = torch.zeros(1000, 30, 30, dtype=torch.uint8)
        padded[:, 1:29, 1:29] = source
        for down in range(3):
            for right in range(3):
                shifted = padded[:, down : down + 28, right : right + 28]
                counts[mirrored, down, right] = (shifted == augmented).flatten(1).all(1)
    assert torch.stack(list(counts.values())).sum(0).eq(1).all()  # each is exactly one of 18
    share = sum(count.sum() for (mirrored, *_), count in counts.items() if mirrored) / 1000
    assert 0.45 < share < 0.55
    assert all(25 <= count.sum() <= 90 for count in counts.values())  # 1000 / 18 = 56 expected


def test_an_epoch_visits_every_example_once_in_an_order_that_changes():
    images, labels = numbered(500), torch.arange(500)
    torch.manual_seed(0)
    first_images, first_labels = data.draw_epoch(images, labels, augmented=False)
    second_images, second_labels = data.draw_epoch(images, labels, augmented=False)
    for some_images, some_labels in (first_images, first_labels), (second_images, second_labels):
        assert torch.equal(some_labels.sort().values, labels)
        assert torch.equal(some_images, images[some_labels])  # every label stays with its image
    assert not torch.equal(first_labels, second_labels) and not torch.equal(first_labels, labels)


def test_labels_stay_with_their_images_when_augmented():
    images = torch.arange(200, dtype=torch.uint8)[:, None, None].expand(-1, 28, 28).contiguous()
    torch.manual_seed(0)
    augmented, labels = data.draw_epoch(images, torch.arange(200), augmented=True)
    assert torch.equal(augmented[:, 14, 14].long(), labels)
    assert torch.equal(labels.sort().values, torch.arange(200))


def test_the_same_seed_draws_the_same_epoch():
    images, labels = numbered(100), torch.arange(100)
    epochs = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        epochs.append(data.draw_epoch(images, labels, augmented=True))
    assert torch.equal(epochs[0][0], epochs[1][0]) and torch.equal(epochs[0][1], epochs[1][1])
    assert not torch.equal(epochs[0][0], epochs[2][0])


def test_batches_hold_what_totensor_makes_and_the_last_one_the_rest():
    images, labels = numbered(10), torch.arange(10)
    batches = list(data.batches(images, labels, 4))
    assert [len(some_labels) for _, some_labels in batches] == [4, 4, 2]
    together = torch.cat([some_images for some_images, _ in batches])
    assert torch.equal(together, torch.cat([to_tensor(image.numpy()) for image in images]))
    assert torch.equal(torch.cat([some_labels for _, some_labels in batches]), labels)
    (whole, _), = data.batches(images, labels, 1_000_000)
    assert torch.equal(whole, together)


def test_mirroring_is_left_to_right():
    images = numbered(2000)
    torch.manual_seed(0)
    augmented = data.augment(images)
    unshifted = augmented.eq(hflip(images)).flatten(1).all(1)
    assert unshifted.any() and not augmented.eq(images.flip(1)).flatten(1).all(1).any()
