"""What model.py promises: the network's shape, its logits, and dropout."""

import numpy
import pytest
import torch
from torch import nn

from conftest import assert_equal, noise_images
from model import MLP


def shapes(model: MLP) -> dict[str, tuple]:
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def relay(depth: int, dropout: float = 0.0) -> MLP:
    """Return a network with one unit in each hidden layer, which passes on what it receives.

    The first one receives the first pixel, and the last one feeds output 0. So output 0 is 0 if a
    unit on the way is dropped, and otherwise it shows how the pixel was multiplied. Like every new
    network, it is in training mode.
    """
    model = MLP(units=1, dropout=dropout, depth=depth).requires_grad_(False)
    for layer in [*model.hidden, model.output]:
        layer.weight.zero_()
        layer.bias.zero_()
        layer.weight[0, 0] = 1
    return model


def outputs_of(model: MLP, n: int = 10_000) -> torch.Tensor:
    """Return output 0 for each of n white images: each pixel is 1."""
    torch.manual_seed(0)
    return model(torch.ones(n, 28, 28))[:, 0]


# The shape


def test_the_network_of_the_study_has_79510_parameters():
    assert shapes(MLP()) == {"hidden.0.weight": (100, 784), "hidden.0.bias": (100,),
                             "output.weight": (10, 100), "output.bias": (10,)}
    assert sum(parameter.numel() for parameter in MLP().parameters()) == 79_510


def test_depth_and_units_are_the_layers_and_their_size():
    assert shapes(MLP(units=7, depth=3)) == {
        "hidden.0.weight": (7, 784), "hidden.0.bias": (7,),
        "hidden.1.weight": (7, 7), "hidden.1.bias": (7,),
        "hidden.2.weight": (7, 7), "hidden.2.bias": (7,),
        "output.weight": (10, 7), "output.bias": (10,)}


# The logits


def logits_by_hand(model: MLP, images: torch.Tensor) -> numpy.ndarray:
    """Return the logits, computed by numpy: sums of weight * input, negative ones set to 0."""
    weights = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    activations = images.double().numpy().reshape(len(images), 28 * 28)
    for i in range(len(model.hidden)):
        sums = activations @ weights[f"hidden.{i}.weight"].T + weights[f"hidden.{i}.bias"]
        activations = numpy.maximum(sums, 0)
    return activations @ weights["output.weight"].T + weights["output.bias"]


def test_the_logits_are_those_computed_by_hand():
    torch.manual_seed(0)
    model = MLP(units=20, depth=3).requires_grad_(False).eval()
    images = noise_images(30) / 255
    expected = logits_by_hand(model, images)
    numpy.testing.assert_allclose(model(images).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_relu_passes_positive_sums_and_sets_negative_to_0():
    model = relay(depth=1)
    passed = {}
    for number in -100, -0.5, 0.5, 100:
        model.hidden[0].weight[0, 0] = number  # the pixel is 1, so this is the sum
        passed[number] = outputs_of(model, 1).item()
    assert passed == {-100: 0, -0.5: 0, 0.5: 0.5, 100: 100}


def test_logits_are_not_probabilities():
    """There is neither a softmax nor a ReLU after the output layer."""
    model = relay(depth=1)
    model.output.weight[:, 0] = torch.arange(-5, 5)
    assert model(torch.ones(1, 28, 28)).tolist() == [[-5, -4, -3, -2, -1, 0, 1, 2, 3, 4]]


def test_after_two_softmaxes_the_loss_is_at_least_1_46():
    """Why there is no softmax in forward(): PyTorch's loss contains one."""
    correct = 1000 * torch.eye(10)  # logits for ten images: all correct, and as confident as can be
    criterion = nn.CrossEntropyLoss()
    labels = torch.arange(10)
    assert criterion(correct, labels).item() == 0
    assert criterion(correct.softmax(dim=1), labels).item() == pytest.approx(1.46, abs=0.005)


def test_depth_1_is_bit_for_bit_linear_relu_linear():
    """With the same seed the weights are equal, too. A new network is in training mode, so this
    also shows that by default there is no dropout."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 10))
    torch.manual_seed(0)
    model = MLP()
    images = noise_images(30) / 255
    assert_equal(model(images), plain(images), "logits")


# Dropout


def test_with_dropout_0_5_an_activation_a_becomes_0_or_2a():
    """Half of the time each, so on average it remains a. Here a is 1."""
    outputs = outputs_of(relay(depth=1, dropout=0.5))
    assert outputs.unique().tolist() == [0, 2]
    assert outputs.mean().item() == pytest.approx(1, abs=0.04)  # 4 standard deviations


def test_every_hidden_layer_has_dropout():
    outputs = outputs_of(relay(depth=3, dropout=0.2))
    kept = outputs[outputs != 0]
    assert len(kept) / len(outputs) == pytest.approx(0.8 ** 3, abs=0.02)
    torch.testing.assert_close(kept, torch.full_like(kept, 1.25 ** 3))  # 1 / 0.8 = 1.25


def test_units_are_dropped_independently_of_each_other():
    """With dropout 0.5, all four units are active one time in 16, and none of them as often."""
    model = MLP(units=4, dropout=0.5).requires_grad_(False)
    for parameter in model.parameters():
        parameter.zero_()
    model.hidden[0].bias.fill_(1)
    model.output.weight[0] = 1 / 2  # a unit that is there is 2, so output 0 counts them
    counts = outputs_of(model).long().bincount()
    shares = [1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16]
    assert (counts / 10_000).tolist() == pytest.approx(shares, abs=0.02)


def test_each_step_drops_different_units():
    model = relay(depth=1, dropout=0.5)
    first, second = (model(torch.ones(100, 28, 28))[:, 0] for _ in range(2))
    assert first.tolist() != second.tolist()


def test_no_pixel_and_no_output_is_dropped():
    """The ten outputs are the same unit, which is the sum of all 784 pixels."""
    model = relay(depth=1, dropout=0.5)
    model.hidden[0].weight.fill_(1)
    model.output.weight.fill_(1)
    rows = model(torch.ones(1_000, 28, 28)).unique(dim=0)
    assert rows.tolist() == [[0] * 10, [2 * 784] * 10]


def test_in_evaluation_every_unit_is_active():
    outputs = outputs_of(relay(depth=3, dropout=0.5).eval())
    assert outputs.unique().tolist() == [1]
