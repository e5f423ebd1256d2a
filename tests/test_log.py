import io

import numpy
import pytest
import torch
from PIL import Image
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from torchvision.datasets import FashionMNIST

import log
import train
from conftest import checkpoint, noise, read_events, scalars
from data import make_variants
from model import MLP

CLASSES = FashionMNIST.classes


def tiles(log_dir, tag: str, rim: int, rows: int, columns: int) -> torch.Tensor:
    """Return the small pictures of the last big one: uint8 (rows * columns, 28, 28)."""
    image = Image.open(io.BytesIO(read_events(log_dir).Images(tag)[-1].encoded_image_string))
    grey = torch.from_numpy(numpy.array(image))[rim:, rim:, 0]
    assert grey.shape == (rows * (28 + rim), columns * (28 + rim))
    return grey.unfold(0, 28, 28 + rim).unfold(1, 28, 28 + rim).flatten(0, 1)


def table(log_dir, tag: str) -> list[list[str]]:
    """Return the cells of a logged table without the line of dashes."""
    (text,) = read_events(log_dir).Tensors(f"{tag}/text_summary")[-1].tensor_proto.string_val
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in text.decode().splitlines()]
    assert rows.pop(1) == ["---"] * len(rows[0])
    return rows


def test_every_run_has_the_same_tags_with_the_right_steps(run, tmp_path):
    history = run("--augment", "--dropout", 0.3, "--epochs", 6)
    events, logged = read_events(tmp_path / "run"), scalars(tmp_path / "run")
    for tag in history[0]:
        assert logged.pop(tag) == [(i + 1, pytest.approx(m[tag])) for i, m in enumerate(history)]
    names = ["hidden.bias", "hidden.weight", "output.bias", "output.weight"]
    assert sorted(logged) == [f"gradient_norm/{name}" for name in names]
    steps = {tag: [event.step for event in events.Histograms(tag)] for tag in events.Tags()["histograms"]}
    assert steps == {f"{kind}/{name}": [*range(1, 7)] for kind in ("weights", "gradients") for name in names}
    steps = {tag: [event.step for event in events.Images(tag)] for tag in events.Tags()["images"]}
    assert steps == {"inputs": [0], "filters": [0, 5, 6], "mistakes": [6]}
    flags = {"init": "default", "augment": "yes", "dropout": 0.3}
    for tag, settings in ("run", flags), ("plain", flags | {"augment": "no", "dropout": 0.0}):
        metadata = read_events(tmp_path / tag).summary_metadata if tag == "run" else (
            run("--epochs", 5, log_dir=tmp_path / tag) and read_events(tmp_path / tag).summary_metadata)
        experiment, session = (HParamsPluginData.FromString(metadata[f"_hparams_/{part}"].plugin_data.content)
                               for part in ("experiment", "session_start_info"))
        metrics = [metric.name.tag for metric in experiment.experiment.metric_infos]
        assert metrics == ["loss/train", "accuracy/test", "accuracy/mirrored"]
        hparams = session.session_start_info.hparams
        assert {flag: hparams[flag].string_value or hparams[flag].number_value for flag in hparams} == settings
    assert [event.step for event in read_events(tmp_path / "plain").Images("filters")] == [0, 5]
    shown = dict(table(tmp_path / "run", "settings")[1:])
    assert shown == {flag: str(value) for flag, value in checkpoint(tmp_path / "run")["settings"].items()}


def test_weights_and_gradients_of_the_last_batch_are_logged(tmp_path):
    model, batches = MLP(), [(noise(40)[i:i + 20] / 255, torch.arange(20) % 10) for i in (0, 20)]
    train.train_epoch(model, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.0), batches)
    expected = MLP()
    expected.load_state_dict(model.state_dict())
    nn.functional.cross_entropy(expected(batches[1][0]), batches[1][1]).backward()
    with SummaryWriter(tmp_path) as writer:
        log.log_epoch(writer, model, {"a/b": 0.5}, 3)
    for name, parameter in expected.named_parameters():
        norm = parameter.grad.square().sum().sqrt().item()
        assert scalars(tmp_path)[f"gradient_norm/{name}"] == [(3, pytest.approx(norm, rel=1e-4))]
        for kind, values in ("weights", parameter.detach()), ("gradients", parameter.grad):
            histogram = read_events(tmp_path).Histograms(f"{kind}/{name}")[0].histogram_value
            assert histogram.num == values.numel()
            assert histogram.sum_squares == pytest.approx(values.square().sum().item(), rel=1e-3)


