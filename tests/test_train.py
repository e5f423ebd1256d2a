"""What training does: its steps, its measurements, its learning rate, its randomness."""

from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest
import torch
from torch import nn

import train
from conftest import EXPERIMENTS, checkpoint, dictate_losses, logged, run, skip_start_and_end
from model import MLP

pytestmark = pytest.mark.usefixtures("only_epochs_logged")
PARAMETERS = ["hidden.0.weight", "hidden.0.bias", "output.weight", "output.bias"]
OTHER_EXPERIMENTS = [name for name in EXPERIMENTS if name != "vanilla"]
MEASURED = ["train_clean", "val", "test", "mirrored"]


# The same training by hand. The random numbers are PyTorch's, the rest is numpy in float64.


def answer_by_hand(weights: list, images: torch.Tensor) -> tuple:
    """Return pixels (B, 784), hidden activations (B, hidden) and probabilities (B, 10)."""
    w1, b1, w2, b2 = weights
    pixels = images.flatten(1).double().numpy() / 255
    activations = numpy.maximum(pixels @ w1.T + b1, 0)  # ReLU
    odds = numpy.exp(activations @ w2.T + b2)
    return pixels, activations, odds / odds.sum(axis=1, keepdims=True)  # softmax


def measure_by_hand(weights: list, images: torch.Tensor, labels: torch.Tensor) -> tuple:
    """Return the cross-entropy of each example and whether it is classified correctly."""
    _, _, probabilities = answer_by_hand(weights, images)
    losses = -numpy.log(probabilities[range(len(labels)), labels])
    return losses, probabilities.argmax(axis=1) == labels.numpy()


def gradients_by_hand(weights: list, images: torch.Tensor, labels: torch.Tensor) -> list:
    """Return the gradient of the mean cross-entropy for each of the weights."""
    pixels, activations, probabilities = answer_by_hand(weights, images)
    error = (probabilities - numpy.eye(10)[labels]) / len(labels)  # the gradient of the logits
    back = error @ weights[2] * (activations > 0)  # that of the hidden units' sums
    return [back.T @ pixels, back.sum(axis=0), error.T @ activations, error.sum(axis=0)]


def train_by_hand(splits: dict, seed: int, hidden: int, epochs: int, batch_size: int, lr: float):
    """Return the weights and biases after training, and the metrics of every epoch."""
    torch.manual_seed(seed)
    layers = nn.Linear(784, hidden), nn.Linear(hidden, 10)
    weights = [part.detach().double().numpy() for layer in layers for part in layer.parameters()]
    images, labels = splits["train"]
    history = []
    for epoch in range(1, epochs + 1):
        torch.manual_seed(seed + 100_000 * epoch)
        losses = []
        for indices in torch.randperm(len(images)).split(batch_size):
            batch = images[indices], labels[indices]
            losses.extend(measure_by_hand(weights, *batch)[0])
            gradients = gradients_by_hand(weights, *batch)
            weights = [weight - lr * gradient for weight, gradient in zip(weights, gradients)]
        metrics = {"loss/train": numpy.mean(losses)}
        for split in MEASURED:
            losses, correct = measure_by_hand(weights, *splits[split])
            metrics |= {f"loss/{split}": losses.mean(), f"accuracy/{split}": correct.mean()}
        history.append(metrics)
    return weights, history


@pytest.fixture(scope="module")
def by_hand(data_dir) -> SimpleNamespace:
    """The plain run, computed by hand: splits, weights, history."""
    splits = train.load_splits(data_dir)
    # with the flags of plain_run in conftest.py
    weights, history = train_by_hand(splits, seed=5, hidden=20, epochs=4, batch_size=120, lr=0.5)
    return SimpleNamespace(splits=splits, weights=weights, history=history)


@pytest.mark.parametrize("name", PARAMETERS)
def test_training_is_plain_gradient_descent(name, plain_run, by_hand):
    trained = numpy.array(checkpoint(plain_run.directory)["model"][name])
    expected = by_hand.weights[PARAMETERS.index(name)]
    errors = abs(trained - expected)
    # Only the worst one is compared, so that a failure names its place.
    worst = tuple(numpy.argwhere(errors == errors.max())[0].tolist())
    # float32 makes errors of 3e-7 here; a weight decay of 1e-5 would make some of 2e-5.
    assert trained[worst] == pytest.approx(expected[worst], rel=0, abs=5e-6), f"{name} at {worst}"


