"""Number encoder: the scaled numbers themselves."""

from typing import Any

from torch import nn

from salience.models.number_encoder import NumberEncoder

CARD = {
    "key": "plain_numbers",
    "kind": "encoder",
    "title": "Numbers without an embedding",
    "entry": "PlainNumbers",
    "summary": "Each number, scaled, is its own token of size one: what a plain perceptron reads.",
    "paper": "On Embeddings for Numerical Features in Tabular Deep Learning (Gorishniy, Rubachev, Babenko, NeurIPS 2022)",
    "year": 2022,
    "url": "https://arxiv.org/abs/2203.05556",
    "faithful": "The paper's models without an embedding: MLP, ResNet.",
    "deviates": "A missing value becomes a learned number.",
    "kinds": ["number"],
    "cost": "O(columns) a row",
    "defaults": {},
    "tiny": {},
}


class PlainNumbers(NumberEncoder):
    """Hand all number columns on, scaled.

    Args:
        columns: names of the number columns.
        policies: ``scaling``, ``missing``, ``infinite`` and ``outside`` of
            :class:`~salience.data.numbers.NumberScaler`.
    """

    def __init__(self, columns: list[str], **policies: Any) -> None:
        super().__init__(columns, 1, **policies)

    @property
    def monotone(self) -> bool:
        """Scaling keeps the order."""
        return True

    def make_embedding(self, learned: dict[str, Any]) -> nn.Module:
        """Return a module that only gives each number an axis of its own."""
        return nn.Unflatten(1, (len(self.columns), 1))
