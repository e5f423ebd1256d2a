"""The network: 784 pixels -> 100 hidden ReLU units -> 10 classes, 79,510 parameters."""

from torch import Tensor, nn
from torch.nn import functional as F


class MLP(nn.Module):
    """A multi-layer perceptron, with dropout on its hidden units.

    units: number of units in each hidden layer.
    dropout: probability in [0, 1) that a hidden unit is dropped, set to 0, in training.
    depth: number of hidden layers.

    In every training step and for every image, dropout (Srivastava et al. 2014) drops a different
    random set of units. The others are multiplied by 1 / (1 - dropout), so that the next layer's
    inputs keep their expected values. In evaluation nothing is dropped: every unit is active.

    Why it acts against overfitting: learning an image by heart takes units that work together on
    its details, and a unit cannot count on others that are missing half of the time. It has to
    detect something that is useful by itself, and that is more likely to be useful for new images,
    too. The price: in each step only a part of the network learns, so it fits the training images
    less well. In TensorBoard, loss/train rises a lot, since it is measured with units missing;
    loss/train_clean, measured with every unit, rises less, and loss/gap falls.
    """

    def __init__(self, units: int = 100, dropout: float = 0.0, depth: int = 1) -> None:
        super().__init__()
        sizes = [28 * 28] + [units] * depth
        # One linear layer from each size to the next: 784 -> units, units -> units, ...
        # They are in a ModuleList, since PyTorch does not find parameters in a plain list.
        self.hidden = nn.ModuleList(
            nn.Linear(fan_in, fan_out) for fan_in, fan_out in zip(sizes, sizes[1:]))
        self.dropout = nn.Dropout(dropout)  # each call draws which units to drop
        self.output = nn.Linear(units, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, float32 (B, 10), for images, float32 (B, 28, 28) in [0, 1].

        Logits are scores; their softmax is probabilities. There is no softmax here on purpose,
        because CrossEntropyLoss contains it. Applying it twice is a classic mistake: the loss then
        treats probabilities as if they were logits. At best the first softmax gives 1 for the
        correct class and 0 for the nine others, and the second one, in the loss, turns that 1 into
        e^1 / (e^1 + 9 e^0) = 0.232. So the loss never falls below -ln 0.232 = 1.46.
        """
        activations = images.flatten(1)  # (B, 784)
        for layer in self.hidden:
            activations = self.dropout(F.relu(layer(activations)))  # (B, units)
        return self.output(activations)  # (B, 10)
