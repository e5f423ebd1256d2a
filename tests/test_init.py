import re

import pytest
import torch
from torch import nn

import init
from model import MLP


def layers(mode: str, hidden: int = 1000) -> tuple[nn.Linear, nn.Linear]:
    torch.manual_seed(0)
    model = MLP(hidden).requires_grad_(False)
    init.initialize(model, mode)
    return model.hidden, model.output


def test_default_is_exactly_what_pytorch_draws_and_zero_is_zero():
    torch.manual_seed(0)
    pytorchs = nn.Linear(784, 1000), nn.Linear(1000, 10)
    for layer, expected in zip(layers("default"), pytorchs):
        assert torch.equal(layer.weight, expected.weight) and torch.equal(layer.bias, expected.bias)
    assert not any(layer.weight.any() or layer.bias.any() for layer in layers("zero"))


@pytest.mark.parametrize("mode", ["xavier", "kaiming"])
def test_xavier_and_kaiming_are_normal_with_their_standard_deviation_and_no_biases(mode):
    for layer in layers(mode):
        fan_in, fan_out = layer.in_features, layer.out_features
        std = (2 / (fan_in + fan_out) if mode == "xavier" else 2 / fan_in) ** 0.5
        assert layer.weight.std() == pytest.approx(std, rel=0.03) and not layer.bias.any()
        assert layer.weight.mean().abs() < 0.05 * std
        within = (layer.weight.abs() < std).float().mean()  # 68 % of a normal, 58 % of a uniform
        assert within == pytest.approx(0.683, abs=0.02)


def test_the_table_states_the_modes_and_the_standard_deviations_of_the_hidden_weights():
    rows = re.findall(r"^\| (\w+) .*\| ([\d.]+) +\|$", init.__doc__, re.MULTILINE)
    assert [mode for mode, _ in rows] == list(init.MODES)
    for mode, std in rows:
        assert layers(mode, hidden=100)[0].weight.std() == pytest.approx(float(std), rel=0.01)


def test_kaiming_keeps_the_mean_square_of_a_signal_through_relu_and_xavier_halves_it():
    for mode, least, most in ("kaiming", 0.25, 1), ("xavier", 0.0002, 0.005):  # 2 ** -10 = 0.001
        x = torch.randn(1000, 500, generator=torch.manual_seed(0))
        for _ in range(10):
            layer = nn.Linear(500, 500)
            init.MODES[mode](layer)
            x = torch.relu(layer(x))
        assert least < x.square().mean() < most
