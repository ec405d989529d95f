"""Text encoder: keep words by a gate that is 0, 1 or between, trained by plain gradients, read only those."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from salience.models.rationale import Generator, RationaleEncoder, share_of
from salience.models.slots import Tokens
from salience.nn.hard_kumaraswamy import HardKumaraswamy

CARD = {
    "key": "rationale_hardkuma",
    "kind": "encoder",
    "title": "Rationale by the hard Kumaraswamy gate",
    "entry": "HardKumaRationaleEncoder",
    "summary": "Each word passes a random gate that is often exactly 0 or 1 and still differentiable; a reader sees what passes.",
    "paper": "Interpretable Neural Predictions with Differentiable Binary Variables (Bastings, Aziz, Titov, ACL 2019)",
    "year": 2019,
    "url": "https://arxiv.org/abs/1905.08160",
    "source": "paper; the penalty is that of Zhou et al., AAAI 2022 (YilunZhou/feature-attribution-evaluation, facts)",
    "licence": "MIT (facts read, own code)",
    "faithful": "Kumaraswamy gate stretched to (-0.1, 1.1) and clipped, shapes in [1e-6, 100]; loss of the prediction + λ |L0 − rate| with L0 the mean probability of a gate above 0; in evaluation 0, 1 or the mean, whichever of zero, one and between is most probable. dependent=true is the published setting.",
    "deviates": "|L0 − rate| is taken text by text, so that a batch worked through in parts has the same gradient; no Lagrange multiplier and no fused lasso, as in Zhou et al.; words with a gate of 0 are skipped instead of read as zeros.",
    "kinds": ["text"],
    "cost": "O(words × dim²) time, one word after the other; the reader only the kept words",
    "defaults": {"dim": 100, "embedding_dim": 100, "rate": 0.2, "strength": 1.0, "dropout": 0.2},
    "tiny": {"dim": 6, "embedding_dim": 5, "min_count": 1, "rate": 0.5},
}


class HardKumaRationaleEncoder(RationaleEncoder):
    """Encode text columns by the words that pass a hard Kumaraswamy gate.

    Args:
        columns: names of the text columns.
        dim: width of each direction of both LSTMs.
        rate: share of the words to keep, in (0, 1].
        strength: weight λ of the distance from that share.
        dependent: whether a gate sees the gates before it.
        dropout: share of the words' features dropped in training.
        words: arguments of :class:`~salience.models.word_encoder.WordEncoder`.
    """

    def __init__(
        self,
        columns: list[str],
        dim: int = 100,
        rate: float = 0.2,
        strength: float = 1.0,
        dependent: bool = False,
        dropout: float = 0.2,
        **words: Any,
    ) -> None:
        super().__init__(columns, dim, rate, strength, dropout, **words)
        self.dependent = dependent
        self._l0: Tensor | None = None  # expected share kept of each row of the last batch

    def build_network(self, dim_in: int) -> nn.Module:
        """Return the reader, and set up the generator."""
        self.generator = Generator(dim_in, self.width, 2, self.dependent, self.dropout)
        return super().build_network(dim_in)

    def select(self, batch: dict[str, Tensor], tokens: Tokens) -> Float[Tensor, "batch token"]:
        """Draw each gate in training; in evaluation take its most probable kind of value."""
        draw = _sample if self.training else _most_likely
        parameters, kept = self.generator(tokens.values, tokens.mask, draw)
        if self.training:
            self._l0 = share_of(_above_zero(parameters), tokens.mask)
        return kept

    def auxiliary_loss(self, row_losses: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Return ``λ |L0 − rate|`` of each row."""
        l0, self._l0 = self._l0, None
        return self.strength * (l0 - self.rate).abs()

    def rationale(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the gates, and the probability of each word of a gate above 0."""
        tokens = super().embed(batch)
        parameters, _ = self.generator(tokens.values, tokens.mask, _most_likely)
        return {"selected": tokens.kept, "probability": _above_zero(parameters) * tokens.mask}


def _gate(parameters: Tensor) -> HardKumaraswamy:
    a, b = F.softplus(parameters).unbind(-1)
    return HardKumaraswamy(a, b)


def _sample(parameters: Tensor) -> Tensor:
    return _gate(parameters).sample()


def _most_likely(parameters: Tensor) -> Tensor:
    return _gate(parameters).most_likely()


def _above_zero(parameters: Tensor) -> Tensor:
    return 1 - _gate(parameters).probability_zero()
