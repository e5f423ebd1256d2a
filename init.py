"""The ways to initialise the weights: one small function each, one table of names.

| mode    | weights                            | biases           | std of the hidden weights |
|---------|------------------------------------|------------------|---------------------------|
| default | U(-1/sqrt(fan_in), 1/sqrt(fan_in)) | like the weights | 0.0206                    |
| zero    | 0                                  | 0                | 0                         |
| xavier  | N(0, 2 / (fan_in + fan_out))       | 0                | 0.0476                    |
| kaiming | N(0, 2 / fan_in)                   | 0                | 0.0505                    |

U(from, to) is uniform, N(mean, variance) normal; fan_in and fan_out are a layer's numbers of inputs
and outputs. The last column is that of the first hidden layer, 784 -> 100. Two things matter:

Symmetry. Units with equal incoming and outgoing weights get equal gradients, so they stay equal,
and a hundred of them are worth one. Any constant fails like that. (Dropout, which silences other
units for each image, makes gradients differ; the constant 0 fails even then, see zero.) Random
weights make the units differ from the start.

Size. A unit adds up weight * input over its fan_in inputs. Let the weights be drawn with mean 0,
independently of each other and of the inputs, and let E[...] be the mean. Then a product has the
mean 0 and the variance E[weight^2] * E[input^2], where E[weight^2] is Var(weight). Two products,
w1 * x1 and w2 * x2, are uncorrelated, since E[w1 x1 w2 x2] = E[w1] E[w2] E[x1 x2] = 0. So their
variances add up:

    E[sum^2] = Var(sum) = fan_in * Var(weight) * E[input^2]

- Forwards: if there were no activation function, the sums would be the inputs of the next layer.
  Then E[input^2] is the same in all layers if Var(weight) = 1 / fan_in.
- Backwards: the loss's gradient for an input is weight * (the loss's gradient for a unit's sum),
  added up over the fan_out units that the input goes to: fan_out products, where the forward sum
  had fan_in. So, again without activation function, gradients keep their size from layer to layer
  if Var(weight) = 1 / fan_out.
- xavier is a compromise: 1 / (the mean of both fans) = 2 / (fan_in + fan_out). It was made for
  activation functions like tanh, which hardly change small sums.
- kaiming was made for ReLU. The sums are symmetric around 0, and ReLU turns the negative ones into
  0, which halves the mean square: E[relu(sum)^2] = Var(sum) / 2. Twice the variance in the next
  layer's weights, 2 / fan_in, makes up for that.

Between hidden layers of equal size, xavier's variance is 1 / fan_in, half of kaiming's. So every
layer divides the signal, the square root of E[input^2], by sqrt(2), and 20 layers by 1000. The
variance of default is a sixth of kaiming's: each layer divides the signal by sqrt(6), until little
is left but what the layer's random biases add (the other modes have none). With one hidden layer
that matters little; the README shows what it does to 20. (For the first layer the theory is but
a rule of thumb: its inputs are pixels, not the outputs of a ReLU.)
"""

from torch import nn


def default(layer: nn.Linear) -> None:
    """Keep the weights and biases that PyTorch drew when it made the layer.

    The variance of such a uniform distribution is 1 / (3 fan_in), a sixth of kaiming's.
    """


def zero(layer: nn.Linear) -> None:
    """Set weights and biases to 0, after which only the output bias ever moves.

    With cross-entropy, the loss's gradient for a logit is its error: the probability that the
    network gives to the class, minus 1 if it is the right one. An output weight's gradient is that
    times the hidden unit's activation, which is relu(0) = 0. The hidden layer's gradient comes back
    through the output weights, which are 0, so it is 0, too. What is left is the output bias. It
    learns how frequent each class is: ten equal classes, loss ln 10 = 2.3026.
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
