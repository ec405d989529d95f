"""Number encoder: a soft choice among learned vectors, one token a column."""

from typing import Any

from torch import nn

from salience.models.number_encoder import NumberEncoder
from salience.nn.embeddings.autodis import AutoDis

CARD = {
    "key": "autodis",
    "kind": "encoder",
    "title": "AutoDis",
    "entry": "AutoDisEncoder",
    "summary": "Each number chooses softly among vectors of its column. A baseline of the ablation.",
    "paper": "An Embedding Learning Framework for Numerical Features in CTR Prediction (Guo et al., KDD 2021)",
    "year": 2021,
    "url": "https://arxiv.org/abs/2012.08986",
    "source": "code of On Embeddings for Numerical Features in Tabular Deep Learning (facts)",
    "licence": "MIT",
    "faithful": "The second version of the paper as that code reads it.",
    "deviates": "A missing value has a learned vector.",
    "kinds": ["number"],
    "cost": "O(columns × vectors × dim) a row",
    "defaults": {"dim": 24, "n_meta": 16},
    "tiny": {"dim": 4, "n_meta": 3},
}


class AutoDisEncoder(NumberEncoder):
    """Encode all number columns of a table.

    Args:
        columns: names of the number columns.
        dim: size of a column's embedding.
        n_meta: vectors a column chooses from.
        temperature: of the choice; the smaller, the harder.
        policies: ``scaling``, ``missing``, ``infinite`` and ``outside`` of
            :class:`~salience.data.numbers.NumberScaler`.
    """

    def __init__(
        self,
        columns: list[str],
        dim: int = 24,
        n_meta: int = 16,
        temperature: float = 1.0,
        **policies: Any,
    ) -> None:
        super().__init__(columns, dim, **policies)
        self.choice = {"n_meta": n_meta, "temperature": temperature}

    def make_embedding(self, learned: dict[str, Any]) -> nn.Module:
        """Return the soft choice of each column."""
        return AutoDis(len(self.columns), self.token_dim, **self.choice)
