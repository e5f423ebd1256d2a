"""The network: 784 pixels -> 100 hidden ReLU units -> 10 classes, 79,510 parameters."""

from torch import Tensor, nn
from torch.nn import functional as F


class MLP(nn.Module):
    """A multi-layer perceptron with one hidden layer.

    hidden: number of hidden units. dropout: probability in [0, 1) with which each hidden unit is
    set to 0 in training, drawn anew for each image; the others grow by 1 / (1 - dropout), so that
    the output layer's inputs keep their expectation (Srivastava et al. 2014). Off in evaluation.
    """

    def __init__(self, hidden: int = 100, dropout: float = 0.0) -> None:
        super().__init__()
        self.hidden = nn.Linear(28 * 28, hidden)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, float32 (B, 10), for images, float32 (B, 28, 28) in [0, 1].

        Logits are scores; their softmax is probabilities. It is not missing here: CrossEntropyLoss
        contains it. To apply it twice is the classic mistake: the softmax of values in [0, 1]
        cannot exceed e / (e + 9) = 0.232, nor the loss fall below -ln 0.232 = 1.46.
        """
        activations = F.relu(self.hidden(images.flatten(1)))  # (B, 784) -> (B, hidden)
        return self.output(self.dropout(activations))  # (B, 10)
