"""What init.py promises: the table of its modes, and what its sections Symmetry and Size say."""

import math
import re

import pytest
import torch
from torch.nn import functional as F

import init
from conftest import assert_equal, noise_images
from model import MLP

# The table in the docstring: {mode: (weights, biases, std)}. A mode that you add may lack a row.
ROWS = re.findall(r"^\| (\w+) +\| (.+?) +\| (.+?) +\| ([\d.]+) +\|$", init.__doc__, re.MULTILINE)
TABLE = {mode: (weights, biases, float(std)) for mode, weights, biases, std in ROWS}
RANDOM_MODES = ["default", "xavier", "kaiming"]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """In networks as small as these, several threads would only wait for each other."""
    torch.set_num_threads(1)


def initialized(mode: str, seed: int = 0, **sizes: int) -> MLP:
    """Return a network with these initial weights."""
    torch.manual_seed(seed)
    model = MLP(**sizes)
    init.initialize(model, mode)
    return model.eval()  # whatever dropout it has


def first_weights(mode: str, seed: int = 0) -> torch.Tensor:
    """Return the 78,400 hidden weights of the study's network."""
    return initialized(mode, seed).hidden[0].weight.detach()


# The table


def std_of(formula: str, fan_in: int, fan_out: int) -> float:
    """Return the standard deviation of 0, U(-a, a) or N(0, v), as it is written in the table."""
    if formula == "0":
        return 0
    distribution, number = re.fullmatch(r"([UN])\(.+, (.+)\)", formula).groups()
    value = eval(number, {"sqrt": math.sqrt, "fan_in": fan_in, "fan_out": fan_out})
    return value / math.sqrt(3) if distribution == "U" else math.sqrt(value)


def parameters_of_20_seeds(mode: str, kind: str) -> dict[str, tuple]:
    """Return the weights or biases of each layer as {layer: (numbers, fan_in, fan_out)}.

    The layers are small and have different sizes, so that the modes differ in each of them.
    """
    models = [initialized(mode, seed, units=30, depth=2) for seed in range(20)]
    found = {}
    for name in "hidden.0", "hidden.1", "output":
        layers = [model.get_submodule(name) for model in models]
        numbers = torch.cat([getattr(layer, kind).detach().flatten() for layer in layers])
        found[name] = numbers, layers[0].in_features, layers[0].out_features
    return found


def test_the_table_has_a_row_for_each_mode():
    assert list(TABLE) == ["default", "zero", "xavier", "kaiming"]
    assert set(TABLE) <= set(init.MODES)


def test_the_weights_of_every_layer_have_the_tables_std():
    found, expected = {}, {}
    for mode, (formula, _, _) in TABLE.items():
        for layer, (weights, *fans) in parameters_of_20_seeds(mode, "weight").items():
            found[mode, layer] = weights.square().mean().sqrt().item()
            expected[mode, layer] = std_of(formula, *fans)
    assert found == pytest.approx(expected, rel=0.04)  # 4 standard deviations for 6,000 weights


def test_the_biases_of_every_layer_have_the_tables_std():
    found, expected = {}, {}
    for mode, (weights, biases, _) in TABLE.items():
        formula = weights if biases == "like the weights" else biases
        for layer, (numbers, *fans) in parameters_of_20_seeds(mode, "bias").items():
            found[mode, layer] = numbers.square().mean().sqrt().item()
            expected[mode, layer] = std_of(formula, *fans)
    assert found == pytest.approx(expected, rel=0.15)  # 4 standard deviations for 200 biases


def test_weights_are_uniform_or_normal_as_in_the_table():
    """57.7 % of a uniform distribution are less than one standard deviation from the mean, and
    68.3 % of a normal one."""
    found, expected = {}, {}
    for mode in RANDOM_MODES:
        weights = first_weights(mode)
        found[mode] = (weights.abs() < weights.std()).float().mean().item()
        uniform = TABLE[mode][0].startswith("U(")
        expected[mode] = 1 / math.sqrt(3) if uniform else math.erf(1 / math.sqrt(2))
    assert found == pytest.approx(expected, abs=0.01)


def test_weights_have_mean_0():
    """The mean of n numbers has the standard deviation std / sqrt(n)."""
    for mode in RANDOM_MODES:
        weights = first_weights(mode)
        tolerance = 4 * weights.std().item() / math.sqrt(weights.numel())
        assert weights.mean().item() == pytest.approx(0, abs=tolerance), mode


def test_the_tables_last_column_is_the_std_of_784_by_100():
    stds = {mode: first_weights(mode).std().item() for mode in TABLE}
    expected = {mode: std for mode, (_, _, std) in TABLE.items()}
    assert stds == pytest.approx(expected, rel=0.01)


