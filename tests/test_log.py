"""What log.py promises: what TensorBoard shows of a run, read back with its own reader."""

import io
import platform
from pathlib import Path
from unittest.mock import Mock

import numpy
import pytest
import torch
import torchvision
from PIL import Image, ImageDraw
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata
from torch.nn import functional as F
from torchvision.transforms.functional import pil_to_tensor

import log
import train
from conftest import assert_equal, checkpoint, logged, noise_images, run
from data import load_splits, make_variants, ordered_batches, shuffled_batches
from init import initialize
from model import MLP

CLASSES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker",
           "Bag", "Ankle boot"]
PARAMETERS = ["hidden.0.weight", "hidden.0.bias", "hidden.1.weight", "hidden.1.bias",
              "output.weight", "output.bias"]
WEIGHTS = PARAMETERS[::2]
METRICS = ["loss/train", "loss/train_clean", "loss/val", "loss/test", "loss/mirrored", "loss/gap",
           "accuracy/train_clean", "accuracy/val", "accuracy/test", "accuracy/mirrored",
           "learning_rate"]
EPOCHS = list(range(1, 13))
SEED = 3


@pytest.fixture(scope="module")
def finished(data_dir, tmp_path_factory) -> Path:
    """Return the directory of a run of 5 epochs that was resumed, to 12; no test changes it.

    Its learning rate is so low that mistakes are left.
    """
    log_dir = tmp_path_factory.mktemp("finished") / "run"
    flags = [f"--data-dir={data_dir}", f"--log-dir={log_dir}", f"--seed={SEED}", "--init=xavier",
             "--depth=2", "--hidden=40", "--augment", "--dropout=0.3", "--lr=0.01"]
    train.main([*flags, "--epochs=5"])
    train.main([*flags, "--epochs=12", "--resume"])
    return log_dir


@pytest.fixture(scope="module")
def events(finished) -> dict[str, list[tuple]]:
    """Return all that TensorBoard reads of the finished run: {tag: [(step, value), ...]}."""
    return logged(finished)


@pytest.fixture(scope="module")
def history(finished) -> list[dict[str, float]]:
    """Return the metrics of each epoch of the finished run."""
    return checkpoint(finished)["history"]


@pytest.fixture(scope="module")
def splits(data_dir) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return the data set of all runs here."""
    return load_splits(data_dir)


@pytest.fixture(scope="module")
def first_model() -> MLP:
    """Return the network that the finished run started from."""
    torch.manual_seed(SEED)
    model = MLP(hidden=40, dropout=0.3, depth=2)
    initialize(model, "xavier")
    return model.requires_grad_(False).eval()


@pytest.fixture(scope="module")
def last_model(finished) -> MLP:
    """Return the network that the finished run ended with."""
    model = MLP(hidden=40, dropout=0.3, depth=2)
    saved = torch.load(finished / "checkpoint.pt", weights_only=True)
    model.load_state_dict(saved["model"])
    return model.requires_grad_(False).eval()


def answers(model: MLP, images, labels) -> tuple[list[int], list[float]]:
    """Return by hand what a network takes each image for, and how sure it is: its probability."""
    logits = torch.cat([model(batch) for batch, _ in ordered_batches(images, labels)])
    exponentials = numpy.exp(logits.double().numpy())
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities.argmax(axis=1).tolist(), probabilities.max(axis=1).tolist()


def steps(values: list[tuple]) -> list[int]:
    """Return the steps at which a tag was logged."""
    return [step for step, _ in values]


def table(values: list[tuple], step: int) -> list[list[str]]:
    """Return the cells of a table of the page TEXT, without the rule of dashes below its titles."""
    (text,) = dict(values)[step].string_val
    titles, _, *rows = text.decode().splitlines()
    return [row.removeprefix("| ").removesuffix(" |").split(" | ") for row in [titles, *rows]]


def grey_picture(values: list[tuple], step: int) -> torch.Tensor:
    """Return a logged picture: uint8 (height, width)."""
    return pil_to_tensor(Image.open(io.BytesIO(dict(values)[step])))[0]


def tiles(picture: torch.Tensor, height: int, width: int, padding: int) -> torch.Tensor:
    """Return the small pictures of a big one, row after row: uint8 (N, height, width)."""
    inside = picture[padding:, padding:]
    rows = inside.unfold(0, height, height + padding).unfold(1, width, width + padding)
    return rows.flatten(0, 1)


def hparams_contents(log_dir) -> dict[str, bytes]:
    """Return what TensorBoard reads of a run for the page HPARAMS: {tag: content}."""
    summaries = EventAccumulator(str(log_dir)).Reload().summary_metadata
    return {tag: summary.plugin_data.content for tag, summary in summaries.items()
            if summary.plugin_data.plugin_name == metadata.PLUGIN_NAME}


def hparams_values(log_dir) -> dict[str, str | float]:
    """Return a run's line in HPARAMS: {flag: value}."""
    content = hparams_contents(log_dir)[metadata.SESSION_START_INFO_TAG]
    values = metadata.parse_session_start_info_plugin_data(content).hparams
    return {name: value.string_value or value.number_value for name, value in values.items()}


