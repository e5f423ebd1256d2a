"""What a run shows in TensorBoard, read back with TensorBoard's own reader. Plumbing."""

import io
import platform
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy
import pytest
import torch
import torchvision
from PIL import Image, ImageDraw
from torch import nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

import log
import train
from conftest import assert_equal, checkpoint, logged, noise_images, quick_run, run
from data import CLASSES, load_splits, make_variants, ordered_batches
from init import initialize
from model import MLP

# TensorBoard's pages import a library that warns about itself.
pytestmark = pytest.mark.filterwarnings("ignore:html5lib's sanitizer:DeprecationWarning")

LAYERS = ["hidden.0", "hidden.1", "output"]
DEFAULTS = {"init": "default", "augment": False, "dropout": 0.0}


@pytest.fixture(scope="module")
def finished(data_dir, tmp_path_factory) -> Path:
    """The directory of a run of 5 epochs that was continued to 12; no test changes it.

    Its learning rate is so low that mistakes are left.
    """
    log_dir = tmp_path_factory.mktemp("finished") / "run"
    flags = ["--seed=3", "--init=xavier", "--depth=2", "--hidden=40", "--augment", "--dropout=0.3",
             "--lr=0.01", "--resume"]
    run(*flags, "--epochs=5", log_dir=log_dir)
    run(*flags, "--epochs=12", log_dir=log_dir)
    return log_dir


@pytest.fixture(scope="module")
def events(finished) -> dict[str, list[tuple]]:
    """All that TensorBoard reads of the finished run: {tag: [(step, value), ...]}."""
    return logged(finished)


@pytest.fixture(scope="module")
def models(finished) -> dict[int, MLP]:
    """The network of the finished run before training and after epoch 12: {epoch: network}."""
    torch.manual_seed(3)
    before = MLP(40, 0.3, depth=2)
    initialize(before, "xavier")
    after = MLP(40, 0.3, depth=2)
    after.load_state_dict(torch.load(finished / "checkpoint.pt", weights_only=True)["model"])
    return {0: before.requires_grad_(False).eval(), 12: after.requires_grad_(False).eval()}


@pytest.fixture(scope="module")
def splits(data_dir) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """The splits of the made-up data set."""
    return load_splits(data_dir)


@pytest.fixture(scope="module")
def study(data_dir, tmp_path_factory) -> Path:
    """A directory of three finished runs with the same seed; no test changes it."""
    directory = tmp_path_factory.mktemp("study")
    for name, flags in {"plain": [], "augment": ["--augment"],
                        "xavier": ["--init=xavier", "--dropout=0.25", "--lr=0.05"]}.items():
        run("--hidden=5", "--examples=100", *flags, log_dir=directory / name)
    return directory


def answers(model: MLP, images, labels) -> tuple[list[int], list[float]]:
    """Compute the predicted class of each image, and its probability, in double precision."""
    logits = torch.cat([model(batch) for batch, _ in ordered_batches(images, labels)])
    exponentials = numpy.exp(logits.double().numpy())
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities.argmax(axis=1).tolist(), probabilities.max(axis=1).tolist()


def show(log_function, *args) -> dict[str, list[tuple]]:
    """Call a function of log.py and return what TensorBoard reads of it, like logged()."""
    with SummaryWriter("run") as writer:
        log_function(writer, *args)
    return logged()


def text(values: list[tuple], step: int) -> str:
    """Return a text of the TEXT page."""
    (content,) = dict(values)[step].string_val
    return content.decode()


def table(values: list[tuple], step: int) -> list[list[str]]:
    """Return the cells of a table of the TEXT page, without the rule of dashes below its titles."""
    titles, _, *rows = text(values, step).splitlines()
    return [row.removeprefix("| ").removesuffix(" |").split(" | ") for row in [titles, *rows]]


def tiles(values: list[tuple], step: int, height: int, width: int, padding: int) -> torch.Tensor:
    """Return the small pictures of a logged one, row after row: uint8 (N, height, width)."""
    picture = pil_to_tensor(Image.open(io.BytesIO(dict(values)[step])))[0]
    if picture.shape == (height, width):  # make_grid() gives a single picture no frame
        return picture.unsqueeze(0)
    inside = picture[padding:, padding:]
    rows = inside.unfold(0, height, height + padding).unfold(1, width, width + padding)
    return rows.flatten(0, 1)