def test_loss_train_is_the_mean_over_all_examples(plain_run, by_hand):
    """The last batch has 20 images, the others 120: a mean over batches would be another."""
    found = [metrics["loss/train"] for metrics in plain_run.history]
    assert found == pytest.approx([metrics["loss/train"] for metrics in by_hand.history], rel=1e-5)


@pytest.mark.parametrize("split", MEASURED)
@pytest.mark.parametrize("quantity", ["loss", "accuracy"])
def test_each_epoch_measures_loss_and_accuracy_of_4_splits(quantity, split, plain_run, by_hand):
    tag = f"{quantity}/{split}"
    found = [metrics[tag] for metrics in plain_run.history]
    assert found == pytest.approx([metrics[tag] for metrics in by_hand.history], rel=1e-5)


def test_the_reference_by_hand_has_activations_above_6(by_hand):
    """Else the tests above could not tell ReLU from ReLU6."""
    _, activations, _ = answer_by_hand(by_hand.weights, by_hand.splits["train"][0])
    assert activations.max() > 6


def test_the_gap_is_loss_val_minus_loss_train_clean(plain_run):
    found = [metrics["loss/gap"] for metrics in plain_run.history]
    expected = [metrics["loss/val"] - metrics["loss/train_clean"] for metrics in plain_run.history]
    assert found == pytest.approx(expected)


def test_main_returns_the_history_of_the_checkpoint(plain_run):
    assert plain_run.history == checkpoint(plain_run.directory)["history"]


# Dropout


class WatchedMLP(MLP):
    """A small network that notes how it is called."""

    def __init__(self) -> None:
        super().__init__(hidden=5)
        self.calls = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls.append("training" if self.training else "evaluation")
        return super().forward(images)


BATCHES = [(torch.ones(4, 28, 28), torch.arange(4))] * 2


def test_an_epoch_trains_with_dropout_on():
    model = WatchedMLP().eval()
    train.train_epoch(model, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters()), BATCHES)
    assert model.calls == ["training"] * 2


def test_evaluation_has_dropout_off():
    model = WatchedMLP().train()
    train.evaluate(model, nn.CrossEntropyLoss(), BATCHES)
    assert model.calls == ["evaluation"] * 2


def test_evaluation_records_nothing_for_gradients():
    recorded = []

    def criterion(logits, labels):
        recorded.append(logits.requires_grad)
        return logits.sum()

    train.evaluate(MLP(hidden=5), criterion, BATCHES)
    assert recorded == [False] * 2


# Initial weights


class TrainingBegins(Exception):
    """Raised instead of training; its argument is the network."""


def initial_network(monkeypatch, *flags) -> MLP:
    """Return the network with which these flags begin to train."""

    def begin(model, *_):
        raise TrainingBegins(model)

    with monkeypatch.context() as patch:
        patch.setattr(train, "train_epoch", begin)
        with pytest.raises(TrainingBegins) as begun:
            run(*flags)
    return begun.value.args[0]


def test_depth_1_draws_what_two_linear_layers_draw(monkeypatch):
    model = initial_network(monkeypatch, "--seed", 5)
    torch.manual_seed(5)
    expected = [*nn.Linear(784, 100).parameters(), *nn.Linear(100, 10).parameters()]
    for (name, part), expected_part in zip(model.named_parameters(), expected, strict=True):
        assert part.tolist() == expected_part.tolist(), name


def test_depth_and_hidden_are_the_layers_and_their_units(monkeypatch):
    model = initial_network(monkeypatch, "--depth", 3, "--hidden", 7)
    shapes = [tuple(layer.weight.shape) for layer in (*model.hidden, model.output)]
    assert shapes == [(7, 784), (7, 7), (7, 7), (10, 7)]


def test_dropout_is_the_share_of_units_to_drop(monkeypatch):
    assert initial_network(monkeypatch, "--dropout", 0.3).dropout.p == 0.3


def test_the_weights_are_initialised_by_the_mode(monkeypatch):
    model = initial_network(monkeypatch, "--init", "zero")
    largest = {name: part.abs().max().item() for name, part in model.named_parameters()}
    assert largest == dict.fromkeys(PARAMETERS, 0)