@pytest.fixture(scope="module")
def hparams_metrics(finished) -> list[str]:
    """Return the tags of HPARAMS' columns of metrics."""
    content = hparams_contents(finished)[metadata.EXPERIMENT_TAG]
    columns = metadata.parse_experiment_plugin_data(content).metric_infos
    return [column.name.tag for column in columns]


# Numbers.


@pytest.mark.parametrize("tag", METRICS)
def test_each_metric_is_shown_in_every_epoch(events, history, tag):
    assert dict(events[tag]) == {epoch: pytest.approx(metrics[tag])
                                 for epoch, metrics in enumerate(history, start=1)}


def test_nothing_in_the_history_is_missing_from_tensorboard(events, history):
    assert set(history[0]) - set(events) == set()


@pytest.mark.parametrize("tag", METRICS)
def test_a_resumed_run_shows_each_epoch_once(events, tag):
    assert steps(events[tag]) == EPOCHS


@pytest.mark.parametrize("name", PARAMETERS)
def test_each_parameter_has_a_gradient_norm_in_every_epoch(events, name):
    assert steps(events[f"gradient_norm/{name}"]) == EPOCHS


@pytest.fixture(scope="module")
def one_epoch(data_dir, splits, tmp_path_factory) -> tuple[dict, MLP]:
    """Return the events of a run of one epoch, of 3 batches, and the same made by hand.

    The network made by hand holds the weights after the epoch and the last batch's gradients.
    """
    log_dir = tmp_path_factory.mktemp("one_epoch") / "run"
    train.main([f"--data-dir={data_dir}", f"--log-dir={log_dir}", "--depth=2", "--epochs=1",
                "--batch-size=500", "--lr=0.1"])
    torch.manual_seed(0)
    model = MLP(depth=2)
    torch.manual_seed(100_000)  # the seed of epoch 1
    for images, labels in shuffled_batches(*splits["train"], 500):
        model.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
    return logged(log_dir), model


@pytest.mark.parametrize("name", PARAMETERS)
def test_gradient_norms_are_those_of_the_last_batch(one_epoch, name):
    events, model = one_epoch
    norm = model.get_parameter(name).grad.norm().item()
    assert dict(events[f"gradient_norm/{name}"])[1] == pytest.approx(norm, rel=1e-3)


# Histograms.


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_are_shown_at_the_start_and_after_every_epoch(events, name):
    assert steps(events[f"weights/{name}"]) == [0, *EPOCHS]


@pytest.mark.parametrize("name", WEIGHTS)
def test_gradients_are_shown_in_every_epoch(events, name):
    assert steps(events[f"gradients/{name}"]) == EPOCHS


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_first_histogram_holds_the_initial_weights(events, first_model, name):
    histogram, weight = dict(events[f"weights/{name}"])[0], first_model.get_parameter(name)
    assert histogram.num == weight.numel()
    assert histogram.sum_squares == pytest.approx(weight.square().sum().item(), rel=1e-3)


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_last_histogram_holds_the_weights_of_the_checkpoint(events, last_model, name):
    histogram, weight = dict(events[f"weights/{name}"])[12], last_model.get_parameter(name)
    assert histogram.num == weight.numel()
    assert histogram.sum_squares == pytest.approx(weight.square().sum().item(), rel=1e-3)