def test_each_tag_is_logged_at_its_epochs(events):
    """The run started at epochs 0 and 5 and ended at epochs 5 and 12."""
    every_epoch = list(range(1, 13))
    expected = {"inputs": [0], "settings/text_summary": [0, 5], "filters": [0, 5, 10, 12],
                "mistakes": [5, 12], "confusion_matrix/test/text_summary": [5, 12],
                "confusion_matrix/mirrored/text_summary": [5, 12]}
    for layer in LAYERS:
        expected |= {f"weights/{layer}.weight": [0, *every_epoch],
                     f"gradients/{layer}.weight": every_epoch,
                     f"gradient_norm/{layer}.weight": every_epoch,
                     f"gradient_norm/{layer}.bias": every_epoch}
    assert {tag: [step for step, _ in events.get(tag, [])] for tag in expected} == expected


# Numbers and histograms


def test_every_metric_is_shown_once_in_every_epoch(finished, events):
    history = checkpoint(finished)["history"]
    expected = {tag: [(epoch, pytest.approx(metrics[tag]))
                      for epoch, metrics in enumerate(history, start=1)] for tag in history[0]}
    assert {tag: events.get(tag) for tag in expected} == expected


def moments(tensor: torch.Tensor) -> tuple:
    """Return what a histogram says about all numbers: how many, their sum, sum of squares."""
    return (tensor.numel(), pytest.approx(tensor.sum().item(), rel=1e-3, abs=1e-4),
            pytest.approx(tensor.square().sum().item(), rel=1e-3))


def test_histograms_hold_the_weights_of_their_epoch(events, models):
    shown, expected = {}, {}
    for epoch, model in models.items():
        for layer in LAYERS:
            histogram = dict(events[f"weights/{layer}.weight"])[epoch]
            shown[epoch, layer] = (histogram.num, histogram.sum, histogram.sum_squares)
            expected[epoch, layer] = moments(model.get_parameter(f"{layer}.weight"))
    assert shown == expected


def test_gradients_are_those_that_changed_the_weights():
    """In an epoch of one batch, SGD subtracts learning rate times gradient. The rate is 1."""
    quick_run("--epochs=1", "--depth=2", "--examples=100", "--batch-size=100", "--lr=1")
    torch.manual_seed(0)
    after = torch.load("run/checkpoint.pt", weights_only=True)["model"]
    shown, actual, expected = logged(), {}, {}
    for name, before in MLP(depth=2).named_parameters():
        gradient = before.detach() - after[name]
        ((_, actual[f"norm of {name}"]),) = shown[f"gradient_norm/{name}"]
        expected[f"norm of {name}"] = pytest.approx(gradient.norm().item(), rel=1e-3)
        if name.endswith("weight"):
            ((_, histogram),) = shown[f"gradients/{name}"]
            actual[name] = (histogram.num, histogram.sum, histogram.sum_squares)
            expected[name] = moments(gradient)
    assert actual == expected


def test_a_frozen_layer_shows_its_weights_and_no_gradients():
    model = MLP()
    model.hidden.requires_grad_(False)
    F.cross_entropy(model(noise_images(9) / 255), torch.arange(9)).backward()
    assert show(log.log_epoch, model, {}, 1).keys() == {
        "weights/hidden.0.weight", "weights/output.weight", "gradients/output.weight",
        "gradient_norm/output.weight", "gradient_norm/output.bias"}


# Inputs


def inputs(log_dir: Path) -> torch.Tensor:
    """Return the inputs that a run has logged: uint8 (N, 28, 28)."""
    return tiles(logged(log_dir)["inputs"], 0, 28, 28, padding=2)


def test_inputs_are_64_training_images(study, splits):
    images = {image.numpy().tobytes() for image in splits["train"][0][:100]}
    shown = {image.numpy().tobytes() for image in inputs(study / "plain")}
    assert (len(shown), len(shown & images)) == (64, 64)


def test_runs_with_the_same_seed_show_the_same_inputs(study):
    assert_equal(inputs(study / "xavier"), inputs(study / "plain"), "inputs")


def test_inputs_of_an_augmented_run_are_augmented(study):
    """The images are the same as without augmentation, but 17 of 18 variants are different."""
    plain, augmented = inputs(study / "plain"), inputs(study / "augment")
    variants = make_variants(plain).flatten(1, 3)  # (64, 18, 28, 28)
    found = (variants == augmented.unsqueeze(1)).all(dim=(2, 3)).any(dim=1)
    assert found.tolist() == [True] * 64, "these inputs are variants of the images"
    unchanged = (plain == augmented).all(dim=(1, 2)).sum().item()
    assert unchanged < 20


