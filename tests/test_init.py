"""What init.py promises: each mode's distribution, and what comes of it."""

import math
import re

import pytest
import torch
from torch.nn import functional as F

import init
from conftest import assert_equal, noise_images
from model import MLP

# The table in the docstring: {mode: (weights, std)}. A mode of yours may lack a row.
ROWS = re.findall(r"^\| (\w+) +\| (.+?) +\| .+? +\| ([\d.]+) +\|$", init.__doc__, re.MULTILINE)
TABLE = {mode: (weights, float(std)) for mode, weights, std in ROWS}
MODES = ["default", "zero", "xavier", "kaiming"]
RANDOM_MODES = ["default", "xavier", "kaiming"]


@pytest.fixture(autouse=True)
def home() -> None:
    """Let these tests do without the home of the others: they need no files."""


def initialized(mode: str, seed: int = 0, **sizes) -> MLP:
    """Return a network that was initialised in this mode."""
    torch.manual_seed(seed)
    model = MLP(**sizes)
    init.initialize(model, mode)
    return model.requires_grad_(False)


def theoretical_std(mode: str, fan_in: int, fan_out: int) -> float:
    """Return the standard deviation of the weights by the formulas."""
    if mode == "default":  # uniform from -1/sqrt(fan_in) to 1/sqrt(fan_in)
        return 1 / math.sqrt(3 * fan_in)
    if mode == "xavier":
        return math.sqrt(2 / (fan_in + fan_out))
    return math.sqrt(2 / fan_in)


def gradients(model: MLP) -> dict[str, torch.Tensor]:
    """Return the gradient of each parameter for a batch of noise."""
    model.requires_grad_(True)
    images = noise_images(50) / 255
    labels = torch.arange(50) % 7  # unequal classes: three of ten are missing
    F.cross_entropy(model(images), labels).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


# The table.


@pytest.mark.parametrize("mode", MODES)
def test_init_pys_table_has_a_row_for_each_mode(mode):
    assert mode in TABLE


@pytest.mark.parametrize("mode", TABLE)
def test_each_mode_in_init_pys_table_can_be_chosen(mode):
    assert mode in init.MODES


@pytest.mark.parametrize("mode", TABLE)
def test_hidden_weights_have_the_std_of_init_pys_table(mode):
    _, std = TABLE[mode]
    weights = initialized(mode).hidden[0].weight
    assert weights.std().item() == pytest.approx(std, rel=0.01)  # 4 sigma for 78,400 weights


@pytest.mark.parametrize("mode", RANDOM_MODES)
def test_weights_are_uniform_or_normal_as_in_init_pys_table(mode):
    """Within one standard deviation lie 57.7 % of a uniform distribution, 68.3 % of a normal."""
    formula, _ = TABLE[mode]  # U(from, to) or N(mean, variance)
    share = 1 / math.sqrt(3) if formula.startswith("U(") else math.erf(1 / math.sqrt(2))
    weights = initialized(mode).hidden[0].weight
    assert (weights.abs() < weights.std()).float().mean().item() == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize("mode", RANDOM_MODES)
def test_weights_have_the_mean_0(mode):
    weights = initialized(mode).hidden[0].weight
    standard_error = weights.std().item() / math.sqrt(weights.numel())
    assert weights.mean().item() == pytest.approx(0, abs=4 * standard_error)


@pytest.mark.parametrize("layer", ["hidden.0", "hidden.1", "output"])
@pytest.mark.parametrize("mode", RANDOM_MODES)
def test_the_weights_of_each_layer_have_the_std_of_the_formula(mode, layer):
    """In layers so small that the modes differ in each; of 20 seeds, so that weights are many."""
    layers = [initialized(mode, seed, hidden=30, depth=2).get_submodule(layer)
              for seed in range(20)]
    weights = torch.cat([linear.weight for linear in layers])
    expected = theoretical_std(mode, layers[0].in_features, layers[0].out_features)
    assert weights.std().item() == pytest.approx(expected, rel=0.04)  # 4 sigma for 6,000 weights


def test_default_weights_stay_inside_their_bounds():
    largest = initialized("default").hidden[0].weight.abs().max().item()
    assert 0.99 / 28 < largest <= 1 / 28  # 28 = sqrt(784)


def test_default_biases_have_the_std_of_the_weights():
    biases = initialized("default", hidden=5_000).hidden[0].bias
    expected = theoretical_std("default", 784, 5_000)
    # More than 4 sigma: the std of 5,000 numbers varies by 1 %, of uniform ones by 0.6 %.
    assert biases.std().item() == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("layer", ["hidden.0", "hidden.1", "hidden.2", "output"])
@pytest.mark.parametrize("mode", ["zero", "xavier", "kaiming"])
def test_biases_start_at_0_in_all_modes_but_default(mode, layer):
    bias = initialized(mode, depth=3).get_submodule(layer).bias
    assert bias.abs().max().item() == 0


