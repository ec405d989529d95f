"""Fusion: TabM, many perceptrons that share their weights."""

from jaxtyping import Float
from torch import Tensor, nn

from salience.models.backbone import Block, Columns, first_scales, has_embeddings, side_by_side
from salience.models.slots import Fusion, Tokens
from salience.nn.blocks.batch_ensemble import BatchEnsembleLinear

CARD = {
    "key": "tabm",
    "kind": "fusion",
    "title": "TabM: an ensemble of perceptrons in one",
    "entry": "TabM",
    "summary": "Thirty-two perceptrons share their matrices and differ by factors of inputs and outputs of each layer; each answers for itself, and the answers are averaged.",
    "paper": "TabM: Advancing Tabular Deep Learning with Parameter-Efficient Ensembling (Gorishniy, Kotelnikov, Babenko, ICLR 2025)",
    "year": 2025,
    "url": "https://arxiv.org/abs/2410.24210",
    "source": "tabm 0.0.3 (facts)",
    "licence": "Apache-2.0",
    "faithful": "BatchEnsemble layers; the first factors are random, one a column, normal with embedded numbers and signs without; all other factors start at one. The loss is the mean of the members' losses.",
    "deviates": "A text or an image counts as one column.",
    "cost": "members times that of a perceptron, in one matrix product a layer",
    "defaults": {"blocks": None, "width": 512, "dropout": 0.1, "members": 32},
    "tiny": {"blocks": 2, "width": 6, "dropout": 0.0, "members": 3},
}


class TabM(Fusion):
    """Stack ``BatchEnsemble → ReLU → Dropout``; the head has one output layer a member.

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
        scales, count = first_scales(columns, embedded, members), blocks or (2 if embedded else 3)
        first = BatchEnsembleLinear(sum(dims.values()), width, members, scales)
        rest = (BatchEnsembleLinear(width, width, members) for _ in range(count - 1))
        self.blocks = nn.Sequential(*(Block(linear, dropout) for linear in (first, *rest)))

    def forward(
        self, vectors: dict[str, Tensor], tokens: dict[str, Tokens]
    ) -> Float[Tensor, "batch member dim"]:
        """Return each member's last activations."""
        return self.blocks(side_by_side(vectors).unsqueeze(1))