# Filters


def test_filters_are_the_weights_of_36_hidden_units(events, models):
    for epoch, model in models.items():
        weights = model.hidden[0].weight[:36].view(36, 28, 28)
        grey = (weights.clamp(-0.3, 0.3) + 0.3) / 0.6 * 255
        shown = tiles(events["filters"], epoch, 28, 28, padding=1).float()
        assert shown.shape == grey.shape
        assert (shown - grey).abs().max() <= 1, f"filters of epoch {epoch}"


def test_filters_have_one_fixed_scale():
    """So that they can be compared: black is -0.3 or less, grey is 0, white is 0.3 or more."""
    model = MLP(units=6)
    weights = torch.tensor([-1, -0.3, 0, 0.15, 0.3, 1]).view(6, 1)
    model.hidden[0].weight.data[:] = weights  # one for each hidden unit
    shown = tiles(show(log.log_filters, model, 0)["filters"], 0, 28, 28, padding=1)
    assert [filter.unique().tolist() for filter in shown] == [[0], [0], [127], [191], [255], [255]]


def test_a_long_run_has_at_most_ten_pictures_of_filters(splits):
    """TensorBoard's slider keeps a sample of ten, in which step 0 could be missing."""
    model = MLP(units=1)
    with SummaryWriter("run") as writer:
        log.log_start(writer, model, noise_images(64) / 255)
        for epoch in range(1, 401):
            log.log_epoch(writer, model, {}, epoch)
        log.log_end(writer, model, splits, DEFAULTS, DEFAULTS, 400)
    steps = [step for step, _ in logged()["filters"]]
    assert (steps[0], steps[-1]) == (0, 400)
    assert len(steps) <= 10, steps


@pytest.mark.parametrize(
    "layers",
    [[nn.Unflatten(1, (1, 28)), nn.Conv2d(1, 4, 4, stride=4), nn.Flatten(), nn.Linear(196, 10)],
     [nn.AvgPool2d(2), nn.Flatten(), nn.Linear(196, 10)]],
    ids=["convolution", "pooled pixels"])
def test_a_network_not_fed_784_pixels_shows_all_but_filters(layers, splits):
    model = nn.Sequential(*layers)
    with SummaryWriter("run") as writer:
        log.log_start(writer, model, noise_images(64) / 255)
        F.cross_entropy(model(noise_images(9) / 255), torch.arange(9)).backward()
        log.log_epoch(writer, model, {}, 5)
        log.log_end(writer, model, splits, DEFAULTS, DEFAULTS, 6)
    kinds = {tag.split("/")[0] for tag in logged()}
    assert kinds == {"inputs", "weights", "gradients", "gradient_norm", "mistakes",
                     "confusion_matrix"}


# Mistakes


def show_mistakes(*answers: list) -> dict[str, list[tuple]]:
    """Log made-up labels, predictions and confidences for images of noise, in epoch 1."""
    images = noise_images(len(answers[0]))
    return show(log.log_mistakes, images, *map(torch.tensor, answers), 1)


def mistakes(events: dict, step: int) -> torch.Tensor:
    """Return the pictures of mistakes one by one: uint8 (N, 160, 112)."""
    return tiles(events["mistakes"], step, 160, 112, padding=2)


def image_indices(pictures: torch.Tensor, images: torch.Tensor) -> list[int | None]:
    """Return the index of the image that each picture shows, four times as large; None if none."""
    indices = {to_pil_image(image).resize((112, 112)).tobytes(): i
               for i, image in enumerate(images)}
    return [indices.get(picture[:112].numpy().tobytes()) for picture in pictures]


def ink(picture: Image.Image) -> tuple:
    """Return the part of a picture that is not black: its size and its pixels."""
    part = picture.crop(picture.getbbox())
    return part.size, part.tobytes()


def caption(true: int, predicted: int, confidence: float) -> tuple:
    """Return the ink of a caption, drawn where there is room enough."""
    words = f"true {CLASSES[true]}\npredicted {CLASSES[predicted]}\nconfidence {confidence:.3f}"
    picture = Image.new("L", (300, 100))
    ImageDraw.Draw(picture).multiline_text((9, 9), words, fill="white")
    return ink(picture)