def test_default_keeps_what_pytorch_drew():
    torch.manual_seed(0)
    drawn = MLP(depth=2)
    kept = initialized("default", seed=0, depth=2)
    for name, parameter in kept.named_parameters():
        assert_equal(parameter, drawn.get_parameter(name), name)


def test_a_different_seed_draws_different_weights():
    for mode in RANDOM_MODES:
        assert not torch.equal(first_weights(mode, seed=0), first_weights(mode, seed=1)), mode


def test_an_unknown_mode_is_a_key_error():
    with pytest.raises(KeyError, match="he"):
        init.initialize(MLP(), "he")


# Symmetry


IMAGES = noise_images(50) / 255
LABELS = ((torch.arange(50) / 50) ** 2 * 10).long()  # 0 is the most frequent class, 9 the rarest


def trained(model: MLP, steps: int) -> MLP:
    """Take gradient descent steps on a few images."""
    optimizer = torch.optim.SGD(model.parameters(), lr=2.0)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(IMAGES), LABELS).backward()
        optimizer.step()
    return model


def test_units_that_start_equal_remain_equal():
    """Whether they are copies of one random unit or all weights are the same constant."""
    for start in "copies", "constant":
        model = initialized("kaiming", units=5)
        incoming, outgoing = model.hidden[0].weight, model.output.weight
        with torch.no_grad():
            model.hidden[0].bias.zero_()
            incoming[:] = incoming[0].clone() if start == "copies" else 0.01
            outgoing[:] = outgoing[:, :1].clone() if start == "copies" else 0.01
        before = incoming[0].tolist()
        trained(model, steps=5)
        assert incoming[0].tolist() != before, f"{start}: unit 0 has not changed"
        for unit in range(1, 5):
            torch.testing.assert_close(incoming[unit], incoming[0], msg=f"{start}, into {unit}")
            torch.testing.assert_close(outgoing[:, unit], outgoing[:, 0], msg=f"{start}, {unit}")


def test_random_weights_make_the_units_different():
    for mode in RANDOM_MODES:
        similarity = torch.corrcoef(first_weights(mode)).triu(1)  # of each pair of units
        assert similarity.max() < 0.3, mode


def test_zero_init_starts_with_a_loss_of_ln_10():
    loss = F.cross_entropy(initialized("zero")(IMAGES), LABELS)
    assert loss.item() == pytest.approx(math.log(10))


def test_zero_init_trains_only_the_output_bias():
    model = trained(initialized("zero", depth=2), steps=5)
    changed = [name for name, parameter in model.named_parameters() if parameter.any()]
    assert changed == ["output.bias"]


def test_zero_init_learns_how_frequent_each_class_is():
    model = trained(initialized("zero", units=1), steps=60)
    probabilities = model.output.bias.softmax(dim=0)
    frequencies = LABELS.bincount(minlength=10) / len(LABELS)
    torch.testing.assert_close(probabilities, frequencies, rtol=0, atol=0.01)


# Size


def mean_squares(model: MLP) -> tuple[list[float], list[float]]:
    """Return E[input^2] of each layer but the first, and the same of the inputs' gradients."""
    inputs = []
    activations = IMAGES.flatten(1)
    for layer in model.hidden:
        activations = F.relu(layer(activations))
        activations.retain_grad()
        inputs.append(activations)
    F.cross_entropy(model.output(activations), LABELS).backward()
    return ([tensor.square().mean().item() for tensor in inputs],
            [tensor.grad.square().mean().item() for tensor in inputs])


def test_each_hidden_layer_changes_the_size_by_a_factor():
    """It multiplies the mean square of the inputs and, going backward, that of the gradients."""
    forward, backward = {}, {}
    for mode in RANDOM_MODES:
        model = initialized(mode, units=400, depth=11)
        for layer in model.hidden:
            torch.nn.init.zeros_(layer.bias)
        inputs, gradients = mean_squares(model)
        forward[mode] = (inputs[10] / inputs[0]) ** (1 / 10)
        backward[mode] = (gradients[0] / gradients[10]) ** (1 / 10)
    factors = {"default": 1 / 6, "xavier": 1 / 2, "kaiming": 1}
    assert forward == pytest.approx(factors, rel=0.15)
    assert backward == pytest.approx(factors, rel=0.15)


def test_in_20_default_layers_only_the_biases_are_left():
    """What is left is nearly the same for every image."""
    logits = {mode: initialized(mode, depth=20)(IMAGES) for mode in RANDOM_MODES}
    differences = {mode: (tensor.std(dim=0).norm() / tensor.norm(dim=1).mean()).item()
                   for mode, tensor in logits.items()}
    assert differences["default"] < 0.001
    assert min(differences["xavier"], differences["kaiming"]) > 0.1
