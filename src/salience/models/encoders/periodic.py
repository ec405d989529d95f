"""Number encoder: cosines and sines of trained frequencies, one token a column."""

from typing import Any

from torch import nn

from salience.models.number_encoder import NumberEncoder, further, stages
from salience.nn.embeddings.periodic import Periodic, PeriodicEmbedding

CARD = {
    "key": "periodic",
    "kind": "encoder",
    "title": "Periodic embedding of numbers",
    "entry": "PeriodicEncoder",
    "summary": "Cosines and sines of each number at frequencies that are learned, then a linear layer and a ReLU.",
    "paper": "On Embeddings for Numerical Features in Tabular Deep Learning (Gorishniy, Rubachev, Babenko, NeurIPS 2022)",
    "year": 2022,
    "url": "https://arxiv.org/abs/2203.05556",
    "source": "rtdl_num_embeddings 0.0.12 (facts)",
    "licence": "MIT",
    "faithful": "P, PL, PLR, PLRLR, the lite form of TabR, and fixed log-linear frequencies; cosines come first.",
    "deviates": "A missing value has a learned vector; frequencies start within three standard deviations, as in the authors' package.",
    "kinds": ["number"],
    "cost": "O(columns × frequencies × dim) a row",
    "defaults": {"dim": 24, "n_frequencies": 48, "sigma": 0.01},
    "tiny": {"dim": 4, "n_frequencies": 3, "sigma": 0.3},
}


class PeriodicEncoder(NumberEncoder):
    """Encode all number columns of a table.

    Args:
        columns: names of the number columns.
        dim: size of a column's embedding; without layers it is twice ``n_frequencies``.
        n_frequencies: frequencies of each column.
        sigma: spread of the frequencies at the start. The option that matters most: smaller than the best is safe,
            larger harms. The best was below 0.05 for half of the paper's data sets.
        layers: what follows the waves, such as ``"L"``, ``"LR"`` or ``"LRLR"``; none for the waves alone.
        lite: whether the first layer is shared by all columns; it needs a ReLU.
        frequencies: ``"trained"``, or ``"log-linear"`` for fixed ones from 1 down to ``sigma``.
        policies: ``scaling``, ``missing``, ``infinite`` and ``outside`` of
            :class:`~salience.data.numbers.NumberScaler`.
    """

    def __init__(
        self,
        columns: list[str],
        dim: int = 24,
        n_frequencies: int = 48,
        sigma: float = 0.01,
        layers: str = "LR",
        lite: bool = False,
        frequencies: str = "trained",
        **policies: Any,
    ) -> None:
        self.stages = stages(layers)
        super().__init__(columns, dim if self.stages else 2 * n_frequencies, **policies)
        self.waves = {"n_frequencies": n_frequencies, "sigma": sigma, "frequencies": frequencies}
        self.lite = lite

    def make_embedding(self, learned: dict[str, Any]) -> nn.Module:
        """Return the waves and the layers after them."""
        n_features = len(self.columns)
        if not self.stages:
            return Periodic(n_features, **self.waves)
        first = PeriodicEmbedding(
            n_features, self.token_dim, activation=self.stages[0], lite=self.lite, **self.waves
        )
        return nn.Sequential(first, *further(self.stages[1:], n_features, self.token_dim))