def assert_captions(pictures: torch.Tensor, expected: list[tuple]) -> None:
    """Fail if the pictures have captions other than (true, predicted, confidence), and tell which.

    A caption that is cut off has less ink.
    """
    wrong = [words for picture, words in zip(pictures, expected, strict=True)
             if ink(to_pil_image(picture[112:])) != caption(*words)]
    assert wrong == [], "these captions are missing or cut off"


def test_mistakes_are_wrong_answers_most_confident_first():
    shown = show_mistakes([0, 1, 2, 3, 4], [0, 9, 2, 9, 9], [0.9, 0.5, 0.8, 0.7, 0.6])
    assert image_indices(mistakes(shown, 1), noise_images(5)) == [3, 4, 1]


@pytest.mark.parametrize("wrong, expected", [(1, 1), (20, 12)])
def test_at_most_12_mistakes_are_shown(wrong, expected):
    shown = show_mistakes([0] * 21, [1] * wrong + [0] * (21 - wrong), [0.5] * 21)
    assert len(mistakes(shown, 1)) == expected


def test_a_network_without_mistakes_shows_none():
    assert "mistakes" not in show_mistakes([0, 1, 2], [0, 1, 2], [0.9, 0.8, 0.7])


def test_captions_show_true_predicted_and_confidence():
    """Of all classes, whose names must fit below a picture; the first two answers are correct."""
    labels = [3, 3, *range(10)]
    predicted = [3, 3, *range(1, 10), 0]
    confidence = [1 - i / 1000 for i in range(12)]
    shown = mistakes(show_mistakes(labels, predicted, confidence), 1)
    assert_captions(shown[:10], list(zip(labels, predicted, confidence))[2:])


def test_mistakes_are_on_plain_test_images(events, models, splits):
    """Although the run is augmented, and without dropout."""
    images, labels = splits["test"]
    predicted, confidence = answers(models[12], images, labels)
    wrong = [i for i in range(300) if predicted[i] != labels[i]]
    expected = sorted(wrong, key=lambda i: confidence[i], reverse=True)[:12]
    shown = mistakes(events, 12)
    assert image_indices(shown, images) == expected
    assert_captions(shown, [(int(labels[i]), predicted[i], confidence[i]) for i in expected])


# Confusion matrices


def confusion(events, epoch: int) -> dict[str, list[list[int]]]:
    """Return the logged counts: {split: a row for each true class}."""
    return {split: [[int(cell) for cell in row[1:]] for row in
                    table(events[f"confusion_matrix/{split}/text_summary"], epoch)[1:]]
            for split in ("test", "mirrored")}


def test_confusion_rows_are_true_columns_predicted(events, models, splits):
    expected = {split: [[0] * 10 for _ in range(10)] for split in ("test", "mirrored")}
    for split, counts in expected.items():
        predicted, _ = answers(models[12], *splits[split])
        for true, answer in zip(splits[split][1].tolist(), predicted):
            counts[true][answer] += 1
    assert confusion(events, 12) == expected


def test_confusion_rows_have_names_and_columns_numbers(events):
    titles, *rows = table(events["confusion_matrix/test/text_summary"], 12)
    assert titles == ["true \\ predicted", *"0123456789"]
    assert [row[0] for row in rows] == [f"{label} {name}" for label, name in enumerate(CLASSES)]


def test_log_end_measures_without_dropout(splits):
    model = MLP(dropout=0.9).requires_grad_(False)
    shown = show(log.log_end, model.train(), splits, DEFAULTS, DEFAULTS, 5)
    predicted, _ = answers(model.eval(), *splits["test"])
    correct = (splits["test"][1] == torch.tensor(predicted)).sum().item()
    assert sum(confusion(shown, 5)["test"][label][label] for label in range(10)) == correct


def test_tensorboard_renders_the_tables(events):
    from tensorboard.plugin_util import markdown_to_safe_html

    for tag in "settings", "confusion_matrix/test", "confusion_matrix/mirrored":
        values = events[f"{tag}/text_summary"]
        html = markdown_to_safe_html(text(values, values[-1][0]))
        assert "<table>" in html, tag


# Settings


