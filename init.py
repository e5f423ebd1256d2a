"""The ways to initialise the weights: one small function each, one table of names.

| mode    | weights                            | biases           | derived for               |
|---------|------------------------------------|------------------|---------------------------|
| default | U(-1/sqrt(fan_in), 1/sqrt(fan_in)) | like the weights | nothing: PyTorch's habit  |
| zero    | 0                                  | 0                | nothing: shows what fails |
| xavier  | N(0, 2 / (fan_in + fan_out))       | 0                | units linear around zero  |
| kaiming | N(0, 2 / fan_in)                   | 0                | ReLU                      |

N(mean, variance); fan_in and fan_out are a layer's numbers of inputs and outputs. A mode of your
own is one function and one line in MODES. (This file is `init`, PyTorch's functions are `nn.init`.)
"""

from torch import nn


def default(layer: nn.Linear) -> None:
    """Keep the weights and biases that PyTorch drew when it made the layer."""


def zero(layer: nn.Linear) -> None:
    """Set weights and biases to 0. The gradients of all weights are then 0 as well, and stay so."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


def xavier(layer: nn.Linear) -> None:
    """Draw weights with std = sqrt(2 / (fan_in + fan_out)), biases 0 (Glorot & Bengio 2010).

    A compromise: variance 1 / fan_in keeps the size of the signal from layer to layer, variance
    1 / fan_out keeps the size of the gradient on its way back.
    """
    nn.init.xavier_normal_(layer.weight)
    nn.init.zeros_(layer.bias)


def kaiming(layer: nn.Linear) -> None:
    """Draw weights with std = sqrt(2 / fan_in), biases 0 (He et al. 2015).

    The factor 2 makes up for ReLU, which zeroes half of its inputs and so halves the mean square.
    """
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)


MODES = {"default": default, "zero": zero, "xavier": xavier, "kaiming": kaiming}


def initialize(model: nn.Module, mode: str) -> None:
    """Initialise every linear layer of the model in place. Raises KeyError for an unknown mode."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            MODES[mode](layer)
