"""Fusion: a multilayer perceptron on the row vectors side by side."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from salience.models.backbone import perceptron, side_by_side
from salience.models.slots import Fusion, Tokens

CARD = {
    "key": "mlp",
    "kind": "fusion",
    "title": "Multilayer perceptron",
    "entry": "MLPBackbone",
    "summary": "Linear, ReLU and dropout, a few times: the plain backbone of tables, strong with embedded numbers.",
    "paper": "Revisiting Deep Learning Models for Tabular Data (Gorishniy, Rubachev, Khrulkov, Babenko, NeurIPS 2021)",
    "year": 2021,
    "url": "https://arxiv.org/abs/2106.11959",
    "source": "rtdl_revisiting_models 0.0.2 (facts)",
    "licence": "Apache-2.0",
    "faithful": "Layers, their order and their start; the head is the last linear layer.",
    "deviates": "Each layer has a width of its own, as in the paper's tuned models; the authors' package has one for all.",
    "cost": "O(inputs × width + layers × width²) a row",
    "defaults": {"widths": [384, 384, 384], "dropout": 0.1},
    "tiny": {"widths": [8, 6], "dropout": 0.0},
}


class MLPBackbone(Fusion):
    """Stack ``Linear → ReLU → Dropout``; the head follows.

    Args:
        dims: size of each encoder's row vector, by name.
        token_dims: not used.
        widths: size of each layer.
        dropout: share of activations dropped in training, in [0, 1).
    """

    head_hidden = ()

    def __init__(
        self,
        dims: dict[str, int],
        token_dims: dict[str, int],
        widths: Sequence[int] = (384, 384, 384),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        sizes = [sum(dims.values()), *widths]
        self.dim = sizes[-1]
        self.blocks = perceptron(sizes, dropout)

    def forward(self, vectors: dict[str, Tensor], tokens: dict[str, Tokens]) -> Float[Tensor, "batch dim"]:
        """Return the last layer's activations."""
        return self.blocks(side_by_side(vectors))