@pytest.mark.parametrize("name", WEIGHTS)
def test_gradients_in_histograms_are_those_of_the_norms(events, name):
    sums = {step: histogram.sum_squares for step, histogram in events[f"gradients/{name}"]}
    assert sums == {step: pytest.approx(norm ** 2, rel=1e-3)
                    for step, norm in events[f"gradient_norm/{name}"]}


@pytest.fixture
def frozen() -> dict[str, list[tuple]]:
    """Return the events of an epoch of a network whose hidden layer cannot learn."""
    model = MLP()
    model.hidden.requires_grad_(False)
    F.cross_entropy(model(noise_images(9) / 255), torch.arange(9)).backward()
    with log.SummaryWriter("run") as writer:
        log.log_epoch(writer, model, {}, 1)
    return logged("run")


@pytest.mark.parametrize("kind", ["gradients", "gradient_norm"])
def test_a_frozen_layer_shows_no_gradients(frozen, kind):
    shown = {tag for tag in frozen if tag.startswith(f"{kind}/") and tag.endswith("weight")}
    assert shown == {f"{kind}/output.weight"}


def test_a_frozen_layer_shows_its_weights(frozen):
    assert steps(frozen["weights/hidden.0.weight"]) == [1]


# Pictures: inputs and filters.


def test_inputs_are_shown_once_at_the_start(events):
    assert steps(events["inputs"]) == [0]


def test_a_run_begun_with_resume_shows_its_start_too():
    run("--epochs=1", "--hidden=5", "--resume")
    events = logged("run")
    tags = ["inputs", "filters", "weights/output.weight"]
    assert {tag: steps(events.get(tag, []))[:1] for tag in tags} == {tag: [0] for tag in tags}


def test_inputs_are_images_as_the_network_sees_them(events, splits):
    """Augmented, if it is trained so, and the same 64 for all runs of a seed."""
    variants = make_variants(splits["train"][0])
    torch.manual_seed(SEED)
    images, _ = next(shuffled_batches(*splits["train"], 64, variants))
    shown = tiles(grey_picture(events["inputs"], 0), 28, 28, padding=2)
    visible = images.clamp(0, 1)  # a learner's standardised pixels are partly not
    torch.testing.assert_close(shown / 255, visible, rtol=0, atol=1 / 255)


def test_without_augmentation_inputs_are_training_images(splits):
    run("--epochs=1", "--hidden=5")
    shown = tiles(grey_picture(logged("run")["inputs"], 0), 28, 28, padding=2)
    images = {image.numpy().tobytes() for image in splits["train"][0]}
    strange = [i for i, image in enumerate(shown) if image.numpy().tobytes() not in images]
    assert strange == [], "these of the 64 inputs are no training images"


def test_filters_are_shown_every_5_epochs_and_at_the_end(events):
    assert steps(events["filters"]) == [0, 5, 10, 12]


@pytest.mark.parametrize("step", [0, 12], ids=["start", "end"])
def test_filters_are_the_weights_of_36_hidden_units(events, first_model, last_model, step):
    weights = (last_model if step else first_model).hidden[0].weight[:36].view(36, 28, 28)
    grey = (weights.clamp(-0.3, 0.3) + 0.3) / 0.6 * 255
    shown = tiles(grey_picture(events["filters"], step), 28, 28, padding=1)
    torch.testing.assert_close(shown.float(), grey, rtol=0, atol=1)


@pytest.mark.parametrize(
    "weight, grey", [(-1, 0), (-0.3, 0), (0, 127), (0.15, 191), (0.3, 255), (1, 255)])
def test_filters_have_one_fixed_scale(weight, grey):
    """So that filters can be compared: black is -0.3 or less, grey is 0, white is 0.3 or more."""
    model = MLP()
    torch.nn.init.constant_(model.hidden[0].weight, weight)
    with log.SummaryWriter("run") as writer:
        log.log_filters(writer, model, 0)
    shown = tiles(grey_picture(logged("run")["filters"], 0), 28, 28, padding=1)
    assert shown.unique().tolist() == [grey]


@pytest.mark.parametrize("hidden", [1, 7])
def test_filters_can_be_fewer_than_36(hidden):
    with log.SummaryWriter("run") as writer:
        log.log_filters(writer, MLP(hidden=hidden), 0)
    assert steps(logged("run")["filters"]) == [0]


# Pictures: mistakes.


