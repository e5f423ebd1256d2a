"""The network: 784 pixels -> 100 hidden ReLU units -> 10 classes, 79,510 parameters."""

from torch import Tensor, nn
from torch.nn import functional as F


class MLP(nn.Module):
    """A multi-layer perceptron with dropout on its hidden units.

    units: number of units in each hidden layer.
    dropout: probability in [0, 1) that a hidden unit is dropped.
    depth: number of hidden layers.

    Dropout (Srivastava et al. 2014). During training, each hidden unit is dropped (set to 0) with
    the given probability. A new random set of units is drawn for every image in every step. The
    units that remain are multiplied by 1 / (1 - dropout), so that the average stays the same: with
    dropout 0.5, an activation of z becomes 0 half of the time and 2z the other half, which is z on
    average. During evaluation, nothing is dropped: every unit is active.

    Why it reduces overfitting. A group of units can memorise an image: each of them responds to a
    detail, and together the details identify this image. With dropout 0.5, a group of four units is
    complete only one time in 16, so this hardly works. Each unit has to be useful without the
    others. A unit alone can hardly identify an image; it has to respond to something that many
    images share, and new images are likely to share it, too.

    What it costs. Each image trains only part of the network, so the loss on the training images
    falls more slowly. It usually ends higher, too, even when measured with every unit active:
    the weights are a compromise, because they have to work with any set of units.

    How it shows up in TensorBoard. Compared with the same run without dropout, "loss/train" is much
    higher, because it is measured with units dropped. "loss/train_clean", measured with every unit
    active, is usually a little higher, and "loss/gap" is lower.
    """

    def __init__(self, units: int = 100, dropout: float = 0.0, depth: int = 1) -> None:
        super().__init__()
        sizes = [28 * 28] + [units] * depth
        # One linear layer from each size to the next: 784 -> units, units -> units, ...
        # (A ModuleList, because the optimizer would not get the parameters of a plain list.)
        self.hidden = nn.ModuleList(
            nn.Linear(fan_in, fan_out) for fan_in, fan_out in zip(sizes, sizes[1:]))
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(units, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, float32 (B, 10), for images, float32 (B, 28, 28) in [0, 1].

        Logits are scores, one for each class. Softmax turns them into probabilities: e^logit of the
        class, divided by the sum of e^logit over all ten. It is left out here on purpose, because
        CrossEntropyLoss contains it. Applying it twice is a classic mistake: the loss then treats
        probabilities as if they were logits. At best, the first softmax gives 1 for the correct
        class and 0 for the nine others. The second one turns that 1 into e^1 / (e^1 + 9 e^0), which
        is 0.232. So the loss, -ln of the probability of the correct class, never falls below 1.46.
        """
        activations = images.flatten(1)  # (B, 784)
        for layer in self.hidden:
            activations = self.dropout(F.relu(layer(activations)))  # (B, units)
        return self.output(activations)  # (B, 10)
