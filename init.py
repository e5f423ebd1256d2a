"""Four ways to initialise the weights: a small function for each, and a table of their names.

fan_in and fan_out are the numbers of inputs and outputs of a layer. U(-a, a) is the uniform
distribution from -a to a, whose variance is a^2 / 3. N(m, v) is the normal distribution with mean m
and variance v.

| mode    | weights                            | biases           | std of the hidden weights |
|---------|------------------------------------|------------------|---------------------------|
| default | U(-1/sqrt(fan_in), 1/sqrt(fan_in)) | like the weights | 0.0206                    |
| zero    | 0                                  | 0                | 0                         |
| xavier  | N(0, 2 / (fan_in + fan_out))       | 0                | 0.0476                    |
| kaiming | N(0, 2 / fan_in)                   | 0                | 0.0505                    |

The last column is the square root of the variance for the first hidden layer, 784 -> 100. Two
properties of the initial weights matter.


Symmetry

Hidden units with the same incoming weights and bias compute the same number. If their outgoing
weights are the same as well, they also get the same gradients, so they remain identical to each
other. A layer of 100 such units can do no more than a single unit. This happens if all weights
start at the same value. Random weights make the units different from the start. (The constant 0
is the worst of all: with it, no weight changes at all. See zero().)


Size

Before the ReLU, a hidden unit computes a sum over its inputs:

    sum = weight_1 * input_1 + ... + weight_n * input_n        with n = fan_in

(Biases are omitted here; in three of the four modes they start at 0.) In training, each weight
moves in proportion to its gradient. By the chain rule, this gradient is a product:

    dloss/dweight_1 = input_1 * dloss/dsum

The inputs of a layer are the activations of the layer before. They are computed from the first
layer to the last, and from layer to layer they can become smaller and smaller. The gradients
dloss/dsum are computed from the last layer back to the first, and they can become smaller and
smaller as well. If the input or dloss/dsum vanishes, the weight does not move. If they grow from
layer to layer instead, the steps become far too large. Either way the network does not learn.
Whether this happens depends on the variance of the weights.

The weights are drawn at random with mean 0, independently of each other and of the inputs. The
size of a sum depends on the draw, so let E[...] be the average over all possible draws, and over
the images. To keep it simple, suppose that E[input^2] is the same for all inputs of a layer. Three
rules of probability lead to the variance of the sum:

1. The average of a product of independent random variables is the product of their averages. So a
   product weight * input has the average E[weight] * E[input] = 0 * E[input] = 0.
2. The variance of random variables with average 0 is the average of their squares. As weight^2 and
   input^2 are independent, too, rule 1 gives

       Var(weight * input) = E[weight^2 * input^2]
                           = E[weight^2] * E[input^2] = Var(weight) * E[input^2]

3. The variances of uncorrelated random variables add up. Random variables with average 0 are
   uncorrelated if the average of their product is 0. This holds for weight_1 * input_1 and
   weight_2 * input_2. It does not matter how the two inputs are related, because the weights are
   independent of everything:

       E[weight_1 * input_1 * weight_2 * input_2]
           = E[weight_1] * E[weight_2] * E[input_1 * input_2] = 0 * 0 * E[...] = 0

   So the fan_in variances add up:

       Var(sum) = fan_in * Var(weight) * E[input^2]

For example, suppose there are 100 inputs with E[input^2] = 4, and the weights have variance 0.01.
Then the variance of the sums, which is their mean square, is 100 * 0.01 * 4 = 4, too. The sums
are as large as the inputs, because fan_in * Var(weight) is 1.

xavier is made for layers without an activation function, or with one that hardly changes small
numbers, like tanh. There the sums are the next layer's inputs, and they keep their size if
fan_in * Var(weight) = 1. In the backward pass, the gradient of an input is a sum as well, over the
fan_out units that the input feeds into. If w_1, ..., w_m are the weights from this input to them,

    dloss/dinput = w_1 * dloss/dsum_1 + ... + w_m * dloss/dsum_m        with m = fan_out

These gradients come from later layers, so they are roughly independent of w_1, ..., w_m, and the
same three rules give

       Var(dloss/dinput) = fan_out * Var(weight) * E[(dloss/dsum)^2]

so the gradients keep their size if fan_out * Var(weight) = 1. For the forward pass, Var(weight)
should be 1 / fan_in, and for the backward pass, 1 / fan_out. xavier compromises: it takes
Var(weight) = 2 / (fan_in + fan_out).

kaiming is made for ReLU. A sum s is as likely as -s, because weights with all signs flipped are
just as likely to be drawn, and they turn s into -s. So positive sums contribute half of the mean
square, and negative sums the other half. ReLU sets the negative sums to 0, so half is left:
E[relu(sum)^2] = Var(sum) / 2. kaiming makes up for this by doubling the variance of the weights,
from 1 / fan_in to 2 / fan_in. In the backward pass, a gradient passes only where the sum is
positive, so ReLU halves the mean square of the gradients as well. Var(weight) = 2 / fan_out would
make up for that. Between hidden layers with the same number of units, this is the same variance.

To summarise: with ReLU, E[input^2] is multiplied by fan_in * Var(weight) / 2 from each hidden layer
to the next. Between layers with the same number of units, fan_in = fan_out, the factor is

    kaiming   1      as Var(weight) = 2 / fan_in:         the size stays the same
    xavier    1/2    as Var(weight) = 1 / fan_in:         after 20 layers, a millionth is left
    default   1/6    as Var(weight) = 1 / (3 * fan_in):   after 20 layers, much less is left

That is without biases. But default has random biases, and every layer adds new ones. So after a few
layers, the part of the activations that comes from the image has vanished, and the part that comes
from the biases remains. It is the same for every image. So the output is almost the same for every
image, too. Training can hardly change that: the last layers get inputs that say almost nothing
about the image, and the first layers get gradients that have become very small on the way back.

In the five runs of the study, with one hidden layer, the size of the initial weights makes little
difference. The README shows what happens with 20 hidden layers.
"""

from torch import nn


def default(layer: nn.Linear) -> None:
    """Do nothing: keep the weights and biases that PyTorch drew when it created the layer."""


def zero(layer: nn.Linear) -> None:
    """Set weights and biases to 0. After that, only the ten output biases ever change.

    The gradient of the cross-entropy loss with respect to a logit is p - y, where p is the
    predicted probability of the class and y is 1 for the correct class and 0 for the others.

    The gradient of an output weight is (p - y) times the activation of its hidden unit. The
    activation is relu(0) = 0, so the output weights do not move. The gradient that comes back to a
    hidden unit is multiplied by the unit's output weights. These are 0, so the hidden weights and
    biases do not move either. Only the output biases change. They learn how frequent each class is.
    All ten are about equally frequent, so each gets probability 1/10, and the loss stays at
    ln 10 = 2.303.
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
