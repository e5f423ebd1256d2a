import pytest
import torch

from model import MLP


def test_dropout_zeroes_hidden_units_with_its_probability_and_keeps_their_expectation():
    model, ones = MLP(hidden=2, dropout=0.3), torch.ones(50_000, 28, 28)
    for parameter in model.requires_grad_(False).parameters():
        parameter.zero_()
    model.hidden.weight[:, 0] = 1  # both units are the first pixel; each has an output of its own,
    model.output.weight[:3] = torch.tensor([[1, 0], [0, 1], [1, 1]])  # and both have a third
    outputs = model(ones)[:, :3]
    assert outputs.eq(0).float().mean(0).tolist() == pytest.approx([0.3, 0.3, 0.09], abs=0.02)
    assert torch.allclose(outputs[:, 2], outputs[:, 0] + outputs[:, 1])  # no output is dropped
    assert outputs.mean(0).tolist() == pytest.approx([1, 1, 2], abs=0.04)
    assert model.eval()(ones[:9])[:, :3].tolist() == [[1, 1, 2]] * 9
    assert MLP().dropout.p == 0 and sum(p.numel() for p in MLP().parameters()) == 79_510


def test_softmax_applied_twice_cannot_get_below_1_46():
    perfect, criterion = 1000.0 * torch.eye(10), torch.nn.CrossEntropyLoss()  # right, sure logits
    losses = [criterion(outputs, torch.arange(10)) for outputs in (perfect, perfect.softmax(1))]
    assert torch.tensor(losses).tolist() == pytest.approx([0, 1.4612], abs=1e-4)
