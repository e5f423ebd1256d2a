import io
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

import log
from conftest import EventAccumulator, checkpoint, logged, noise, run
from data import load_splits, make_variants, shuffled_batches
from model import MLP


def tiles(log_dir, tag: str, rim: int) -> torch.Tensor:
    """Return the small pictures of the last big one: uint8 (rows, columns, 28, 28)."""
    _, png = logged(log_dir)[tag][-1]
    grey = pil_to_tensor(Image.open(io.BytesIO(png)))[0, rim:, rim:]
    return grey.unfold(0, 28, 28 + rim).unfold(1, 28, 28 + rim)


def table(log_dir, tag: str) -> list[list[str]]:
    """Return the cells of the last logged table."""
    (text,) = logged(log_dir)[f"{tag}/text_summary"][-1][1].string_val
    return [row[2:-2].split(" | ") for row in text.decode().splitlines()]


def test_every_tag_is_logged_with_the_right_steps_and_values():
    flags = "--augment", "--dropout", 0.3, "--lr", 0.01  # a rate so low that mistakes are left
    run(*flags, "--epochs", 6)
    history, events = run(*flags, "--epochs", 10, "--resume"), logged("run")
    for tag in history[0]:
        assert events.pop(tag) == [(i + 1, pytest.approx(m[tag])) for i, m in enumerate(history)]
    for name, weight in checkpoint("run")["model"].items():
        norms = dict(events.pop(f"gradient_norm/{name}"))
        for kind, norm in ("weights", torch.tensor(weight).norm().item()), ("gradients", norms[10]):
            histograms = dict(events.pop(f"{kind}/{name}"))
            assert [*histograms] == [*norms] == [*range(1, 11)]
            assert histograms[10].sum_squares == pytest.approx(norm ** 2, rel=1e-3)
    assert {tag: [step for step, _ in values] for tag, values in events.items()} == {
        "inputs": [0], "filters": [0, 5, 6, 10]} | dict.fromkeys(["mistakes",
        "mistakes/text_summary", "confusion_matrix/text_summary", "settings/text_summary"], [6, 10])
    settings = {"flag": "value", "---": "---"} | checkpoint("run")["settings"]
    assert table("run", "settings") == [[flag, str(value)] for flag, value in settings.items()]
    splits = load_splits(Path("data"))
    torch.manual_seed(0)  # the same images for all runs of a seed
    images, _ = next(shuffled_batches(*splits["train"], 64, make_variants(splits["train"][0])))
    assert torch.equal(tiles("run", "inputs", 2) / 255, images.view(8, 8, 28, 28))
    for image in tiles("run", "mistakes", 2).flatten(0, 1):
        assert (image == splits["test"][0]).flatten(1).all(1).sum() == 1
    plugins = EventAccumulator("run").Reload().summary_metadata
    for summary in log.hparams({"init": "default", "augment": "yes", "dropout": 0.3}, dict.fromkeys(
            ["loss/train", "accuracy/test", "accuracy/mirrored"])):
        assert plugins[summary.value[0].tag] == summary.value[0].metadata


def test_mistakes_are_the_surest_ones_with_words_and_the_matrix_counts_all(monkeypatch):
    images, labels, logits = noise(100), torch.arange(100) % 7, torch.randn(100, 10)
    monkeypatch.setattr(MLP, "forward", lambda model, images: logits * images.max())  # max: 1
    with log.SummaryWriter("run") as writer:
        log.log_end(writer, model := MLP(), images, logits.argmax(1), {}, 2)  # no mistakes
        log.log_end(writer, model, images, labels, {}, 3)
    odds, answers = logits.double().exp(), logits.argmax(1).tolist()
    confidence = (odds / odds.sum(1, keepdim=True)).amax(1).tolist()
    pairs, names = list(zip(labels.tolist(), answers)), log.FashionMNIST.classes
    wrong = [i for i in range(100) if labels[i] != answers[i]]
    surest = sorted(wrong, key=lambda i: -confidence[i])[:32]
    assert not model.training and [step for step, _ in logged("run")["mistakes"]] == [3]
    assert torch.equal(tiles("run", "mistakes", 2), images[surest].view(4, 8, 28, 28))
    words = [f"{names[labels[i]]} → {names[answers[i]]}, {confidence[i]:.2f}" for i in surest]
    assert table("run", "mistakes") == [
        ["true → predicted, confidence"] + [""] * 7, ["---"] * 8,
        *(words[i:i + 8] for i in range(0, 32, 8))]
    assert table("run", "confusion_matrix") == [["true \\ predicted", *names], ["---"] * 11, *(
        [names[i], *(str(pairs.count((i, j))) for j in range(10))] for i in range(10))]
    grey = (model.hidden.weight[:36].view(6, 6, 28, 28) + 0.3) / 0.6 * 255  # one scale for all
    assert (tiles("run", "filters", 1) - grey).abs().max() <= 1
