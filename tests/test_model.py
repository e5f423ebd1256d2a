import math

import pytest
import torch
from torch import nn

from model import MLP


def test_forward_returns_the_logits_of_linear_relu_linear():
    torch.manual_seed(0)
    model, images = MLP(), torch.rand(5, 28, 28)
    weights = model.state_dict()
    assert sum(weight.numel() for weight in weights.values()) == 79_510
    x = images.reshape(5, 784) @ weights["hidden.weight"].T + weights["hidden.bias"]
    x = x.clamp(min=0) @ weights["output.weight"].T + weights["output.bias"]
    torch.testing.assert_close(model(images), x)
    assert x.shape == (5, 10) and (x < 0).any()  # logits, not probabilities


def test_dropout_zeroes_hidden_units_with_its_probability_and_keeps_their_expectation():
    torch.manual_seed(0)
    model = MLP(hidden=2, dropout=0.3)
    for parameter in model.requires_grad_(False).parameters():
        parameter.zero_()
    model.hidden.bias.fill_(1)  # both units are 1; each is seen by an output of its own,
    model.output.weight[:3] = torch.tensor([[1, 0], [0, 1], [1, 1]])  # and both by a third
    outputs = model(torch.rand(100_000, 28, 28))
    assert outputs[:, :2].eq(0).float().mean(0).tolist() == pytest.approx([0.3] * 2, abs=0.01)
    assert outputs[:, 0].unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert torch.allclose(outputs[:, 2], outputs[:, 0] + outputs[:, 1])  # no output is dropped
    assert outputs.mean(0)[:3].tolist() == pytest.approx([1, 1, 2], abs=0.02)
    assert model.eval()(torch.rand(9, 28, 28))[:, :3].tolist() == [[1, 1, 2]] * 9


def test_softmax_applied_twice_cannot_get_below_1_46():
    perfect = 1000.0 * torch.eye(10)  # logits that are as right and as sure as can be
    criterion, labels = nn.CrossEntropyLoss(), torch.arange(10)
    assert criterion(perfect, labels) == 0
    assert criterion(perfect.softmax(1), labels) == pytest.approx(-math.log(math.e / (math.e + 9)))