@pytest.mark.parametrize("flags", [[], ["--augment"]])
def test_inputs_are_the_same_64_images_in_all_runs_of_a_seed_as_the_network_sees_them(
        run, tmp_path, flags, data_dir):
    run(*flags, "--epochs", 1)
    run(*flags, "--epochs", 1, "--init", "xavier", log_dir=tmp_path / "other")
    shown = tiles(tmp_path / "run", "inputs", 2, 4, 16)
    assert torch.equal(shown, tiles(tmp_path / "other", "inputs", 2, 4, 16))
    variants = make_variants(train.load_splits(data_dir)["train"][0]).flatten(1, 3)
    found = torch.stack([(variants == image).flatten(2).all(2) for image in shown])  # (64, 600, 18)
    assert found.sum() == 64 and found.flatten(1).any(1).all() and found.any(2).sum() == 64
    assert found[:, :, 4].sum() == 64 if not flags else found[:, :, 4].sum() < 20  # the image itself


def test_filters_are_36_units_on_one_scale(tmp_path):
    model = MLP().requires_grad_(False)
    model.hidden.weight.copy_(torch.linspace(-0.5, 0.5, 784 * 100).view(784, 100).T)
    with SummaryWriter(tmp_path) as writer:
        log.log_filters(writer, model, 0)
    grey = (model.hidden.weight[:36].view(36, 28, 28).clamp(-0.3, 0.3) + 0.3) / 0.6 * 255
    assert (tiles(tmp_path, "filters", 1, 6, 6) - grey).abs().max() <= 1


class Oracle(MLP):
    """Takes image i, whose first pixel is i, for answers[i], and is as sure as told."""

    def __init__(self, answers, sureness):
        super().__init__()
        self.answers, self.sureness = answers, sureness

    def forward(self, images):
        numbers = (images[:, 0, 0] * 255).round().long()
        return nn.functional.one_hot(self.answers[numbers], 10) * self.sureness[numbers, None] \
            + 9 * self.training


def test_mistakes_are_the_surest_ones_with_words_and_the_confusion_matrix_counts_all(tmp_path):
    images, labels, sureness = noise(100), torch.arange(100) % 10, torch.linspace(3, 5, 100)
    images[:, 0, 0] = torch.arange(100)
    answers = torch.where(torch.arange(100) < 40, (labels + 3) % 10, labels)  # the later the surer
    answers[40] = 2  # and one more, the surest: class 0 is taken for class 2
    with SummaryWriter(tmp_path) as writer:
        log.log_end(writer, Oracle(answers, sureness).train(), images, labels, 20)
    surest = [40, *range(39, 8, -1)]
    assert torch.equal(tiles(tmp_path, "mistakes", 2, 4, 8), images[surest])
    confidence = sureness.exp() / (sureness.exp() + 9)
    words = [f"{CLASSES[labels[i]]} → {CLASSES[answers[i]]}, {confidence[i]:.2f}" for i in surest]
    title, *rows = table(tmp_path, "mistakes")
    assert rows == [words[:8], words[8:16], words[16:24], words[24:]]
    assert title == ["true → predicted, confidence"] + [""] * 7
    title, *rows = table(tmp_path, "confusion_matrix")
    assert title == ["true \\ predicted", *CLASSES]
    counts = numpy.zeros((10, 10), int)
    numpy.add.at(counts, (labels.numpy(), answers.numpy()), 1)
    assert rows == [[name, *map(str, row)] for name, row in zip(CLASSES, counts.tolist())]
    with SummaryWriter(tmp_path / "right") as writer:  # no mistakes, and an epoch without filters yet
        log.log_end(writer, Oracle(torch.arange(9), torch.ones(9)), noise(9) * 0, labels[:9] * 0, 3)
    assert read_events(tmp_path / "right").Tags()["images"] == ["filters"]
    assert "filters" not in read_events(tmp_path).Tags()["images"]
