import pytest
import torch
from torch import nn

from init import MODES, initialize
from model import MLP


def model(mode: str, hidden: int = 100) -> MLP:
    torch.manual_seed(0)
    network = MLP(hidden).requires_grad_(False)
    initialize(network, mode)
    return network


def test_default_is_exactly_pytorchs_own_initialisation():
    torch.manual_seed(0)
    layers = nn.Linear(784, 100), nn.Linear(100, 10)
    network = model("default")
    for mine, theirs in zip((network.hidden, network.output), layers):
        assert torch.equal(mine.weight, theirs.weight) and torch.equal(mine.bias, theirs.bias)


def test_default_is_uniform_with_the_bound_that_the_table_states():
    layer = model("default").hidden
    bound = 784**-0.5
    assert bound * 0.99 < layer.weight.abs().max() <= bound and layer.bias.abs().max() <= bound
    assert layer.weight.std() == pytest.approx(bound / 3**0.5, rel=0.02)


def test_zero_sets_everything_to_zero():
    assert all(not parameter.any() for parameter in model("zero").parameters())


@pytest.mark.parametrize(("mode", "variance"), [
    ("xavier", lambda fan_in, fan_out: 2 / (fan_in + fan_out)),
    ("kaiming", lambda fan_in, fan_out: 2 / fan_in),
])
def test_xavier_and_kaiming_are_normal_with_their_standard_deviation_and_no_biases(mode, variance):
    network = model(mode, hidden=1000)
    for layer in (network.hidden, network.output):
        std = variance(layer.in_features, layer.out_features) ** 0.5
        assert layer.weight.std() == pytest.approx(std, rel=0.03)
        assert layer.weight.mean().abs() < 0.05 * std
        within = (layer.weight.abs() < std).float().mean()  # 68 % of a normal, 58 % of a uniform
        assert within == pytest.approx(0.683, abs=0.02)
        assert not layer.bias.any()


def test_kaiming_keeps_the_mean_square_of_a_signal_through_relu_and_xavier_does_not():
    torch.manual_seed(0)
    sizes = {}
    for mode in ("xavier", "kaiming"):
        x = torch.randn(1000, 500)
        for _ in range(10):
            layer = nn.Linear(500, 500)
            MODES[mode](layer)
            x = torch.relu(layer(x))
        sizes[mode] = x.square().mean().item()
    assert 0.25 < sizes["kaiming"] < 1  # relu(N(0, 2)) has mean square 1, less a little noise
    assert sizes["xavier"] < 0.005  # halved ten times: 2 ** -10


def test_an_unknown_mode_is_an_error():
    with pytest.raises(KeyError):
        model("orthogonal")