def test_weights_are_drawn_before_they_go_to_the_device(monkeypatch):
    """Other devices draw other numbers, so on them a seed would begin with other weights."""
    order = []

    def initialize(model, mode):
        order.append("initialised")

    def to(model, device):
        order.append(f"moved to {device}")
        return model

    monkeypatch.setattr(train, "initialize", initialize)
    monkeypatch.setattr(MLP, "to", to)
    run("--device", "cpu:0", "--epochs", 1)
    assert order == ["initialised", "moved to cpu:0"]


def test_the_data_go_to_the_device(monkeypatch):
    splits = train.load_splits(Path("data"))
    devices = []

    def load_splits(data_dir, device):
        devices.append(device)
        return splits

    monkeypatch.setattr(train, "load_splits", load_splits)
    run("--device", "cpu:0", "--epochs", 1)
    assert devices == ["cpu:0"]


# Zero initialisation


@pytest.fixture(scope="module")
def zero_run(data_dir, tmp_path_factory) -> Path:
    """The directory of a run with zero initialisation, changed by no test."""
    log_dir = tmp_path_factory.mktemp("zero") / "run"
    train.main(["--init=zero", "--epochs=2", f"--data-dir={data_dir}", f"--log-dir={log_dir}"])
    return log_dir


@pytest.mark.parametrize("name", PARAMETERS)
def test_training_from_zero_moves_only_the_output_bias(name, zero_run):
    largest = numpy.abs(checkpoint(zero_run)["model"][name]).max()
    assert (largest > 0) == (name == "output.bias"), f"{name} has moved by up to {largest}"


@pytest.mark.parametrize("name", PARAMETERS)
def test_from_zero_gradients_reach_only_the_output_bias(name, zero_run):
    norms = [norm for _, norm in logged(zero_run)[f"gradient_norm/{name}"]]
    assert [norm > 0 for norm in norms] == [name == "output.bias"] * 2, f"{name} has {norms}"


# A frozen layer, as in an exercise of the README


@pytest.fixture
def frozen_run(monkeypatch) -> list[dict]:
    """The history of a run whose hidden layer is frozen."""

    def freeze(model, mode):
        model.hidden.requires_grad_(False)

    monkeypatch.setattr(train, "initialize", freeze)
    return run("--epochs", 3, "--hidden", 10)


def test_with_a_frozen_layer_the_rest_is_trained(frozen_run):
    assert frozen_run[2]["loss/train"] < frozen_run[0]["loss/train"]


def test_a_frozen_layer_is_saved_as_it_was(frozen_run):
    torch.manual_seed(0)
    assert checkpoint("run")["model"]["hidden.0.weight"] == nn.Linear(784, 10).weight.tolist()


# The learning rate


def rates(*flags, epochs: int) -> list[float]:
    """Return the learning rate of each epoch of a run."""
    history = run(*flags, "--hidden", 5, "--epochs", epochs)
    return [metrics["learning_rate"] for metrics in history]


@pytest.mark.parametrize("patience, val, expected", [
    pytest.param(2, [1, 2, 2, 2, 2], [0.2] * 4 + [0.02], id="a third epoch without a low"),
    pytest.param(2, [1, 2, 2, 0.9, 2, 2, 2], [0.2] * 7, id="a new low begins the count anew"),
    pytest.param(2, [1] * 8, [0.2] * 4 + [0.02] * 3 + [0.002], id="equal is no low: falls twice"),
    pytest.param(2, [10, *[9.9995] * 4], [0.2] * 4 + [0.02], id="0.005 % lower is no new low"),
    pytest.param(2, [0.1, 2, 2, 0.09998, 2], [0.2] * 5, id="0.02 % lower is a new low"),
    pytest.param(0, [1] * 6, [0.2, 0.2, 0.02, 2e-3, 2e-4, 2e-5], id="patience 0, again and again"),
    pytest.param(1, [1, 2, 2, 2], [0.2] * 3 + [0.02], id="patience 1"),
    pytest.param(1000, [1] * 9, [0.2] * 9, id="patience 1000 keeps the rate"),
])
def test_rate_falls_after_patience_plus_1_epochs(patience, val, expected, monkeypatch):
    dictate_losses(monkeypatch, val=val)
    assert rates("--patience", patience, epochs=len(val)) == pytest.approx(expected)


