"""Number encoder: one-blob or thermometer code of the bin that a number lies in, one token a column."""

from typing import Any

import numpy as np
from torch import nn

from salience.models.binned_numbers import BinnedNumbers
from salience.nn.embeddings.one_blob import OneBlob, Thermometer

CARD = {
    "key": "one_blob",
    "kind": "encoder",
    "title": "One-blob and thermometer codes of numbers",
    "entry": "OneBlobNumbers",
    "summary": "The mass that a normal kernel around a number puts into each bin; or ones up to its bin. Baselines of the ablation.",
    "paper": "Neural Importance Sampling (Müller, McWilliams, Rousselle, Gross, Novák, ACM TOG 2019)",
    "year": 2019,
    "url": "https://arxiv.org/abs/1808.03856",
    "source": "code of On Embeddings for Numerical Features in Tabular Deep Learning (facts)",
    "licence": "MIT",
    "faithful": "The codes as that ablation reads them: kernel in the unit of the scaled number.",
    "deviates": "A missing value has a learned vector.",
    "kinds": ["number"],
    "cost": "O(columns × bins) a row",
    "defaults": {"n_bins": 32},
    "tiny": {"n_bins": 3},
}


class OneBlobNumbers(BinnedNumbers):
    """Encode all number columns of a table by a fixed code.

    Args:
        columns: names of the number columns.
        n_bins: highest number of bins a column, at least 2.
        gamma: the kernel's standard deviation is ``n_bins ** -gamma`` on the column's scale.
        binary: True for the thermometer code, which has no gradient in the numbers.
        options: further ones of :class:`~salience.models.binned_numbers.BinnedNumbers`.
    """

    def __init__(
        self, columns: list[str], n_bins: int = 32, gamma: float = 1.0, binary: bool = False, **options: Any
    ) -> None:
        super().__init__(columns, n_bins, n_bins, **options)
        self.gamma, self.binary = gamma, binary

    @property
    def monotone(self) -> bool:
        """A thermometer rises step by step; the blob moves from bin to bin."""
        return self.binary

    def make_embedding(self, learned: dict[str, Any]) -> nn.Module:
        """Return the code of the fitted bins."""
        edges = [np.array(e) for e in learned["edges"]]
        code = Thermometer(edges) if self.binary else OneBlob(edges, self.gamma)
        self.leave_out(code.used)
        return code
