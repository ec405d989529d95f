"""Text encoder: keep a few words by sampling, learn which by REINFORCE, read only those."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from salience.core.errors import ConfigError, nearest
from salience.models.rationale import Generator, RationaleEncoder, share_of
from salience.models.slots import Tokens

CARD = {
    "key": "rationale_reinforce",
    "kind": "encoder",
    "title": "Rationale by REINFORCE",
    "entry": "ReinforceRationaleEncoder",
    "summary": "A generator keeps a share of the words at random; a reader sees those alone; choices that led to a low loss become more likely.",
    "paper": "Rationalizing Neural Predictions (Lei, Barzilay, Jaakkola, EMNLP 2016)",
    "year": 2016,
    "url": "https://arxiv.org/abs/1606.04155",
    "source": "paper; the objective with a target rate is that of Zhou et al., AAAI 2022 (YilunZhou/feature-attribution-evaluation, facts)",
    "licence": "MIT (facts read, own code)",
    "faithful": "Loss of the prediction + (its value + λ |share kept − rate|) · log-probability of the choice, with one draw a text; in evaluation a word is kept if its probability is at least 0.5. reward_baseline=none, dependent=true and coherence=0 are the published settings of the target-rate version.",
    "deviates": "LSTMs in place of RCNN cells; words that are not kept are skipped instead of read as zeros; the default subtracts from a text's cost the mean cost of the other texts (reward_baseline=mean), which leaves the expected gradient as it is and its noise smaller.",
    "kinds": ["text"],
    "cost": "O(words × dim²) time, one word after the other; the reader only the kept words",
    "defaults": {"dim": 100, "embedding_dim": 100, "rate": 0.2, "strength": 1.0, "dropout": 0.2},
    "tiny": {"dim": 6, "embedding_dim": 5, "min_count": 1, "rate": 0.5},
}
BASELINES = ("mean", "none")


class ReinforceRationaleEncoder(RationaleEncoder):
    """Encode text columns by the words that a sampled selection keeps.

    Args:
        columns: names of the text columns.
        dim: width of each direction of both LSTMs.
        rate: share of the words to keep, in (0, 1].
        strength: weight λ of the distance from that share.
        coherence: weight of the share of neighbours of which one is kept and the other not; 0 as in the code.
        reward_baseline: ``"mean"`` of the other texts' costs, or ``"none"`` as published.
        dependent: whether a choice sees the choices before it.
        dropout: share of the words' features dropped in training.
        words: arguments of :class:`~salience.models.word_encoder.WordEncoder`.
    """

    def __init__(
        self,
        columns: list[str],
        dim: int = 100,
        rate: float = 0.2,
        strength: float = 1.0,
        coherence: float = 0.0,
        reward_baseline: str = "mean",
        dependent: bool = False,
        dropout: float = 0.2,
        **words: Any,
    ) -> None:
        super().__init__(columns, dim, rate, strength, dropout, **words)
        if reward_baseline not in BASELINES:
            raise ConfigError(
                f"Unknown reward_baseline {reward_baseline!r}", "", nearest(reward_baseline, BASELINES)
            )
        self.coherence, self.reward_baseline, self.dependent = coherence, reward_baseline, dependent
        self._drawn: tuple[Tensor, Tensor] | None = None  # log-probability and extra cost of the last draw

    def build_network(self, dim_in: int) -> nn.Module:
        """Return the reader, and set up the generator."""
        self.generator = Generator(dim_in, self.width, 1, self.dependent, self.dropout)
        return super().build_network(dim_in)

    def select(self, batch: dict[str, Tensor], tokens: Tokens) -> Float[Tensor, "batch token"]:
        """Draw each word in training; in evaluation keep those with a probability of at least one half."""
        draw = _drawn if self.training else _likely
        logits, kept = self.generator(tokens.values, tokens.mask, draw)
        if self.training:
            log_probability = -F.binary_cross_entropy_with_logits(logits[..., 0], kept, reduction="none")
            self._drawn = (log_probability * tokens.mask).sum(1), self._cost(kept, tokens.mask)
        return kept

    def _cost(
        self, kept: Float[Tensor, "batch token"], mask: Bool[Tensor, "batch token"]
    ) -> Float[Tensor, " batch"]:
        cost = self.strength * (share_of(kept, mask) - self.rate).abs()
        changes = (kept[:, 1:] != kept[:, :-1]) & mask[:, 1:]
        return cost + self.coherence * changes.sum(1) / mask.sum(1).clamp(min=1)

    def auxiliary_loss(self, row_losses: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Return ``(loss + cost of the choice − baseline) · log p(choice)``, whose gradient is REINFORCE's."""
        (log_probability, cost), self._drawn = self._drawn, None
        cost = (row_losses + cost).detach()
        if self.reward_baseline == "mean" and len(cost) > 1:
            cost = cost - (cost.sum() - cost) / (len(cost) - 1)
        return cost * log_probability

    def rationale(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what is kept, and the probability of each word."""
        tokens = super().embed(batch)
        logits, _ = self.generator(tokens.values, tokens.mask, _likely)
        return {"selected": tokens.kept, "probability": logits[..., 0].sigmoid() * tokens.mask}


def _drawn(logits: Tensor) -> Tensor:
    return torch.bernoulli(logits[..., 0].detach().sigmoid())


def _likely(logits: Tensor) -> Tensor:
    return (logits[..., 0] >= 0).to(logits.dtype)
