"""Four ways to initialise the weights: a small function for each, and a table of their names.

fan_in and fan_out are the numbers of inputs and outputs of a layer. U(a, b) is the uniform
distribution from a to b, N(m, v) the normal distribution with mean m and variance v.

| mode    | weights                            | biases           | std of the hidden weights |
|---------|------------------------------------|------------------|---------------------------|
| default | U(-1/sqrt(fan_in), 1/sqrt(fan_in)) | like the weights | 0.0206                    |
| zero    | 0                                  | 0                | 0                         |
| xavier  | N(0, 2 / (fan_in + fan_out))       | 0                | 0.0476                    |
| kaiming | N(0, 2 / fan_in)                   | 0                | 0.0505                    |

(The last column is for the first hidden layer, 784 -> 100.) Two things matter, symmetry and size.

Symmetry. Hidden units with equal incoming and equal outgoing weights compute the same number and
get the same gradients. So they stay equal, and a hundred of them are worth one. That is why any
constant fails. Random weights make the units different from the start.

Size. Each layer makes the numbers that pass through it larger or smaller by some factor. One layer
can cope with that; in a stack of 20, the factor is applied 20 times, and the numbers vanish or
explode. Which factor is it? A hidden unit computes

    sum = weight_1 * input_1 + ... + weight_n * input_n        with n = fan_in

and ReLU of that. The weights are drawn independently, with mean 0. Then each product has mean 0,
too, and for numbers with mean 0 the variance is simply the mean of the square, written E[...]:

    Var(product) = E[weight^2 * input^2] = E[weight^2] * E[input^2] = Var(weight) * E[input^2]

The products do not correlate, because their weights are independent. So their variances add up:

    Var(sum) = fan_in * Var(weight) * E[input^2]

For example, 100 inputs with E[input^2] = 4 and weights with variance 0.01 give sums with variance
100 * 0.01 * 4 = 4: the sums are as large as the inputs.

- Without an activation function, the sums would be the inputs of the next layer, and they would
  keep their size if fan_in * Var(weight) = 1.
- In the backward pass, the gradient for an input is a sum, too, over the units it goes to:

      dloss/dinput = weight_1 * dloss/dsum_1 + ... + weight_m * dloss/dsum_m    with m = fan_out

  By the same argument, gradients would keep their size if fan_out * Var(weight) = 1.
- xavier is the compromise between the two: Var(weight) = 2 / (fan_in + fan_out). It was made for
  activation functions like tanh, which hardly change small numbers.
- kaiming was made for ReLU. A weight is as likely to be w as -w, so a sum is as likely to be s as
  -s. ReLU sets the negative half of the sums to 0, which halves their mean square:
  E[relu(sum)^2] = Var(sum) / 2. Doubling the variance, to 2 / fan_in, makes up for that.

So a hidden layer multiplies E[input^2], the mean square of its inputs, by fan_in * Var(weight) / 2.
Between hidden layers of equal size, where fan_in = fan_out, the factor is

    kaiming  2 / 2   = 1        the size stays
    xavier   1 / 2              after 20 layers, a millionth of the mean square is left
    default  (1/3) / 2 = 1/6    after a few layers, little is left but what the biases add

(U(-a, a) has variance a^2 / 3, hence the 1/3; in the other modes, all biases start at 0.) With one
hidden layer all this matters little. The README shows what it does to 20. The first layer has no
ReLU in front of it, so it would not need kaiming's factor 2.
"""

from torch import nn


def default(layer: nn.Linear) -> None:
    """Do nothing: keep the weights and biases that PyTorch drew when it created the layer."""


def zero(layer: nn.Linear) -> None:
    """Set weights and biases to 0. After that, only the output bias ever changes.

    With cross-entropy, the gradient of the loss for a logit is p - y: the predicted probability of
    the class, minus 1 for the correct class or 0 for another. The gradient for an output weight is
    p - y times the activation of its hidden unit, and that is relu(0) = 0. The gradient for a
    hidden unit is made of its output weights times p - y, and they are 0. So all weights get the
    gradient 0 and stay 0. Only the output bias learns: how frequent each class is. All ten are
    about equally frequent, so each gets a probability of 1/10, and the loss is ln 10 = 2.303.
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
