"""Number encoder: piecewise linear encoding by quantile or tree bins, one token a column."""

from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn

from salience.models.binned_numbers import BinnedNumbers
from salience.models.number_encoder import further, stages
from salience.nn.embeddings.piecewise_linear import PiecewiseLinearEmbedding, PiecewiseLinearEncoding

CARD = {
    "key": "piecewise_linear",
    "kind": "encoder",
    "title": "Piecewise linear embedding of numbers",
    "entry": "PiecewiseLinearEncoder",
    "summary": "One ramp a bin, by quantiles or by a tree that sees the target; a learned vector for a missing value.",
    "paper": "On Embeddings for Numerical Features in Tabular Deep Learning (Gorishniy, Rubachev, Babenko, NeurIPS 2022)",
    "year": 2022,
    "url": "https://arxiv.org/abs/2203.05556",
    "source": "rtdl_num_embeddings 0.0.12 (facts)",
    "licence": "MIT",
    "faithful": "Bins and both versions of the authors' package: A (the paper's Q-LR, T-LR, …) and B (TabM's: linear branch, zero-initialised ramps); without layers the plain encoding, its padding left out.",
    "deviates": "Missing values have a learned vector; a constant column is kept, all its values alike; bins narrower than a millionth of a standard deviation are joined; values are standardised, not mapped to a normal distribution, unless asked for.",
    "kinds": ["number"],
    "cost": "O(columns × dim) a row, whatever the number of bins",
    "defaults": {"dim": 16, "n_bins": 32},
    "tiny": {"dim": 4, "n_bins": 3},
}


class PiecewiseLinearEncoder(BinnedNumbers):
    """Encode all number columns of a table.

    Args:
        columns: names of the number columns.
        dim: size of a column's embedding.
        n_bins: highest number of bins a column, at least 2.
        bins: ``"quantile"``, or ``"tree"``: thresholds of a decision tree that predicts the target from one column.
        version: ``"B"`` adds a linear branch and starts the ramps at zero; ``"A"`` is the paper's.
        layers: what follows the encoding, such as ``"L"``, ``"LR"`` or ``"LRLR"``; none for the plain encoding,
            whose tokens are as long as the most bins of a column and whose row vector holds no padding.
        scaling: as for :class:`~salience.data.numbers.NumberScaler`.
        options: further ones of :class:`~salience.models.binned_numbers.BinnedNumbers`.
    """

    def __init__(
        self,
        columns: list[str],
        dim: int = 16,
        n_bins: int = 32,
        bins: str = "quantile",
        version: Literal["A", "B"] = "B",
        layers: str = "L",
        scaling: str = "standard",
        **options: Any,
    ) -> None:
        super().__init__(columns, dim, n_bins, bins, scaling=scaling, **options)
        self.version, self.stages = version, stages(layers)

    @property
    def monotone(self) -> bool:
        """Ramps rise; layers behind them may turn that round."""
        return not self.stages

    def make_embedding(self, learned: dict[str, Any]) -> nn.Module:
        """Return the embedding of the fitted bins, or the plain encoding laid out as tokens."""
        edges = [np.array(e) for e in learned["edges"]]
        if not self.stages:
            encoding = TokenEncoding(edges)
            self.leave_out(encoding.used)
            return encoding
        first = PiecewiseLinearEmbedding(edges, self.token_dim, self.version, activation=self.stages[0])
        return nn.Sequential(first, *further(self.stages[1:], len(edges), self.token_dim))


class TokenEncoding(PiecewiseLinearEncoding):
    """Lay the plain encoding out as one token a feature, zeros in slots that are none of its bins."""

    def forward(self, x: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch feature bin"]:
        """Return the encoding of each feature, padded to the most bins."""
        encoded = super().forward(x)
        padded = encoded.new_zeros(*x.shape, self.used.shape[1])
        padded[..., self.used] = encoded
        return padded