@pytest.mark.parametrize("layer", ["hidden.0", "hidden.1", "hidden.2", "output"])
def test_zero_sets_the_weights_of_every_layer_to_0(layer):
    weight = initialized("zero", depth=3).get_submodule(layer).weight
    assert weight.abs().max().item() == 0


@pytest.mark.parametrize("name", [name for name, _ in MLP(depth=2).named_parameters()])
def test_default_keeps_what_pytorch_drew(name):
    torch.manual_seed(0)
    drawn = MLP(depth=2).get_parameter(name)
    kept = initialized("default", seed=0, depth=2).get_parameter(name)
    assert_equal(kept.detach(), drawn.detach(), name)


@pytest.mark.parametrize("mode", RANDOM_MODES)
def test_another_seed_draws_other_weights(mode):
    first, second = (initialized(mode, seed).hidden[0].weight for seed in (0, 1))
    assert not torch.equal(first, second), f"{mode} draws the same for seeds 0 and 1"


def test_an_unknown_mode_is_an_error():
    with pytest.raises(KeyError, match="he"):
        init.initialize(MLP(), "he")


# Symmetry.


def equal_units(copies: bool) -> MLP:
    """Return a network whose 5 hidden units have equal weights: copies of unit 0's, or constants,
    0.01 into each unit and another number out of it for each class."""
    model = initialized("xavier", hidden=5)
    if copies:
        model.hidden[0].weight[:] = model.hidden[0].weight[0].clone()
        model.output.weight[:] = model.output.weight[:, :1].clone()
    else:
        model.hidden[0].weight.fill_(0.01)
        model.output.weight[:] = torch.arange(10).view(10, 1) / 100
    return model


@pytest.mark.parametrize("copies", [True, False], ids=["copies", "constant"])
def test_units_with_equal_weights_get_equal_gradients(copies):
    """So they stay equal: a hundred of them are worth one."""
    found = gradients(equal_units(copies))
    incoming, outgoing = found["hidden.0.weight"], found["output.weight"].T
    assert min(incoming[0].abs().max(), outgoing[0].abs().max()) > 1e-5, "unit 0 gets none"
    for unit in range(1, 5):
        into, out_of = incoming[unit] - incoming[0], outgoing[unit] - outgoing[0]
        assert into.abs().max() < 1e-6, f"into unit {unit}, unlike unit 0"
        assert out_of.abs().max() < 1e-6, f"out of unit {unit}, unlike unit 0"


def test_units_with_random_weights_get_different_gradients():
    incoming = gradients(initialized("xavier", hidden=5))["hidden.0.weight"]
    assert incoming.std(dim=0).max() > 1e-3


@pytest.mark.parametrize("depth", [1, 3], ids=["depth1", "depth3"])
def test_zero_init_trains_only_the_output_bias(depth):
    moving = [name for name, gradient in gradients(initialized("zero", depth=depth)).items()
              if gradient.abs().max() > 0]
    assert moving == ["output.bias"]


def test_zero_init_begins_with_a_loss_of_ln_10():
    logits = initialized("zero")(noise_images(9) / 255)
    assert F.cross_entropy(logits, torch.arange(9)).item() == pytest.approx(math.log(10))


# Size.


def sizes_of_sums(model: MLP) -> list[float]:
    """Return the root mean square of the sums that reach each hidden layer's ReLU.

    If the weights are drawn around 0, ReLU lets a share pass that is the same in every layer. So
    the signal, the size of the activations, grows and falls as that of the sums does.
    """
    sizes = []
    for layer in model.hidden:
        layer.register_forward_hook(
            lambda _, inputs, sums: sizes.append(sums.square().mean().sqrt().item()))
    model(noise_images(200) / 255)
    return sizes


def test_kaiming_keeps_the_signal_through_20_layers():
    sizes = sizes_of_sums(initialized("kaiming", depth=20))
    assert 1 / 3 < sizes[-1] / sizes[0] < 3  # of seeds 0 to 19: from 0.5 to 2.9


def test_xavier_loses_the_signal_in_20_layers():
    """Each hidden layer divides it by sqrt(2), and 19 of them by 724."""
    sizes = sizes_of_sums(initialized("xavier", depth=20))
    assert 1 / 3 < sizes[-1] / sizes[0] * math.sqrt(2) ** 19 < 3


def test_default_loses_the_signal_in_20_layers():
    """Each hidden layer divides it by sqrt(6), until little is left but what the biases add."""
    sizes = sizes_of_sums(initialized("default", depth=20))
    assert 1 / 10 < sizes[-1] / sizes[0] < 1 / 3  # of seeds 0 to 19: from 0.16 to 0.22
