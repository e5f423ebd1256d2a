"""The ways to initialise the weights: one small function each, one table of names.

| mode    | weights                            | biases           | std of the hidden weights |
|---------|------------------------------------|------------------|---------------------------|
| default | U(-1/sqrt(fan_in), 1/sqrt(fan_in)) | like the weights | 0.0206                    |
| zero    | 0                                  | 0                | 0                         |
| xavier  | N(0, 2 / (fan_in + fan_out))       | 0                | 0.0476                    |
| kaiming | N(0, 2 / fan_in)                   | 0                | 0.0505                    |

U(from, to) is uniform, N(mean, variance) normal; fan_in and fan_out are a layer's numbers of inputs
and outputs. The last column is that of the first hidden layer, 784 -> 100.

Two things have to be right. One is symmetry: units that start with equal weights get equal
gradients, so they stay equal, and a hundred of them are worth one. zero is the extreme case, but
any constant fails like that. Random weights make the units differ.

The other is size. A unit sums fan_in products of a weight and an input, so for independent weights
of mean 0

    Var(sum) = fan_in * Var(weight) * E[input^2].

- Forwards, the signal keeps its size from layer to layer if Var(weight) = 1 / fan_in.
- Backwards, a gradient sums fan_out products and keeps its size if Var(weight) = 1 / fan_out.
- xavier takes the mean of both fans, 1 / ((fan_in + fan_out) / 2) = 2 / (fan_in + fan_out). It was
  made for units that are linear around 0.
- kaiming was made for ReLU, which sets half of the sums to 0, so that E[relu(sum)^2] is
  Var(sum) / 2. The next layer's weights make up for that by twice the variance, 2 / fan_in.

So much for layers behind a ReLU (the first one sees pixels, and its fans differ). With one hidden
layer little depends on it. But a missing 2 divides the signal by sqrt(2) in each layer, and after
20 of them by 1000: see what becomes of them in the README.
"""

from torch import nn


def default(layer: nn.Linear) -> None:
    """Keep the weights and biases that PyTorch drew when it made the layer.

    Their variance, 1 / (3 fan_in), is a sixth of kaiming's.
    """


def zero(layer: nn.Linear) -> None:
    """Set weights and biases to 0, after which only the output bias ever moves.

    Every activation is relu(0) = 0, and so is each output weight's gradient: error * activation.
    The gradient of the hidden layer comes back through the output weights: 0. What is left is the
    output bias. It learns how frequent each class is: ten equal classes, loss ln 10 = 2.3026.
    """
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


def xavier(layer: nn.Linear) -> None:
    """Draw weights with std = sqrt(2 / (fan_in + fan_out)), biases 0 (Glorot & Bengio 2010)."""
    nn.init.xavier_normal_(layer.weight)
    nn.init.zeros_(layer.bias)


def kaiming(layer: nn.Linear) -> None:
    """Draw weights with std = sqrt(2 / fan_in), biases 0 (He et al. 2015)."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)


MODES = {"default": default, "zero": zero, "xavier": xavier, "kaiming": kaiming}


def initialize(model: nn.Module, mode: str) -> None:
    """Initialise every linear layer of the model in place. Raises KeyError for an unknown mode."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            MODES[mode](layer)
