"""Number encoder: a number as a point on a sphere, one token a column; nothing is trained."""

from typing import Any

import numpy as np
from jaxtyping import Float
from torch import nn

from salience.models.number_encoder import NumberEncoder
from salience.nn.embeddings.dice import DICE

CARD = {
    "key": "dice",
    "kind": "encoder",
    "title": "DICE",
    "entry": "DICEEncoder",
    "summary": "Each number is an angle between the least and the greatest training value. A baseline of the ablation.",
    "paper": "Methods for Numeracy-Preserving Word Embeddings (Sundararaman et al., EMNLP 2020)",
    "year": 2020,
    "url": "https://aclanthology.org/2020.emnlp-main.384",
    "source": "code of On Embeddings for Numerical Features in Tabular Deep Learning (facts)",
    "licence": "MIT",
    "faithful": "Polar code times a random rotation.",
    "deviates": "A number outside the training range has one random angle a side, not a new one at each call; a missing value has a learned vector.",
    "kinds": ["number"],
    "cost": "O(columns × dim²) a row",
    "defaults": {"dim": 24},
    "tiny": {"dim": 4},
}


class DICEEncoder(NumberEncoder):
    """Encode all number columns of a table.

    Args:
        columns: names of the number columns.
        dim: size of a column's embedding, at least 2.
        policies: ``scaling``, ``missing``, ``infinite`` and ``outside`` of
            :class:`~salience.data.numbers.NumberScaler`.
    """

    def __init__(self, columns: list[str], dim: int = 24, **policies: Any) -> None:
        super().__init__(columns, dim, **policies)

    def learn(self, scaled: Float[np.ndarray, "row column"], target: np.ndarray) -> dict[str, Any]:
        """Return the range of each column on its scale; that of a constant one is around 0."""
        known = np.where(self.scaler.varies, scaled, 0.0)
        spare = np.where(self.scaler.varies, 0.0, 1.0)
        return {
            "low": (np.nanmin(known, 0) - spare).tolist(),
            "high": (np.nanmax(known, 0) + spare).tolist(),
        }

    def make_embedding(self, learned: dict[str, Any]) -> nn.Module:
        """Return the polar code of the fitted ranges."""
        return DICE(np.array(learned["low"]), np.array(learned["high"]), self.token_dim)
