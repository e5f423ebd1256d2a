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
weights are the same as well, they have the same effect on the loss. So they get the same gradients
and remain identical to each other (unless dropout drops one and not the other). A layer of 100 such
units can do no more than a single unit. This happens if all weights start at one value, and all
biases at one value. Random weights make the units different from the start. (The constant 0 is the
worst of all: with it, no weight changes at all. See zero().)


Size

Before the ReLU, a hidden unit computes a sum over its inputs:

    sum = weight_1 * input_1 + ... + weight_n * input_n        with n = fan_in

(Biases are omitted here; in three of the four modes they start at 0.) In training, each weight
moves in proportion to its gradient. By the chain rule, this gradient is a product:

    dloss/dweight_1 = input_1 * dloss/dsum

The inputs of a layer are the activations of the previous layer. They are computed from the first
layer to the last, and from layer to layer they can become smaller and smaller. The gradients
dloss/dsum are computed from the last layer back to the first, and they can become smaller and
smaller as well. If the input or dloss/dsum vanishes, the weight does not move. If they grow from
layer to layer instead, the steps become far too large. Either way the network does not learn.
Whether this happens depends on the variance of the weights.

How large is a sum? The inputs are given: they come from the image and the previous layers. The
weights are drawn at random with mean 0, each independently of all others. With two inputs, the
square of the sum is

    sum^2 = weight_1^2 * input_1^2  +  weight_2^2 * input_2^2
            +  2 * weight_1 * weight_2 * input_1 * input_2

Now imagine drawing the weights again and again, and averaging sum^2 over the draws. The average of
weight^2 is the variance of the weights, because their mean is 0. The last term averages to 0: it
takes each value as often as its negative, because weight_1 is as likely to be 0.1 as -0.1, for
example, whatever weight_2 is. So the average of sum^2 is Var(weight) * (input_1^2 + input_2^2).
With fan_in inputs instead of two, it is

    average of sum^2 = Var(weight) * (input_1^2 + ... + input_n^2)
                     = Var(weight) * fan_in * (mean square of the inputs)

Each unit of the layer has its own draw of weights, so the mean square of the sums over all units of
the layer is roughly this average.

For example, suppose there are 100 inputs with mean square 4, and the weights have variance 0.01.
Then the average of sum^2 is 0.01 * 100 * 4 = 4, too. The sums are as large as the inputs, because
fan_in * Var(weight) is 1.

xavier is made for layers without an activation function, or with one that hardly changes small
numbers, like tanh. There the sums are the next layer's inputs, and they keep their size if
fan_in * Var(weight) = 1.

The backward pass computes the gradients of a layer's inputs from the gradients of its sums. An
input feeds into fan_out units, into each through a weight of its own, so by the chain rule

    dloss/dinput = weight_1 * dloss/dsum_1 + ... + weight_m * dloss/dsum_m    with m = fan_out

This has the same form as the sum above, with each dloss/dsum in place of an input. If we assume
that each dloss/dsum is independent of the weights (as He et al. 2015 do), the same calculation
gives

    average of (dloss/dinput)^2 = Var(weight) * fan_out * (mean square of the dloss/dsum)

So on average, the gradients of the inputs are as large as those of the sums if
fan_out * Var(weight) = 1. Without an activation function, there is nothing else on the way back.

For the forward pass, Var(weight) should be 1 / fan_in, and for the backward pass, 1 / fan_out. It
cannot be both unless fan_in and fan_out are equal. xavier compromises: it takes 1 divided by the
mean of fan_in and fan_out, which is 2 / (fan_in + fan_out).

kaiming is made for ReLU, which sets negative sums to 0. For every draw of a unit's weights, the
draw with all signs flipped is equally likely, and gives -sum. So negative sums contribute half of
the average of sum^2, and ReLU removes this half. kaiming makes up for it by doubling the variance
of the weights, from 1 / fan_in to 2 / fan_in. In the backward pass, a gradient passes only where
the sum is positive, so ReLU sets about half of the gradients to 0 and halves their mean square.
Doubling the variance from 1 / fan_out to 2 / fan_out would make up for that. If fan_in and fan_out
are equal, as between two hidden layers, one variance is right for both passes. If they differ,
kaiming takes 2 / fan_in.

To summarise: with ReLU, which removes half, the mean square of the inputs is multiplied by
fan_in * Var(weight) / 2 from each hidden layer to the next. Between layers with the same number of
units, fan_in = fan_out, this factor is

    mode      Var(weight)         factor    after 20 such layers
    kaiming   2 / fan_in          1         the mean square is still the same
    xavier    1 / fan_in          1/2       1/2^20 of it is left, a millionth
    default   1 / (3 * fan_in)    1/6       1/6^20 of it is left, next to nothing

That is without biases. But the default mode has random biases, and every layer adds new ones. So
after a few layers, the part of the activations that comes from the image has vanished, and the part
that comes from the biases remains. It is the same for every image. So the output is almost the same
for every image, too. Training can hardly change that: the last layers get inputs that say almost
nothing about the image, and the first layers get gradients that have become very small on the way
back.

In the five runs of the study, with one hidden layer, the size of the initial weights makes little
difference, unless it is zero. The README shows what happens with 20 hidden layers.
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
    hidden unit is multiplied by the unit's outgoing weights. These are 0, so the hidden weights and
    biases do not move either. Only the output biases change. They learn how frequent each class is.
    All ten are about equally frequent, so each gets a probability close to 1/10, and the loss stays
    close to ln 10 = 2.303.
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