def caption(true: int, predicted: int, confidence: float) -> torch.Tensor:
    """Return the words below a mistake, drawn by hand: uint8 (48, 112)."""
    words = f"is {CLASSES[true]}\nsaid {CLASSES[predicted]}\nsure {confidence:.3f}"
    picture = Image.new("L", (112, 160))
    ImageDraw.Draw(picture).multiline_text((4, 114), words, fill="white")
    return pil_to_tensor(picture)[0, 112:]


def assert_caption(picture: torch.Tensor, true: int, predicted: int, confidence: float) -> None:
    """Fail if other words stand below the picture of a mistake, and tell which."""
    if not torch.equal(picture[112:], caption(true, predicted, confidence)):
        shown = [f"is {CLASSES[t]}, said {CLASSES[p]}" for t in range(10) for p in range(10)
                 if torch.equal(picture[112:], caption(t, p, confidence))]
        pytest.fail(f"the words are {shown or 'strange'} instead of is {CLASSES[true]}, said "
                    f"{CLASSES[predicted]}, sure {confidence:.3f}")


def magnified(image: torch.Tensor) -> torch.Tensor:
    """Return an image at four times its size, as Pillow magnifies it: uint8 (112, 112)."""
    return pil_to_tensor(Image.fromarray(image.numpy()).resize((28 * 4, 28 * 4)))[0]


def log_mistakes(labels: list[int], predicted: list[int], confidence: list[float]) -> None:
    """Log made-up answers for images of noise, in epoch 1."""
    with log.SummaryWriter("run") as writer:
        log.log_mistakes(writer, noise_images(len(labels)), torch.tensor(labels),
                         torch.tensor(predicted), torch.tensor(confidence), 1)


def mistakes_of(values: list[tuple], step: int) -> torch.Tensor:
    """Return the logged pictures of mistakes one by one: uint8 (N, 160, 112)."""
    return tiles(grey_picture(values, step), 160, 112, padding=2)


def show_mistakes(labels: list[int], predicted: list[int], confidence: list[float]) -> torch.Tensor:
    """Log made-up answers and return the pictures of the mistakes: uint8 (N, 160, 112)."""
    log_mistakes(labels, predicted, confidence)
    return mistakes_of(logged("run")["mistakes"], 1)


def image_numbers(pictures: torch.Tensor, images: torch.Tensor) -> list[int | None]:
    """Return the number of the image that each picture of a mistake shows, None for black."""
    numbers = {magnified(image).numpy().tobytes(): i for i, image in enumerate(images)}
    return [numbers.get(picture[:112].numpy().tobytes()) for picture in pictures]


def test_only_wrong_answers_are_mistakes():
    pictures = show_mistakes([0, 1, 2, 3, 4], [0, 9, 2, 9, 9], [0.9, 0.8, 0.7, 0.6, 0.5])
    assert sorted(image_numbers(pictures, noise_images(5))) == [1, 3, 4]


def test_the_surest_mistake_comes_first():
    pictures = show_mistakes([0, 0, 0], [1, 1, 1], [0.5, 0.7, 0.6])
    assert image_numbers(pictures, noise_images(3)) == [1, 2, 0]


def test_at_most_12_mistakes_are_shown():
    pictures = show_mistakes([0] * 20, [1] * 20, [0.5] * 20)
    assert len(pictures) == 12


