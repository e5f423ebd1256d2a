import re

import pytest
import torch

import init
from model import MLP


def test_xavier_and_kaiming_are_normal_with_their_standard_deviation_and_no_biases():
    torch.manual_seed(0)
    for mode in "xavier", "kaiming":
        init.initialize(model := MLP(1000).requires_grad_(False), mode)
        for layer in model.hidden, model.output:
            fans = layer.in_features + (layer.out_features if mode == "xavier" else 0)
            std = (2 / fans) ** 0.5
            assert layer.weight.std() == pytest.approx(std, rel=0.03) and not layer.bias.any()
            within = (layer.weight.abs() < std).float().mean()  # 58 % of a uniform distribution
            assert within == pytest.approx(0.683, abs=0.02)


def test_the_table_states_the_modes_and_the_standard_deviations_of_the_hidden_weights():
    rows = re.findall(r"^\| (\w+) .*\| ([\d.]+) +\|$", init.__doc__, re.MULTILINE)
    assert [mode for mode, _ in rows] == list(init.MODES)
    for mode, std in rows:
        init.initialize(model := MLP(), mode)
        assert model.hidden.weight.std().item() == pytest.approx(float(std), rel=0.01)
