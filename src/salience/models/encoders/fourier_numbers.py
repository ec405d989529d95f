"""Number encoder: one fixed random projection of all columns, as waves."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from salience.models.number_encoder import NumberEncoder
from salience.models.slots import Tokens
from salience.nn.embeddings.fourier import FourierFeatures

CARD = {
    "key": "fourier_numbers",
    "kind": "encoder",
    "title": "Fourier features of numbers",
    "entry": "FourierNumbers",
    "summary": "Cosines and sines of a fixed random projection of all numbers together. A baseline of the ablation.",
    "paper": "Fourier Features Let Networks Learn High Frequency Functions in Low Dimensional Domains (Tancik et al., NeurIPS 2020)",
    "year": 2020,
    "url": "https://arxiv.org/abs/2006.10739",
    "faithful": "One projection of all columns, drawn once and not trained.",
    "deviates": "Columns have no vectors of their own: the tokens are the scaled numbers, the row vector is the code. A missing value becomes a learned number.",
    "kinds": ["number"],
    "cost": "O(columns × frequencies) a row",
    "defaults": {"n_frequencies": 48, "sigma": 1.0},
    "tiny": {"n_frequencies": 4, "sigma": 0.3},
}


class FourierNumbers(NumberEncoder):
    """Encode all number columns of a table together.

    Args:
        columns: names of the number columns.
        n_frequencies: rows of the projection.
        sigma: standard deviation of its entries.
        policies: ``scaling``, ``missing``, ``infinite`` and ``outside`` of
            :class:`~salience.data.numbers.NumberScaler`.
    """

    def __init__(
        self, columns: list[str], n_frequencies: int = 48, sigma: float = 1.0, **policies: Any
    ) -> None:
        super().__init__(columns, 1, **policies)
        self.n_frequencies, self.sigma, self.dim = n_frequencies, sigma, 2 * n_frequencies

    def column_dims(self) -> list[int]:
        """Return the size of the row vector: it belongs to all columns together."""
        return [self.dim]

    def make_embedding(self, learned: dict[str, Any]) -> nn.Module:
        """Return the numbers themselves, and draw the projection that :meth:`encode` applies."""
        self.waves = FourierFeatures(len(self.columns), self.n_frequencies, self.sigma)
        return nn.Unflatten(1, (len(self.columns), 1))

    def encode(self, tokens: Tokens) -> tuple[Tokens, Float[Tensor, "batch dim"]]:
        """Return the tokens as they are, and the waves of all of them."""
        return tokens, self.waves(tokens.values.squeeze(2))
