"""Text encoder: keep words by a gate that is 0, 1 or between, trained by plain gradients, read only those."""

from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from salience.models.rationale import DrawnRationaleEncoder, share_of
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
    "faithful": "Kumaraswamy gate stretched to (-0.1, 1.1) and clipped, shapes in [1e-6, 100]; loss of the prediction + λ |L0 − rate| with L0 the mean probability of a gate above 0; in evaluation 0, 1 or the mean, whichever of zero, one and between is most probable. dependent=true and ramp=0 are the published settings.",
    "deviates": "λ rises over the first `ramp` batches; |L0 − rate| is taken text by text, so that a batch worked through in parts has the same gradient; no Lagrange multiplier and no fused lasso, as in Zhou et al.; words with a gate of 0 are skipped instead of read as zeros.",
    "kinds": ["text"],
    "cost": "O(words × dim²) time, one word after the other; the reader only the kept words",
    "defaults": {"dim": 100, "embedding_dim": 100, "rate": 0.2, "strength": 1.0, "ramp": 200, "dropout": 0.2},
    "tiny": {"dim": 6, "embedding_dim": 5, "min_count": 1, "rate": 0.5},
}


class HardKumaRationaleEncoder(DrawnRationaleEncoder):
    """Encode text columns by the words that pass a hard Kumaraswamy gate.

    Args:
        columns: names of the text columns.
        dim: width of each direction of both LSTMs.
        rate: share of the words to keep, in (0, 1].
        strength: weight λ of the distance from that share.
        ramp: training batches over which λ rises from 0.
        dependent: whether a gate sees the gates before it.
        dropout: share of the words' features dropped in training.
        words: arguments of :class:`~salience.models.word_encoder.WordEncoder`.
    """

    parameters_of_choice = 2

    def __init__(
        self,
        columns: list[str],
        dim: int = 100,
        rate: float = 0.2,
        strength: float = 1.0,
        ramp: int = 200,
        dependent: bool = False,
        dropout: float = 0.2,
        **words: Any,
    ) -> None:
        super().__init__(columns, dim, rate, strength, ramp, dependent, dropout, **words)
        self._l0: Tensor | None = None  # expected share kept of each row of the last batch

    def draw(self, parameters: Float[Tensor, "*shape 2"]) -> Float[Tensor, "*shape"]:
        """Return a sample of each gate; in evaluation its most probable kind of value."""
        return _gate(parameters).sample() if self.training else _gate(parameters).most_likely()

    def probability(self, parameters: Float[Tensor, "*shape 2"]) -> Float[Tensor, "*shape"]:
        """Return the probability of a gate above 0."""
        return 1 - _gate(parameters).probability_zero()

    def remember(
        self,
        parameters: Float[Tensor, "batch token 2"],
        kept: Float[Tensor, "batch token"],
        mask: Bool[Tensor, "batch token"],
    ) -> None:
        """Keep the expected share of gates above 0."""
        self._l0 = share_of(self.probability(parameters), mask)

    def auxiliary_loss(self, row_losses: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Return ``λ |L0 − rate|`` of each row."""
        l0, self._l0 = self._l0, None
        return self.penalty(l0)


def _gate(parameters: Float[Tensor, "*shape 2"]) -> HardKumaraswamy:
    a, b = F.softplus(parameters).unbind(-1)
    return HardKumaraswamy(a, b)
