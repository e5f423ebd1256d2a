"""The network: 784 pixels -> 100 hidden ReLU units -> 10 classes, 79,510 parameters."""

from torch import Tensor, nn
from torch.nn import functional as F


class MLP(nn.Module):
    """A multi-layer perceptron.

    hidden: number of units in each hidden layer.
    dropout: probability in [0, 1) with which each hidden unit is set to 0 in training, drawn anew
        for each image. The others are multiplied by 1 / (1 - dropout), so that the next layer's
        inputs keep their expectation (Srivastava et al. 2014). No unit can rely on another, which
        works against overfitting. In evaluation all units answer.
    depth: number of hidden layers.
    """

    def __init__(self, hidden: int = 100, dropout: float = 0.0, depth: int = 1) -> None:
        super().__init__()
        sizes = [28 * 28] + [hidden] * depth
        # A linear layer from each size to the next: 784 -> hidden, hidden -> hidden, ...
        self.hidden = nn.ModuleList(nn.Linear(*pair) for pair in zip(sizes, sizes[1:]))
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, float32 (B, 10), for images, float32 (B, 28, 28) in [0, 1].

        Logits are scores; their softmax is probabilities. There is no softmax here on purpose,
        since CrossEntropyLoss contains it. To apply it twice is a classic mistake: then the loss
        treats probabilities as if they were logits. At best the first softmax gives 1 for the
        right class and 0 for the nine others, and the second, in the loss, turns that 1 into
        e^1 / (e^1 + 9 e^0) = 0.232. So the loss never gets below -ln 0.232 = 1.46.
        """
        activations = images.flatten(1)  # (B, 784)
        for layer in self.hidden:
            activations = self.dropout(F.relu(layer(activations)))  # (B, hidden)
        return self.output(activations)  # (B, 10)
