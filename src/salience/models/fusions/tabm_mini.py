"""Fusion: TabM-mini, one perceptron behind many scalings of its input."""

from jaxtyping import Float
from torch import Tensor, nn

from salience.models.backbone import Columns, first_scales, has_embeddings, perceptron, side_by_side
from salience.models.slots import Fusion, Tokens

CARD = {
    "key": "tabm_mini",
    "kind": "fusion",
    "title": "TabM-mini: an ensemble of perceptrons that differ by one scaling",
    "entry": "TabMMini",
    "summary": "Thirty-two perceptrons share all layers; each scales the input in a way of its own and answers for itself, and the answers are averaged.",
    "paper": "TabM: Advancing Tabular Deep Learning with Parameter-Efficient Ensembling (Gorishniy, Kotelnikov, Babenko, ICLR 2025)",
    "year": 2025,
    "url": "https://arxiv.org/abs/2410.24210",
    "source": "tabm 0.0.3 (facts)",
    "licence": "Apache-2.0",
    "faithful": "One scaling of the input without bias, random at the start, one factor a column: normal with embedded numbers, signs without. The loss is the mean of the members' losses.",
    "deviates": "A text or an image counts as one column.",
    "cost": "members times that of a perceptron, in one matrix product a layer",
    "defaults": {"blocks": None, "width": 512, "dropout": 0.1, "members": 32},
    "tiny": {"blocks": 2, "width": 6, "dropout": 0.0, "members": 3},
}


class TabMMini(Fusion):
    """Scale the input once a member, then stack ``Linear → ReLU → Dropout``; the head has one output layer a member.

    Args:
        dims: size of each encoder's row vector, by name.
        token_dims: size of each encoder's tokens, for encoders with one token a column.
        columns: how many places of the row vector each column takes, by name of the encoder.
        blocks: number of layers; two where numbers are embedded and three where they are not, if none.
        width: size of each layer.
        dropout: share of activations dropped in training, in [0, 1).
        members: number of members, at least 2.
    """

    head_hidden = ()
    knows_columns = True

    def __init__(
        self,
        dims: dict[str, int],
        token_dims: dict[str, int],
        columns: Columns,
        blocks: int | None = None,
        width: int = 512,
        dropout: float = 0.1,
        members: int = 32,
    ) -> None:
        super().__init__()
        self.dim, self.members = width, members
        embedded = has_embeddings(dims, token_dims)
        self.scales = nn.Parameter(first_scales(columns, embedded, members))
        count = blocks or (2 if embedded else 3)
        self.blocks = perceptron([sum(dims.values()), *[width] * count], dropout)

    def forward(
        self, vectors: dict[str, Tensor], tokens: dict[str, Tokens]
    ) -> Float[Tensor, "batch member dim"]:
        """Return each member's last activations."""
        return self.blocks(side_by_side(vectors).unsqueeze(1) * self.scales)