def test_each_start_shows_the_settings_and_the_machine(events):
    """The run was made longer at its second start."""
    expected = {
        "init": "xavier", "augment": "True", "dropout": "0.3", "depth": "2", "hidden": "40",
        "examples": "55000", "epochs": "5", "batch_size": "128", "lr": "0.01", "patience": "2",
        "seed": "3", "device": "cpu", "threads": "1", "Python": platform.python_version(),
        "CPU instructions": torch.backends.cpu.get_cpu_capability(), "torch": torch.__version__,
        "torchvision": torchvision.__version__}
    first, second = (dict(table(events["settings/text_summary"], epoch)) for epoch in (0, 5))
    assert {name: first.get(name) for name in expected} == expected
    assert second == first | {"epochs": "12"}


def test_the_number_of_threads_is_the_one_asked_for(monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", Mock())  # this process keeps its own
    quick_run("--epochs=1", "--hidden=5", "--threads=2")
    assert dict(table(logged()["settings/text_summary"], 0))["threads"] == "2"


@pytest.mark.parametrize("device, expected", [("cuda:1", "GPU of cuda:1"), ("mps", None)])
def test_settings_name_an_nvidia_gpu(device, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU of {device}")
    shown = show(log.log_settings, {}, device, 1, 0)
    assert dict(table(shown["settings/text_summary"], 0)).get("GPU") == expected


# HPARAMS


def hparams_page(directory: Path) -> SimpleNamespace:
    """Ask TensorBoard, as its HPARAMS page does, for the columns, and for a line of each run."""
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams.hparams_plugin import HParamsPlugin
    from werkzeug.test import Client

    runs = EventMultiplexer().AddRunsFromDirectory(str(directory)).Reload()
    provider = MultiplexerDataProvider(runs, str(directory))
    apps = HParamsPlugin(TBContext(data_provider=provider)).get_plugin_apps()
    columns = Client(apps["/experiment"]).post(json={}).json["hparamInfos"]
    question = {"sliceSize": 100, "allowedStatuses": ["STATUS_SUCCESS"]}
    lines = Client(apps["/session_groups"]).post(json=question).json["sessionGroups"]
    return SimpleNamespace(
        columns={column["name"] for column in columns},
        flags={line["name"]: line["hparams"] for line in lines},
        metrics={line["name"]: {metric["name"]["tag"]: metric["value"]
                                for metric in line["sessions"][0]["metricValues"]}
                 for line in lines})


@pytest.fixture(scope="module")
def page(study) -> SimpleNamespace:
    """TensorBoard's HPARAMS page of the three runs."""
    return hparams_page(study)


def test_hparams_has_a_column_for_a_flag_of_one_run(page):
    assert page.columns == {"init", "augment", "dropout", "hidden", "examples", "lr"}


def test_hparams_has_one_line_for_each_run(page):
    """With what the study compares, and what differs from the defaults."""
    common = {"init": "default", "augment": "no", "dropout": 0, "hidden": 5, "examples": 100}
    assert page.flags == {
        "plain": common, "augment": common | {"augment": "yes"},
        "xavier": common | {"init": "xavier", "dropout": 0.25, "lr": 0.05}}


def test_hparams_shows_the_last_metrics_of_each_run(page, study):
    for name, shown in page.metrics.items():
        last = checkpoint(study / name)["history"][-1]
        assert {tag: shown.get(tag) for tag in last} == pytest.approx(last), name


def test_hparams_do_not_show_the_old_length_of_a_longer_run():
    """TensorBoard would keep the number of epochs of the first start."""
    run("--epochs=1", "--hidden=5", log_dir="runs/longer")
    run("--epochs=3", "--hidden=5", "--resume", log_dir="runs/longer")
    assert hparams_page(Path("runs")).flags["longer"].get("epochs") in (None, 3)


def test_hparams_has_no_line_for_an_unfinished_run(monkeypatch):
    monkeypatch.setattr(train, "print_epoch", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(SystemExit):
        run("--epochs=2", "--hidden=5")
    assert hparams_page(Path()).columns == set()


# The event files


def test_a_run_is_one_run_in_tensorboard(finished):
    """SummaryWriter.add_hparams() would make a directory of its own, and so a second run."""
    assert [path.name for path in finished.iterdir() if path.is_dir()] == []


def test_a_run_of_20_epochs_takes_less_than_5_megabytes():
    """A run of the default size, here of 5 epochs: what it shows once counts four times here."""
    run("--epochs=5", "--augment")
    size = sum(path.stat().st_size for path in Path("run").glob("events.*"))
    assert size * 20 / 5 < 5_000_000
