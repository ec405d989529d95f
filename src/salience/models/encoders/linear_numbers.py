"""Number encoder: a linear embedding of each number."""

from typing import Any

from torch import nn

from salience.models.number_encoder import NumberEncoder, further, stages
from salience.nn.embeddings.linear import LinearEmbedding

CARD = {
    "key": "linear_numbers",
    "kind": "encoder",
    "title": "Linear embedding of numbers",
    "entry": "LinearNumbers",
    "summary": "One vector a column times its number, plus another one; the tokenizer of FT-Transformer.",
    "paper": "Revisiting Deep Learning Models for Tabular Data (Gorishniy, Rubachev, Khrulkov, Babenko, NeurIPS 2021)",
    "year": 2021,
    "url": "https://arxiv.org/abs/2106.11959",
    "source": "rtdl_num_embeddings 0.0.12 (facts)",
    "licence": "MIT",
    "faithful": "L, LR and LRLR of the paper on embeddings of numbers.",
    "deviates": "A missing value has a learned vector.",
    "kinds": ["number"],
    "cost": "O(columns × dim) a row",
    "defaults": {"dim": 24},
    "tiny": {"dim": 4, "layers": "LR"},
}


class LinearNumbers(NumberEncoder):
    """Encode all number columns of a table.

    Args:
        columns: names of the number columns.
        dim: size of a column's embedding.
        layers: linear layers and ReLUs, such as ``"L"``, ``"LR"`` or ``"LRLR"``.
        policies: ``scaling``, ``missing``, ``infinite`` and ``outside`` of
            :class:`~salience.data.numbers.NumberScaler`.
    """

    def __init__(self, columns: list[str], dim: int = 24, layers: str = "L", **policies: Any) -> None:
        super().__init__(columns, dim, **policies)
        self.stages = stages(layers) or [False]

    def make_embedding(self, learned: dict[str, Any]) -> nn.Module:
        """Return the linear layers of each column."""
        n_features = len(self.columns)
        first = LinearEmbedding(n_features, self.token_dim, activation=self.stages[0])
        return nn.Sequential(first, *further(self.stages[1:], n_features, self.token_dim))
