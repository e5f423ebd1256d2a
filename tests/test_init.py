import re

import pytest
import torch

import init
from model import MLP


def test_the_modes_have_the_distributions_that_their_table_states():
    torch.manual_seed(0)
    rows = re.findall(r"^\| (\w+) .*\| ([\d.]+) +\|$", init.__doc__, re.MULTILINE)
    assert [mode for mode, _ in rows] == list(init.MODES)
    for mode, hidden_std in rows:
        init.initialize(model := MLP().requires_grad_(False), mode)
        assert model.hidden.weight.std() == pytest.approx(float(hidden_std), rel=0.01)
    assert MLP().hidden.weight.abs().max().item() == pytest.approx(1 / 784 ** 0.5, rel=0.01)
    for mode, fans in ("xavier", lambda i, o: i + o), ("kaiming", lambda i, o: i):
        init.initialize(model := MLP(1000).requires_grad_(False), mode)
        for layer in model.hidden, model.output:
            std = (2 / fans(layer.in_features, layer.out_features)) ** 0.5
            assert layer.weight.std() == pytest.approx(std, rel=0.03)
            assert (layer.weight.abs() < std).float().mean() == pytest.approx(0.683, abs=0.02)
            assert layer.weight.mean().abs() < std / 20 and not layer.bias.any()
    with pytest.raises(KeyError):
        init.initialize(MLP(), "he")
