"""What training does: its steps, its measurements, its learning rate, its randomness."""

from functools import partial
from pathlib import Path

import numpy
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import train
from conftest import EXPERIMENTS, checkpoint, dictate_losses, logged, quick_run, run
from data import draw_variants, load_splits, make_variants
from init import MODES

MEASURED = ["train_clean", "val", "test", "mirrored"]
FIFTH_EXPERIMENT = EXPERIMENTS["xavier-augment-dropout"]


# The same training by hand, with numpy in float64. Only what is random comes from PyTorch and from
# the program: the initial weights, the order of the images, their variants, the dropped units.
# parameters: weights and biases, [w1, b1, w2, b2, ...]; a layer computes inputs @ w.T + b.


def forward(parameters: list, images: torch.Tensor, masks: list | None = None) -> tuple:
    """Return the inputs of each layer and the probabilities, (B, 10).

    masks: for each hidden layer, the numbers by which dropout multiplies the activations, (B,
    units): 0 for a unit that is dropped. Without masks, no unit is dropped.
    """
    inputs = [images.flatten(1).double().numpy() / 255]
    for i in range(0, len(parameters) - 2, 2):
        activations = numpy.maximum(inputs[-1] @ parameters[i].T + parameters[i + 1], 0)  # ReLU
        inputs.append(activations * masks[i // 2] if masks else activations)
    exponentials = numpy.exp(inputs[-1] @ parameters[-2].T + parameters[-1])
    return inputs, exponentials / exponentials.sum(axis=1, keepdims=True)  # softmax


def cross_entropies(probabilities: numpy.ndarray, labels: torch.Tensor) -> numpy.ndarray:
    """Return the loss of each example: -ln of the probability of its class."""
    return -numpy.log(probabilities[range(len(labels)), labels])  # row i, column labels[i]


def gradients(parameters: list, inputs: list, probabilities, labels, masks: list) -> list:
    """Return the gradient of the batch's mean loss for each of the parameters.

    inputs, probabilities and masks: as in forward().
    """
    found = []
    correct = numpy.eye(10)[labels]  # (B, 10): in each row a 1 for the correct class, else 0
    error = (probabilities - correct) / len(labels)  # the gradients of the logits
    for i in reversed(range(0, len(parameters), 2)):  # from the last layer to the first
        layer = i // 2
        # The gradients of the weights, (outputs, inputs), and of the biases, (outputs,).
        found = [error.T @ inputs[layer], error.sum(axis=0), *found]
        if layer > 0:  # back through dropout and ReLU: the gradients of the previous layer's sums
            # Dropout multiplied by the mask, and ReLU let only positive sums pass.
            error = (error @ parameters[i]) * masks[layer - 1] * (inputs[layer] > 0)
    return found


def splits_of(examples: int = 55_000) -> dict[str, tuple]:
    """Return the splits of the made-up data set, by default all of its 1,100 training images."""
    return load_splits(train.DEFAULT_DATA_DIR, examples=examples)


def measure(parameters: list, splits: dict) -> dict[str, float]:
    """Return the metrics of the four splits: on their plain images, with no unit dropped."""
    metrics = {}
    for split in MEASURED:
        images, labels = splits[split]
        _, probabilities = forward(parameters, images)
        metrics[f"loss/{split}"] = cross_entropies(probabilities, labels).mean()
        metrics[f"accuracy/{split}"] = (probabilities.argmax(axis=1) == labels.numpy()).mean()
    metrics["loss/gap"] = metrics["loss/val"] - metrics["loss/train_clean"]
    return metrics


def train_by_hand(flags: list[str]) -> tuple[list, list[dict]]:
    """Return the parameters after training, and the metrics of each epoch.

    At most four epochs, so that the learning rate stays the same: with patience 2, epoch 5 is the
    first in which it can be lower.
    """
    # Nothing is resumed here, but without --resume, parse_args() refuses the flags of a run that
    # exists.
    args = train.parse_args([*flags, "--resume"])
    splits = splits_of(args.examples)
    images, labels = splits["train"]
    sizes = [784, *[args.hidden] * args.depth, 10]
    torch.manual_seed(args.seed)
    layers = [nn.Linear(fan_in, fan_out) for fan_in, fan_out in zip(sizes, sizes[1:])]
    for layer in layers:
        MODES[args.init](layer)
    parameters = [p.detach().double().numpy() for layer in layers for p in layer.parameters()]
    history = []
    for epoch in range(1, args.epochs + 1):
        losses = []
        torch.manual_seed(args.seed + 100_000 * epoch)
        for indices in torch.randperm(len(images)).split(args.batch_size):
            batch = images[indices]
            if args.augment:
                batch = draw_variants(make_variants(images), indices)
            # Dropout applied to ones gives the masks. It drops the same units as in the program,
            # because both draw the same random numbers.
            ones = torch.ones(len(indices), args.hidden)
            masks = [F.dropout(ones, args.dropout).double().numpy() for _ in range(args.depth)]
            inputs, probabilities = forward(parameters, batch, masks)
            losses.extend(cross_entropies(probabilities, labels[indices]))
            steps = gradients(parameters, inputs, probabilities, labels[indices], masks)
            parameters = [p - args.lr * gradient for p, gradient in zip(parameters, steps)]
        history.append(measure(parameters, splits) | {"loss/train": numpy.mean(losses)})
    return parameters, history


def saved_parameters(log_dir) -> dict[str, numpy.ndarray]:
    """Return {name: values} of the weights and biases in a run's checkpoint."""
    model = torch.load(Path(log_dir, "checkpoint.pt"), weights_only=True)["model"]
    return {name: values.double().numpy() for name, values in model.items()}


def assert_same_parameters(found: dict, expected: list) -> None:
    """Fail if a weight or a bias differs by more than 5e-6.

    The rounding of float32 causes differences of 3e-7 here. A mistake causes larger ones: even a
    weight decay of 1e-5 would change some weights by 2e-5.
    """
    assert [p.shape for p in found.values()] == [p.shape for p in expected]
    errors = {name: abs(p - q).max() for (name, p), q in zip(found.items(), expected)}
    wrong = {name: error for name, error in errors.items() if not error <= 5e-6}  # nan is wrong
    assert wrong == {}


def assert_same_metrics(found: dict, expected: dict, when: str) -> None:
    """Fail if metrics differ by more than the rounding of float32, and name those that do."""
    wrong = {tag: (found.get(tag), value) for tag, value in expected.items()
             if found.get(tag) != pytest.approx(value, rel=1e-5, abs=1e-6)}
    assert wrong == {}, f"{when}: found and expected"


@pytest.fixture(scope="module")
def by_hand(plain_run) -> tuple[list, list[dict]]:
    """The plain run, computed by hand: parameters, history."""
    parameters, history = train_by_hand(plain_run.flags)
    inputs, _ = forward(parameters, splits_of()["train"][0])
    # If model.py used ReLU6, which is ReLU capped at 6, only activations above 6 would reveal it.
    assert inputs[1].max() > 6, "with such small activations, ReLU6 would not be noticed"
    return parameters, history


def test_training_is_plain_gradient_descent(plain_run, by_hand):
    assert_same_parameters(saved_parameters(plain_run.directory), by_hand[0])


def test_every_epochs_metrics_match_those_computed_by_hand(plain_run, by_hand):
    """loss/train is a mean over examples.

    The last batch has 20 images, the others have 120, so the mean of the batches' means differs.
    """
    pairs = zip(plain_run.history, by_hand[1], strict=True)
    for epoch, (found, expected) in enumerate(pairs, start=1):
        assert_same_metrics(found, expected, f"epoch {epoch}")


def test_a_resumed_deep_run_with_augmentation_and_dropout_matches_training_by_hand():
    flags = ["--init=xavier", "--augment", "--dropout=0.3", "--depth=3", "--hidden=20", "--seed=5",
             "--examples=300"]
    quick_run(*flags, "--epochs=1")
    history = quick_run(*flags, "--epochs=3", "--resume")
    parameters, expected = train_by_hand([*flags, "--epochs=3"])
    assert_same_parameters(saved_parameters("run"), parameters)
    losses = [metrics["loss/train"] for metrics in history]
    assert losses == pytest.approx([metrics["loss/train"] for metrics in expected], rel=1e-5)


# The measurements


def test_measurements_are_without_augmentation_or_dropout():
    """In any run, the four splits are measured on plain images, with every unit of the network.

    The second epoch of each run is resumed, because a resumed run loads the splits and makes the
    variants again, and could measure on the wrong ones.
    """
    splits = splits_of(examples=300)
    for name, flags in {"augment": ["--augment"], "dropout": ["--dropout=0.5"],
                        "both, deep": ["--augment", "--dropout=0.5", "--depth=3"]}.items():
        for epoch in 1, 2:
            history = quick_run(*flags, "--examples=300", f"--epochs={epoch}", "--resume",
                                log_dir=name)
            expected = measure([*saved_parameters(name).values()], splits)
            assert_same_metrics(history[-1], expected, f"{name}, epoch {epoch}")


def test_measuring_tracks_no_gradients():
    """Tracking would take time and memory."""
    recorded = []

    def criterion(logits, labels):
        recorded.append(logits.requires_grad)
        return logits.sum()

    train.evaluate(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), criterion,
                   [(torch.ones(4, 28, 28), torch.arange(4))])
    assert recorded == [False]


# The learning rate


def rates(monkeypatch, *flags, **losses) -> list[float]:
    """Return the learning rate of each epoch of a run that takes its losses from these lists.

    It does not train: dictate_losses() hands out the losses.
    """
    dictate_losses(monkeypatch, **losses)
    epochs = len(next(iter(losses.values())))
    log_dir = "run" + "".join(map(str, flags))  # each run of a test needs its own
    history = quick_run(*flags, "--hidden=5", "--epochs", epochs, log_dir=log_dir)
    return [round(metrics["learning_rate"], 9) for metrics in history]


def test_the_rate_falls_after_patience_plus_1_epochs_without_a_new_low(monkeypatch):
    """The first loss counts as a low; the same loss again does not. The rate falls to a tenth.

    For example, with patience 2, there is no new low in epochs 2, 3 and 4, so epoch 5 is the first
    with the lower rate.
    """
    found = {patience: rates(monkeypatch, "--patience", patience, val=[1] * 8)
             for patience in (0, 1, 2, 1000)}
    assert found == {
        0: [0.2, 0.2, 0.02, 0.002, 0.0002, 0.00002, 0.000002, 0.0000002],
        1: [0.2, 0.2, 0.2, 0.02, 0.02, 0.002, 0.002, 0.0002],
        2: [0.2, 0.2, 0.2, 0.2, 0.02, 0.02, 0.02, 0.002],
        1000: [0.2] * 8,
    }


def test_a_new_low_restarts_the_count_of_epochs(monkeypatch):
    """A new low is below all losses so far, even if only by 0.1%, as 0.0999 is in epoch 4.

    Without that new low, the rate would fall in epoch 5. The 1 in epoch 7 is below the 2 before it,
    but not a new low; if it were one, the rate would not fall in epoch 8.
    """
    losses = [0.1, 2, 2, 0.0999, 2, 2, 1, 1]
    assert rates(monkeypatch, val=losses) == [0.2] * 7 + [0.02]


def test_only_loss_val_affects_the_rate(monkeypatch):
    rising = [1, 2, 3, 4, 5, 6]  # while val, which is not given, falls
    others = dict.fromkeys(["train", "train_clean", "test", "mirrored"], rising)
    assert rates(monkeypatch, **others) == [0.2] * 6


# Randomness


@pytest.fixture(scope="module")
def epochs_seen(data_dir, tmp_path_factory) -> dict[str, list[tuple]]:
    """What a network is trained on in two epochs: {name of the run: [(images, labels), ...]}.

    images: float32 (N, 784), labels: int64 (N,). The runs are the experiments and three more seeds.
    """
    home = tmp_path_factory.mktemp("epochs_seen")
    seen = {}

    def record(name, model, criterion, optimizer, batches):
        images, labels = zip(*batches)
        seen.setdefault(name, []).append((torch.cat(images).flatten(1), torch.cat(labels)))
        return 1.0

    runs = EXPERIMENTS | {f"seed {seed}": [f"--seed={seed}"] for seed in (1, 2, 3)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "evaluate", lambda *_: (1.0, 0.5))
        for name, flags in runs.items():
            patch.setattr(train, "train_epoch", partial(record, name))
            quick_run(*flags, "--hidden=5", "--epochs=2", log_dir=home / name)
    return seen


def test_all_experiments_train_in_the_same_order(epochs_seen):
    """So a difference between two of them is not due to the order.

    The sequence of the labels shows the order of the images.
    """
    for name in EXPERIMENTS:
        for epoch, plain_epoch in zip(epochs_seen[name], epochs_seen["vanilla"], strict=True):
            assert torch.equal(epoch[1], plain_epoch[1]), f"labels of {name}"


def test_no_two_epochs_or_seeds_have_the_same_order(epochs_seen):
    orders = {(name, epoch): tuple(epochs_seen[name][epoch - 1][1].tolist())
              for name in ("vanilla", "seed 1", "seed 2", "seed 3") for epoch in (1, 2)}
    assert len(set(orders.values())) == 8, orders


def test_only_augment_changes_the_training_images(epochs_seen):
    """17 of the 18 variants are different from the image, so 17/18 of the images differ."""
    for name in EXPERIMENTS:
        for epoch, plain_epoch in zip(epochs_seen[name], epochs_seen["vanilla"], strict=True):
            share = (epoch[0] != plain_epoch[0]).any(dim=1).double().mean().item()
            expected = pytest.approx(17 / 18, abs=0.03) if "augment" in name else 0
            assert share == expected, name


def test_the_same_command_gives_the_same_bits():
    for log_dir in "one", "two":
        quick_run(*FIFTH_EXPERIMENT, "--epochs=2", "--hidden=10", log_dir=log_dir)
    assert checkpoint("one") == checkpoint("two")


def test_no_measurement_but_loss_val_affects_training(monkeypatch):
    """Even if the other splits are replaced by nine images with wrong labels."""
    flags = [*FIFTH_EXPERIMENT, "--epochs=3", "--hidden=10", "--patience=0"]
    # With patience 0, one epoch without a new low is enough to reduce the learning rate.
    quick_run(*flags, log_dir="true")
    splits = splits_of()
    for split in "train_clean", "test", "mirrored":
        images, labels = splits[split]
        splits[split] = images[:9], (labels[:9] + 1) % 10  # every label is wrong
    monkeypatch.setattr(train, "load_splits", lambda *_: splits)
    quick_run(*flags, log_dir="wrong")
    for part in "model", "optimizer", "scheduler":
        assert checkpoint("wrong")[part] == checkpoint("true")[part], part


# The device


class TrainingBegins(Exception):
    """Raised instead of training."""


def test_network_and_images_are_moved_to_the_device(monkeypatch):
    """The device "meta" stores no numbers, so it works on every computer, but cannot train."""
    devices = []

    def record(model, criterion, optimizer, batches):
        devices.extend(tensor.device.type for tensor in (*model.parameters(), *next(batches)))
        raise TrainingBegins

    monkeypatch.setattr(train, "train_epoch", record)
    monkeypatch.setattr(train, "log_start", lambda *_: None)
    args = train.parse_args(["--augment"])
    args.device = "meta"  # which parse_args() would refuse
    with pytest.raises(TrainingBegins):
        train.train(args)
    assert devices == ["meta"] * 6  # four parameters, images and labels


def test_weights_are_drawn_before_they_are_moved(monkeypatch):
    """Devices draw different random numbers, so a seed would give different weights on a GPU.

    This test needs no GPU: it copies the weights just as the network is moved. Training must start
    from them. The tiny learning rate hardly changes them, so the checkpoint must still have them.
    """
    moved = []

    class Watched(train.MLP):
        def to(self, device):
            moved.extend(parameter.clone() for parameter in self.parameters())
            return super().to(device)

    monkeypatch.setattr(train, "MLP", Watched)
    quick_run("--init=xavier", "--epochs=1", "--hidden=5", "--lr=1e-9")
    trained = checkpoint()["model"].values()
    for before, after in zip(moved, trained, strict=True):
        torch.testing.assert_close(before, torch.tensor(after), rtol=0, atol=1e-6)


# Changes that a learner might make


def test_a_frozen_layer_does_not_change_and_the_rest_is_trained(monkeypatch):
    def freeze(model, mode):
        """Stand in for initialize(), which is called between creating and training the model."""
        model.hidden.requires_grad_(False)

    monkeypatch.setattr(train, "initialize", freeze)
    history = quick_run("--epochs=3", "--hidden=10")
    assert history[2]["loss/train"] < history[0]["loss/train"]
    torch.manual_seed(0)  # --seed is 0 by default
    hidden = nn.Linear(784, 10)  # the first layer drawn with this seed, as in the run
    model = checkpoint()["model"]
    assert model["hidden.0.weight"] == hidden.weight.tolist()
    assert model["hidden.0.bias"] == hidden.bias.tolist()


class CNN(nn.Sequential):
    """A small convolutional network in place of MLP."""

    def __init__(self, units: int, dropout: float, depth: int) -> None:
        super().__init__(
            nn.Unflatten(1, (1, 28)),  # (B, 28, 28) -> (B, 1, 28, 28): one channel
            nn.Conv2d(1, 4, 3, stride=4), nn.ReLU(),  # (B, 4, 7, 7)
            nn.Flatten(), nn.Dropout(dropout), nn.Linear(4 * 7 * 7, 10))


def test_a_convolutional_network_trains_and_is_logged(monkeypatch):
    monkeypatch.setattr(train, "MLP", CNN)
    history = run("--epochs=2", "--batch-size=20")
    assert history[1]["accuracy/test"] > 0.9, "a network that ignores the images can reach 0.38"
    tags = logged().keys()
    # The convolution is layer 1 of the nn.Sequential.
    assert {"loss/val", "weights/1.weight", "gradients/1.weight", "inputs"} <= tags
    # The picture "filters" shows weights as images of 28 x 28, which a convolution does not have.
    assert "filters" not in tags


def test_after_a_bug_is_fixed_the_same_command_trains(monkeypatch):
    """The first start left event files, but no checkpoint."""

    def bug(*_):
        raise NameError("name 'lables' is not defined")

    with monkeypatch.context() as patch, pytest.raises(NameError):
        patch.setattr(train, "train_epoch", bug)
        quick_run("--epochs=1")
    # From here on, train_epoch() is the true one again.
    assert len(quick_run("--epochs=1")) == 1
