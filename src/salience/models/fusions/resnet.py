"""Fusion: a residual network on the row vectors side by side."""

from jaxtyping import Float
from torch import Tensor, nn

from salience.models.backbone import side_by_side
from salience.models.slots import Fusion, Tokens
from salience.nn.dropout import Dropout
from salience.nn.norms.batch_norm import BatchNorm

CARD = {
    "key": "resnet",
    "kind": "fusion",
    "title": "Residual network for tables",
    "entry": "ResNetBackbone",
    "summary": "Blocks of normalisation and two linear layers, added to what they were given.",
    "paper": "Revisiting Deep Learning Models for Tabular Data (Gorishniy, Rubachev, Khrulkov, Babenko, NeurIPS 2021)",
    "year": 2021,
    "url": "https://arxiv.org/abs/2106.11959",
    "source": "rtdl_revisiting_models 0.0.2 (facts)",
    "licence": "Apache-2.0",
    "faithful": "Layers and their order: normalisation first, and once more before the head.",
    "deviates": "A training batch of one row is normalised by the running statistics, since it has no spread of its own.",
    "cost": "O(inputs × width + 2 × blocks × hidden_factor × width²) a row",
    "defaults": {"blocks": 2, "width": 192, "hidden_factor": 2.0, "dropout": 0.3, "residual_dropout": 0.0},
    "tiny": {"blocks": 2, "width": 6, "hidden_factor": 2.0, "dropout": 0.0, "residual_dropout": 0.0},
}


class ResNetBackbone(Fusion):
    """``Linear``, then blocks ``x + Dropout(Linear(Dropout(ReLU(Linear(BatchNorm(x))))))``, then ``BatchNorm → ReLU``.

    Args:
        dims: size of each encoder's row vector, by name.
        token_dims: not used.
        blocks: number of blocks.
        width: size of what passes between blocks.
        hidden_factor: size inside a block, as a multiple of ``width``.
        dropout: share of a block's hidden activations dropped in training, in [0, 1).
        residual_dropout: share of a block's result dropped in training, in [0, 1).
    """

    head_hidden = ()

    def __init__(
        self,
        dims: dict[str, int],
        token_dims: dict[str, int],
        blocks: int = 2,
        width: int = 192,
        hidden_factor: float = 2.0,
        dropout: float = 0.3,
        residual_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.dim, hidden = width, int(width * hidden_factor)
        self.first = nn.Linear(sum(dims.values()), width)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                BatchNorm(width),
                nn.Linear(width, hidden),
                nn.ReLU(),
                Dropout(dropout),
                nn.Linear(hidden, width),
                Dropout(residual_dropout),
            )
            for _ in range(blocks)
        )
        self.last = nn.Sequential(BatchNorm(width), nn.ReLU())

    def forward(self, vectors: dict[str, Tensor], tokens: dict[str, Tokens]) -> Float[Tensor, "batch dim"]:
        """Return the last block's result, normalised and rectified."""
        x = self.first(side_by_side(vectors))
        for block in self.blocks:
            x = x + block(x)
        return self.last(x)
