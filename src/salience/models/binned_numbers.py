"""What encoders that cut numbers into bins share: fitted edges, and tokens whose padding is left out of the row vector."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from salience.core.errors import ConfigError, nearest
from salience.data.bins import quantile_edges, tree_edges
from salience.models.number_encoder import NumberEncoder
from salience.models.slots import Tokens

NARROWEST = 1e-6  # narrower bins are no bins in float32
BINS = ("quantile", "tree")


class BinnedNumbers(NumberEncoder):
    """Encode all number columns of a table by bins that are fitted on scaled training values.

    Args:
        columns: names of the number columns.
        dim: size of a column's embedding.
        n_bins: highest number of bins a column, at least 2.
        bins: ``"quantile"``, or ``"tree"``: thresholds of a decision tree that predicts the target from one column.
        min_samples_leaf: rows that a bin of a tree holds at least.
        min_impurity_decrease: gain that a split of a tree needs, see :func:`~salience.data.bins.tree_edges`.
        policies: as for :class:`~salience.models.number_encoder.NumberEncoder`.

    Raises:
        ConfigError: unknown ``bins``.
    """

    places: Tensor | None

    def __init__(
        self,
        columns: list[str],
        dim: int,
        n_bins: int,
        bins: str = "quantile",
        min_samples_leaf: int = 1,
        min_impurity_decrease: float = 0.0,
        **policies: Any,
    ) -> None:
        super().__init__(columns, dim, **policies)
        if bins not in BINS:
            raise ConfigError(f"Unknown bins {bins!r} of numbers", "", nearest(bins, BINS), code="SAL-C002")
        self.n_bins, self.bins = n_bins, bins
        self.limits = {"min_samples_leaf": min_samples_leaf, "min_impurity_decrease": min_impurity_decrease}
        self.register_buffer("places", None, persistent=False)

    def learn(self, scaled: Float[np.ndarray, "row column"], target: np.ndarray) -> dict[str, Any]:
        """Return the edges of each column's bins, on its scale; a constant column has one bin around 0."""
        edges = []
        for column, varies in zip(scaled.T, self.scaler.varies, strict=True):
            known = np.isfinite(column)
            found = self._edges(column[known], target[known]) if varies else np.array([-0.5, 0.5])
            edges.append(_resolved(found).tolist())
        return {"edges": edges}

    def _edges(self, column: np.ndarray, target: np.ndarray) -> np.ndarray:
        if self.bins == "quantile":
            return quantile_edges(column, self.n_bins)
        task = "classification" if target.dtype.kind in "iub" else "regression"
        return tree_edges(column, target, self.n_bins, task=task, **self.limits)

    def edges(self, column: str) -> Float[np.ndarray, " edge"]:
        """Return the edges of a column's bins in its own units, increasing."""
        position = self.columns.index(column)
        return self.scaler.inverse(np.array(self.learned["edges"][position]), position)

    def leave_out(self, used: Bool[Tensor, "column bin"]) -> None:
        """Take the bins themselves as tokens, and leave out of the row vector what only pads a column.

        Args:
            used: which slots of a token are bins of the column.
        """
        self.places = used.flatten().nonzero().squeeze(1)
        self.token_dim, self.dim = used.shape[1], len(self.places)
        self._column_dims = used.sum(1).tolist()

    def column_dims(self) -> list[int]:
        """Return how many places of the row vector each column takes, in order."""
        return super().column_dims() if self.places is None else self._column_dims

    def encode(self, tokens: Tokens) -> tuple[Tokens, Float[Tensor, "batch dim"]]:
        """Return the tokens as they are, and flattened, without padding."""
        flat = tokens.values.flatten(1)
        return tokens, flat if self.places is None else flat[:, self.places]


def _resolved(edges: np.ndarray) -> np.ndarray:
    """Leave out edges that float32 cannot tell apart from the one before; the outer ones stay."""
    kept = [edges[0]]
    for edge in edges[1:-1]:
        if edge - kept[-1] > NARROWEST and edges[-1] - edge > NARROWEST:
            kept.append(edge)
    return np.array([*kept, max(edges[-1], edges[0] + NARROWEST)])