def test_mistakes_stand_in_rows_of_three():
    show_mistakes([0] * 5, [1] * 5, [0.5] * 5)
    height, width = grey_picture(logged("run")["mistakes"], 1).shape
    assert [height // 160, width // 112] == [2, 3]


@pytest.mark.parametrize("true, predicted", [(0, 6), (6, 0), (5, 9), (1, 8)])
def test_a_mistakes_words_tell_truth_and_answer(true, predicted):
    pictures = show_mistakes([true] * 3, [predicted] * 3, [0.9] * 3)  # a full row
    assert_caption(pictures[0], true, predicted, 0.9)


def test_a_mistakes_words_tell_how_sure_the_network_was():
    pictures = show_mistakes([0] * 3, [1] * 3, [0.987, 0.876, 0.765])
    for picture, confidence in zip(pictures, [0.987, 0.876, 0.765]):
        assert_caption(picture, 0, 1, confidence)


@pytest.mark.parametrize("predicted", range(10), ids=CLASSES)
def test_a_mistakes_words_fit_below_its_picture(predicted):
    """They end before the right and the lower edge, which would cut them off."""
    words = caption(0, predicted, 0.999)
    right_and_lower_edge = [int(words[:, -1].max()), int(words[-1].max())]
    assert right_and_lower_edge == [0, 0]


def test_different_captions_look_different():
    """Else the tests of captions could not tell them apart."""
    looks = {caption(true, predicted, 0.9).numpy().tobytes()
             for true in range(10) for predicted in range(10)}
    assert len(looks) == 100


def test_a_single_mistake_is_shown():
    """make_grid() gives a single picture no frame, so show_mistakes cannot cut it out."""
    log_mistakes([0, 1], [0, 2], [0.9, 0.8])
    picture = grey_picture(logged("run")["mistakes"], 1)
    assert_equal(picture[:112], magnified(noise_images(2)[1]), "image 1")


def test_without_a_mistake_none_is_shown():
    log_mistakes([0, 1, 2], [0, 1, 2], [0.9, 0.8, 0.7])
    assert "mistakes" not in logged("run")


def test_mistakes_are_shown_where_a_run_ends(events):
    assert steps(events["mistakes"]) == [5, 12]


def test_mistakes_of_a_run_are_its_surest_of_the_test(events, splits, last_model):
    images, labels = splits["test"]
    predicted, confidence = answers(last_model, images, labels)
    wrong = [i for i in range(300) if predicted[i] != labels[i]]
    surest = sorted(wrong, key=lambda i: confidence[i], reverse=True)[:12]
    shown = mistakes_of(events["mistakes"], 12)
    assert image_numbers(shown, images) == surest


def test_the_words_below_a_runs_mistakes_are_true(events, splits, last_model):
    images, labels = splits["test"]
    predicted, confidence = answers(last_model, images, labels)
    shown = mistakes_of(events["mistakes"], 12)
    for place, i in enumerate(image_numbers(shown, images)):
        assert_caption(shown[place], int(labels[i]), predicted[i], confidence[i])


# Confusion matrices.

both_splits = pytest.mark.parametrize("split", ["test", "mirrored"])


def counts(events, split: str) -> list[list[int]]:
    """Return the last confusion matrix of the finished run, a row for each true class."""
    rows = table(events[f"confusion_matrix/{split}/text_summary"], 12)[1:]
    return [[int(cell) for cell in row[1:]] for row in rows]


@both_splits
def test_confusion_matrices_are_shown_where_a_run_ends(events, split):
    assert steps(events[f"confusion_matrix/{split}/text_summary"]) == [5, 12]


@both_splits
def test_confusion_rows_are_true_classes_columns_answers(events, splits, last_model, split):
    predicted, _ = answers(last_model, *splits[split])
    expected = [[0] * 10 for _ in range(10)]
    for true, answer in zip(splits[split][1].tolist(), predicted):
        expected[true][answer] += 1
    assert counts(events, split) == expected


@both_splits
def test_the_diagonal_of_a_confusion_matrix_is_the_accuracy(events, history, split):
    """So the matrix was counted in evaluation mode, without dropout."""
    right = sum(counts(events, split)[label][label] for label in range(10))
    assert right / 300 == pytest.approx(history[-1][f"accuracy/{split}"])


@both_splits
def test_confusion_rows_have_names_and_columns_numbers(events, split):
    titles, *rows = table(events[f"confusion_matrix/{split}/text_summary"], 12)
    assert titles[1:] == [str(label) for label in range(10)]
    assert [row[0] for row in rows] == [f"{label} {name}" for label, name in enumerate(CLASSES)]


def test_the_corner_of_a_confusion_matrix_tells_what_is_what(events):
    titles = table(events["confusion_matrix/test/text_summary"], 12)[0]
    assert titles[0] == "true \\ predicted"


def test_log_end_switches_dropout_off(splits):
    model = MLP(dropout=0.9).train()
    settings = {"init": "default", "augment": False, "dropout": 0.9}
    with log.SummaryWriter("run") as writer:
        log.log_end(writer, model, splits, settings, 5)
    assert not model.training


# Settings.


def test_settings_are_shown_at_every_start(events):
    assert steps(events["settings/text_summary"]) == [0, 5]


@pytest.mark.parametrize(
    "setting, value",
    [("init", "xavier"), ("augment", "True"), ("dropout", "0.3"), ("depth", "2"), ("hidden", "40"),
     ("epochs", "12"), ("batch_size", "128"), ("lr", "0.01"), ("patience", "2"), ("seed", "3")])
def test_each_setting_is_shown(events, setting, value):
    assert dict(table(events["settings/text_summary"], 5))[setting] == value


def test_settings_are_shown_as_they_were_at_each_start(events):
    """The run was resumed to become longer."""
    epochs = {step: dict(table(events["settings/text_summary"], step))["epochs"] for step in (0, 5)}
    assert epochs == {0: "5", 5: "12"}


@pytest.mark.parametrize("step", [0, 5], ids=["start", "resumed"])
@pytest.mark.parametrize(
    "what, value",
    [("device", "cpu"), ("threads", "1"), ("Python", platform.python_version()),
     ("torch", torch.__version__), ("torchvision", torchvision.__version__)],
    ids=["device", "threads", "Python", "torch", "torchvision"])
def test_device_threads_and_versions_are_shown(events, what, value, step):
    assert dict(table(events["settings/text_summary"], step))[what] == value


def test_the_number_of_threads_is_the_one_that_was_asked_for(monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", Mock())  # this process keeps its own
    run("--epochs=1", "--hidden=5", "--threads=2")
    assert dict(table(logged("run")["settings/text_summary"], 0))["threads"] == "2"


@pytest.mark.parametrize(
    "tag", ["settings", "confusion_matrix/test", "confusion_matrix/mirrored"])
def test_tables_in_tensorboard_are_markdown(events, tag):
    """Below the titles is a rule of dashes, in as many columns."""
    (text,) = events[f"{tag}/text_summary"][-1][1].string_val
    titles, rule, *rows = text.decode().splitlines()
    columns = {line.count("|") for line in (titles, rule, *rows)}
    assert columns == {titles.count("|")}
    assert set(rule) == set("| -")


# HPARAMS.


@pytest.mark.parametrize(
    "flags, expected",
    [([], {"init": "default", "augment": "no", "dropout": 0}),
     (["--augment"], {"init": "default", "augment": "yes", "dropout": 0}),
     (["--init=zero", "--dropout=0.25"], {"init": "zero", "augment": "no", "dropout": 0.25})],
    ids=["plain", "augment", "zero, dropout"])
def test_hparams_shows_init_augment_and_dropout(flags, expected):
    run(*flags, "--epochs=1", "--hidden=5")
    values = hparams_values("run")
    assert {name: values[name] for name in expected} == expected


@pytest.mark.parametrize("metric", ["accuracy/test", "loss/gap", "accuracy/mirrored"])
def test_hparams_has_a_column_for_each_main_metric(hparams_metrics, metric):
    assert metric in hparams_metrics


def test_hparams_has_nothing_of_a_run_that_stops_before_its_end(monkeypatch):
    save = Mock(side_effect=[None, KeyboardInterrupt])
    monkeypatch.setattr(train, "save_checkpoint", save)
    with pytest.raises(KeyboardInterrupt):
        run("--epochs=3", "--hidden=5")
    assert hparams_contents("run") == {}


def test_a_run_is_one_run_in_tensorboard(finished):
    """SummaryWriter.add_hparams() would make a directory of its own, and so a second run."""
    assert [path.name for path in finished.iterdir() if path.is_dir()] == []


# The event files.


def test_a_run_of_20_epochs_takes_less_than_5_megabytes():
    """A run of the default size, here of 5 epochs: what it shows once counts four times here."""
    run("--epochs=5", "--augment")
    size = sum(path.stat().st_size for path in Path("run").glob("events.*"))
    assert size * 20 / 5 < 5_000_000


def test_event_files_are_read_in_the_order_of_their_starts():
    """Of 12 starts, one of them numbered already; the clock was put back before the next."""
    starts = ["0000000000", *(f"{1_700_000_000 + i}.host.1.0" for i in range(11))]
    for start in starts:
        Path(f"events.out.tfevents.{start}").write_text(start)
    log.number_event_files(Path())
    Path("events.out.tfevents.1600000000.host.1.0").write_text("the next")
    assert [path.read_text() for path in sorted(Path().glob("events.*"))] == [*starts, "the next"]
