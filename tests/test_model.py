"""What model.py promises: the network's shape, its answers, and dropout."""

import numpy
import pytest
import torch
from torch import nn

from conftest import assert_equal, noise_images
from model import MLP


@pytest.fixture(autouse=True)
def home() -> None:
    """Let these tests do without the home of the others: they need no files."""


def reference_logits(model: MLP, images: torch.Tensor) -> numpy.ndarray:
    """Return the network's answers by hand: sums of weight * input, negative ones cut to 0."""
    weights = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    depth = sum(name.startswith("hidden") for name in weights) // 2
    activations = images.double().numpy().reshape(len(images), 28 * 28)
    for i in range(depth):
        sums = activations @ weights[f"hidden.{i}.weight"].T + weights[f"hidden.{i}.bias"]
        activations = numpy.maximum(sums, 0)
    return activations @ weights["output.weight"].T + weights["output.bias"]


def relay(depth: int, **dropout: float) -> MLP:
    """Return a network that passes the first pixel on, from unit to unit, to output 0.

    So output 0 is 0 if a unit on the way is dropped, and else shows how it was multiplied. It is
    in training mode, as every new network. relay(2, dropout=0.5); without dropout, MLP's default.
    """
    model = MLP(hidden=1, depth=depth, **dropout).requires_grad_(False)
    for parameter in model.parameters():
        parameter.zero_()
    for layer in [*model.hidden, model.output]:
        layer.weight[0, 0] = 1
    return model


def relayed(model: MLP, images: int = 10_000) -> torch.Tensor:
    """Return output 0 for each of many images, all of them white: each pixel is 1."""
    torch.manual_seed(0)
    return model(torch.ones(1, 28, 28).expand(images, 28, 28))[:, 0]


# The shape.


def test_the_network_has_79510_parameters():
    assert sum(parameter.numel() for parameter in MLP().parameters()) == 79_510


def test_the_parameters_have_the_shapes_of_the_study():
    shapes = {name: tuple(parameter.shape) for name, parameter in MLP().named_parameters()}
    assert shapes == {"hidden.0.weight": (100, 784), "hidden.0.bias": (100,),
                      "output.weight": (10, 100), "output.bias": (10,)}


def test_hidden_is_the_number_of_units_in_each_layer():
    shapes = [tuple(layer.weight.shape) for layer in MLP(hidden=7, depth=3).hidden]
    assert shapes == [(7, 784), (7, 7), (7, 7)]


@pytest.mark.parametrize("depth", [1, 2, 20])
def test_depth_is_the_number_of_hidden_layers(depth):
    names = [name for name, _ in MLP(depth=depth).named_parameters() if name.endswith("weight")]
    assert names == [f"hidden.{i}.weight" for i in range(depth)] + ["output.weight"]


def test_an_image_gets_ten_logits():
    assert MLP()(noise_images(3) / 255).shape == (3, 10)


# The answers.


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_the_logits_are_those_computed_by_hand(depth):
    torch.manual_seed(0)
    model = MLP(hidden=20, depth=depth).requires_grad_(False)
    images = noise_images(30) / 255
    expected = reference_logits(model, images)
    numpy.testing.assert_allclose(model(images).numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("depth", [1, 3])
def test_large_sums_pass_a_hidden_unit_as_they_are(depth):
    """Unlike ReLU6 or tanh, ReLU has no upper bound."""
    model = relay(depth)
    model.hidden[0].weight[0, 0] = 100
    assert relayed(model, images=1).item() == 100


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_negative_sums_become_0_in_each_hidden_layer(layer):
    """A -5 that leaks through would come out as +5, since the next layer turns its sign."""
    model = relay(depth=3)
    layers = [*model.hidden, model.output]
    layers[layer].weight[0, 0] = -5
    layers[layer + 1].weight[0, 0] = -1
    assert relayed(model, images=1).item() == 0


def test_logits_may_be_negative():
    model = relay(depth=1)
    model.output.weight[0, 0] = -5
    assert relayed(model, images=1).item() == -5


def test_the_logits_are_no_probabilities():
    """CrossEntropyLoss contains the softmax, so forward() has none."""
    model = relay(depth=1)
    model.output.weight[:, 0] = 3
    assert model(torch.ones(1, 28, 28)).tolist() == [[3] * 10]


def test_depth_1_is_bit_for_bit_linear_relu_linear():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 10))
    torch.manual_seed(0)
    model = MLP()
    images = noise_images(30) / 255
    assert_equal(model(images), plain(images), "logits of MLP and of nn.Sequential")


def test_a_perfect_answer_costs_1_46_after_two_softmaxes():
    """About PyTorch, and why forward() in model.py has none; that it has none is tested above."""
    perfect = 1000 * torch.eye(10)  # right about all ten, and sure
    loss = nn.CrossEntropyLoss()(perfect.softmax(dim=1), torch.arange(10))
    assert loss.item() == pytest.approx(1.4612, abs=1e-4)


def test_a_perfect_answer_costs_0_after_one_softmax():
    perfect = 1000 * torch.eye(10)
    loss = nn.CrossEntropyLoss()(perfect, torch.arange(10))
    assert loss.item() == pytest.approx(0, abs=1e-4)


# Dropout.


def test_there_is_no_dropout_by_default():
    assert relayed(relay(depth=3)).unique().tolist() == [1]


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("dropout", [0.2, 0.5])
def test_each_hidden_layer_drops_its_units(dropout, depth):
    """Through one layer comes a share of 1 - dropout, through two the square of that."""
    share = relayed(relay(depth, dropout=dropout)).ne(0).float().mean().item()
    assert share == pytest.approx((1 - dropout) ** depth, abs=0.02)  # 4 sigma


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_units_that_stay_make_up_for_the_dropped_ones(depth):
    outputs = relayed(relay(depth, dropout=0.2))
    kept = outputs[outputs != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1.25 ** depth))  # 1 / (1 - 0.2)


def test_dropout_keeps_the_expectation():
    outputs = relayed(relay(depth=1, dropout=0.3))
    assert outputs.mean().item() == pytest.approx(1, abs=0.03)


def test_units_are_dropped_independently_of_each_other():
    model = MLP(hidden=2, dropout=0.3).requires_grad_(False)
    for parameter in model.parameters():
        parameter.zero_()
    model.hidden[0].weight[:, 0] = 1  # both units are the first pixel,
    model.output.weight[0] = 1  # and output 0 is their sum
    both_dropped = relayed(model).eq(0).float().mean().item()
    assert both_dropped == pytest.approx(0.3 ** 2, abs=0.015)


def test_no_output_is_dropped():
    """Ten outputs that are the same unit are all there, or none of them is."""
    model = relay(depth=1, dropout=0.5)
    model.output.weight[:, 0] = 1
    outputs = model(torch.ones(1_000, 28, 28))
    numbers_of_zeros = set(outputs.eq(0).sum(dim=1).tolist())
    assert numbers_of_zeros == {0, 10}


def test_no_pixel_is_dropped():
    """Else the sum of 784 pixels would be a random one."""
    model = relay(depth=1, dropout=0.5)
    model.hidden[0].weight[:] = 1
    outputs = set(model(torch.ones(1_000, 28, 28))[:, 0].tolist())
    assert outputs == {0, 2 * 784}


def test_in_evaluation_all_units_answer_as_they_are():
    assert set(relayed(relay(depth=3, dropout=0.5).eval()).tolist()) == {1}
