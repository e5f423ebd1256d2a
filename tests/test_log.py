import io
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from torchvision.datasets import FashionMNIST

import log
from conftest import checkpoint, noise, read_events, scalars
from data import load_splits, make_variants
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


@pytest.mark.parametrize("epochs, filters, flags, studied", [
    (6, [0, 5, 6], ["--augment", "--dropout=0.3"], {"augment": "yes", "dropout": 0.3}),
    (5, [0, 5], [], {"augment": "no", "dropout": 0.0})])
def test_every_run_has_the_same_tags_with_the_right_steps(run, epochs, filters, flags, studied):
    def steps(kind):
        return {tag: [event.step for event in getattr(events, kind)(tag)]
                for tag in events.Tags()[kind.lower()]}

    history = run("--epochs", epochs, "--lr", 0.01, *flags)  # so low that mistakes are left
    events, logged = read_events("run"), scalars("run")
    for tag in history[0]:
        assert logged.pop(tag) == [(i + 1, pytest.approx(m[tag])) for i, m in enumerate(history)]
    assert set(logged) == {f"gradient_norm/{name}" for name, _ in MLP().named_parameters()}
    assert steps("Images") == {"inputs": [0], "filters": filters, "mistakes": [epochs]}
    assert steps("Histograms") == {f"{kind}/{name}": [*range(1, epochs + 1)]
        for kind in ("weights", "gradients") for name, _ in MLP().named_parameters()}
    experiment, _, session = (HParamsPluginData.FromString(metadata.plugin_data.content)
        for tag, metadata in sorted(events.summary_metadata.items()) if "_hparams_/" in tag)
    metrics = [metric.name.tag for metric in experiment.experiment.metric_infos]
    assert metrics == ["loss/train", "accuracy/test", "accuracy/mirrored"]
    hparams = session.session_start_info.hparams.items()
    shown = {flag: value.string_value or value.number_value for flag, value in hparams}
    assert shown == {"init": "default"} | studied
    settings = {"flag": "value"} | checkpoint("run")["settings"]
    assert table("run", "settings") == [[k, str(v)] for k, v in settings.items()]


def test_an_epochs_weights_gradients_and_their_norms_are_logged():
    model = MLP()
    nn.functional.cross_entropy(model(noise(20) / 255), torch.arange(20) % 10).backward()
    with SummaryWriter("run") as writer:
        log.log_epoch(writer, model, {}, 3)
    for name, parameter in model.named_parameters():
        for kind, values in ("weights", parameter.detach()), ("gradients", parameter.grad):
            (event,) = read_events("run").Histograms(f"{kind}/{name}")
            squares = values.double().square().sum().item()
            assert event.histogram_value.sum_squares == pytest.approx(squares, rel=1e-3)
        assert scalars("run")[f"gradient_norm/{name}"] == [(3, pytest.approx(squares ** 0.5))]


def test_inputs_are_64_images_as_the_network_sees_them_the_same_in_all_runs_of_a_seed(run):
    run("--epochs", 1, log_dir="plain")
    run("--epochs", 1, "--init", "xavier", "--augment", log_dir="augmented")
    variants = make_variants(load_splits(Path("data"))["train"][0]).flatten(0, 3)
    places = {image.numpy().tobytes(): divmod(i, 18) for i, image in enumerate(variants)}
    (numbers, which), (augmented_numbers, augmented_which) = (
        zip(*(places[image.numpy().tobytes()] for image in tiles(log_dir, "inputs", 2, 8, 8)))
        for log_dir in ("plain", "augmented"))
    assert numbers == augmented_numbers and len(set(numbers)) == 64
    assert set(which) == {4} and len(set(augmented_which)) > 9  # 4 is the image itself


def test_mistakes_are_the_surest_ones_with_words_and_the_matrix_counts_all():
    images = torch.eye(100, 784).mul(255).byte().view(100, 28, 28)  # image i is pixel i alone
    labels, sureness = torch.arange(100) % 10, torch.linspace(3, 5, 100)  # the later the surer
    wrong = torch.arange(100) % 5 < 2  # 40 of them
    answers = torch.where(wrong, (labels + 3) % 10, labels)
    model = MLP(dropout=0.5)  # which answers so, unless it drops units
    model.load_state_dict(dict(zip(model.state_dict(), (torch.eye(100, 784) / 4, torch.zeros(100),
        4 * sureness * nn.functional.one_hot(answers, 10).T, torch.zeros(10)))))
    with SummaryWriter("run") as writer:
        log.log_end(writer, model.train(), images, labels, {}, 20)
    surest = wrong.nonzero()[:, 0].flip(0)[:32]
    assert torch.equal(tiles("run", "mistakes", 2, 4, 8), images[surest])
    confidence = sureness.exp() / (sureness.exp() + 9)
    words = [f"{CLASSES[labels[i]]} → {CLASSES[answers[i]]}, {confidence[i]:.2f}" for i in surest]
    assert table("run", "mistakes") == [
        ["true → predicted, confidence"] + [""] * 7, *(words[i:i + 8] for i in range(0, 32, 8))]
    pairs = list(zip(labels.tolist(), answers.tolist()))
    assert table("run", "confusion_matrix") == [["true \\ predicted", *CLASSES], *(
        [CLASSES[i], *(str(pairs.count((i, j))) for j in range(10))] for i in range(10))]
    with SummaryWriter("right") as writer:  # no mistakes; no epoch of filters
        log.log_end(writer, model, images[:5], answers[:5], {}, 3)
    assert read_events("right").Tags()["images"] == ["filters"]
    grey = (model.hidden.weight[:36].view(36, 28, 28) + 0.3) / 0.6 * 255  # one scale for all
    assert (tiles("right", "filters", 1, 6, 6) - grey).abs().max() <= 1
