import math

import pytest
import torch
from torch import nn

from model import MLP


def test_the_network_has_79510_parameters():
    assert sum(parameter.numel() for parameter in MLP().parameters()) == 79_510


def test_forward_returns_the_logits_of_linear_relu_linear():
    torch.manual_seed(0)
    model, images = MLP(hidden=7), torch.rand(5, 28, 28)
    weights = model.state_dict()
    x = images.reshape(5, 784) @ weights["hidden.weight"].T + weights["hidden.bias"]
    x = x.clamp(min=0) @ weights["output.weight"].T + weights["output.bias"]
    logits = model(images)
    torch.testing.assert_close(logits, x)
    assert logits.shape == (5, 10) and (logits < 0).any()  # logits, not probabilities
    assert not torch.allclose(logits.sum(1), torch.ones(5))


def test_probabilities_are_the_softmax_of_the_logits():
    model, images = MLP(), torch.rand(5, 28, 28)
    expected = model(images).exp() / model(images).exp().sum(1, keepdim=True)
    torch.testing.assert_close(model.probabilities(images), expected)


def test_dropout_acts_in_training_only_and_keeps_the_expectation():
    torch.manual_seed(0)
    model, images = MLP(hidden=50, dropout=0.5), torch.rand(1, 28, 28)
    model.eval()
    expected = model(images)
    assert torch.equal(model(images), expected)
    model.train()
    assert not torch.equal(model(images), model(images))
    mean = model(images.expand(100_000, -1, -1)).mean(0, keepdim=True)
    torch.testing.assert_close(mean, expected, atol=0.005, rtol=0)


def test_dropout_acts_on_the_hidden_units_with_its_probability():
    model = MLP(hidden=1, dropout=0.3)
    with torch.no_grad():
        model.hidden.bias.fill_(1)
        model.hidden.weight.zero_()
        model.output.weight.fill_(1)
        model.output.bias.zero_()
    torch.manual_seed(0)
    values = model(torch.rand(100_000, 28, 28))[:, 0]
    dropped = (values == 0).float().mean().item()
    assert dropped == pytest.approx(0.3, abs=0.01)
    assert torch.allclose(values[values != 0], torch.tensor(1 / 0.7))


def test_softmax_applied_twice_cannot_get_under_1_46():
    labels = torch.arange(10)
    perfect = 1000.0 * torch.eye(10)  # logits that are as right and as sure as can be
    criterion = nn.CrossEntropyLoss()
    assert criterion(perfect, labels) == 0
    assert criterion(perfect.softmax(1), labels) == pytest.approx(-math.log(math.e / (math.e + 9)))
    assert criterion(perfect.softmax(1), labels) > 1.46