@pytest.mark.parametrize("split", ["train", "train_clean", "test", "mirrored"])
def test_only_loss_val_lets_the_rate_fall(split, monkeypatch):
    dictate_losses(monkeypatch, **{split: [1, 2, 2, 2, 2, 2]})
    assert rates(epochs=6) == [0.2] * 6


def test_lr_is_the_rate_at_the_start(monkeypatch):
    dictate_losses(monkeypatch, val=[1] * 5)
    assert rates("--lr", 3, epochs=5) == pytest.approx([3, 3, 3, 3, 0.3])


# Randomness


@pytest.fixture(scope="module")
def batches(data_dir, tmp_path_factory) -> dict[str, list[list]]:
    """The batches of the first two epochs of the experiments and of other seeds: {name: epochs}."""
    home = tmp_path_factory.mktemp("batches")
    seen = []

    def look(model, criterion, optimizer, batches):
        seen.append(list(batches))
        return 1.0

    runs = EXPERIMENTS | {f"seed {seed}": [f"--seed={seed}"] for seed in (1, 2, 3)}
    shared = [f"--data-dir={data_dir}", "--hidden=5", "--epochs=2", "--batch-size=512"]
    with pytest.MonkeyPatch.context() as patch:
        skip_start_and_end(patch)
        patch.setattr(train, "train_epoch", look)
        patch.setattr(train, "evaluate", lambda *_: (1.0, 0.5))
        for name, flags in runs.items():
            train.main([*shared, *flags, f"--log-dir={home / name}"])
    return {name: [seen.pop(0), seen.pop(0)] for name in runs}


def order(epoch: list) -> list[int]:
    """Return the labels of an epoch's examples, which tell their order."""
    return torch.cat([labels for _, labels in epoch]).tolist()


def pixels(epoch: list) -> torch.Tensor:
    """Return the images of an epoch: float32 (N, 784)."""
    return torch.cat([images for images, _ in epoch]).flatten(1)


@pytest.mark.parametrize("name", OTHER_EXPERIMENTS)
def test_experiments_see_the_images_in_the_same_order(name, batches):
    for number, (epoch, expected) in enumerate(zip(batches[name], batches["vanilla"]), start=1):
        assert order(epoch) == order(expected), f"epoch {number} of {name}"


def test_no_two_epochs_or_seeds_have_the_same_order(batches):
    seen = {}
    for name in "vanilla", "seed 1", "seed 2", "seed 3":
        for number, epoch in enumerate(batches[name], start=1):
            twin = seen.setdefault(str(order(epoch)), (name, number))
            assert twin == (name, number), "two epochs with the same order"


@pytest.mark.parametrize("name", OTHER_EXPERIMENTS)
def test_only_the_flag_augment_changes_training_images(name, batches):
    for number, (epoch, plain) in enumerate(zip(batches[name], batches["vanilla"]), start=1):
        share = (pixels(epoch) != pixels(plain)).any(dim=1).double().mean().item()
        # One of the 18 variants is the image itself.
        expected = pytest.approx(17 / 18, abs=0.03) if "augment" in name else 0
        assert share == expected, f"changed in epoch {number} of {name}"


def test_batch_size_is_the_number_of_images_in_a_step(batches):
    assert [len(labels) for _, labels in batches["vanilla"][0]] == [512, 512, 76]


RANDOM_FLAGS = ["--augment", "--dropout", 0.5, "--epochs", 2, "--hidden", 10]


def test_the_same_seed_gives_the_same_bits():
    run(*RANDOM_FLAGS, log_dir="one")
    run(*RANDOM_FLAGS, log_dir="two")
    assert checkpoint("one") == checkpoint("two")


def test_test_labels_change_no_weight(monkeypatch):
    run(*RANDOM_FLAGS, log_dir="true")
    splits = train.load_splits(Path("data"))
    for split in "train_clean", "test", "mirrored":
        images, labels = splits[split]
        splits[split] = images, labels.flip(0)
    monkeypatch.setattr(train, "load_splits", lambda *_: splits)
    run(*RANDOM_FLAGS, log_dir="flipped")
    for part in "model", "optimizer", "scheduler":
        assert checkpoint("flipped")[part] == checkpoint("true")[part], part
