"""Text encoder: keep a few words by sampling, learn which by REINFORCE, read only those."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from salience.core.errors import ConfigError, nearest
from salience.models.rationale import DrawnRationaleEncoder, share_of

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
    "faithful": "Loss of the prediction + (its value + λ |share kept − rate|) · log-probability of the choice, with one draw a text; in evaluation a word is kept if its probability is at least 0.5. reward_baseline=none, dependent=true, ramp=0 and coherence=0 are the published settings of the target-rate version.",
    "deviates": "LSTMs in place of RCNN cells; words that are not kept are skipped instead of read as zeros; λ rises over the first `ramp` batches; the default subtracts from a text's cost the mean cost of the other texts (reward_baseline=mean), which leaves the expected gradient as it is and its noise smaller.",
    "kinds": ["text"],
    "cost": "O(words × dim²) time, one word after the other; the reader only the kept words",
    "defaults": {"dim": 100, "embedding_dim": 100, "rate": 0.2, "strength": 1.0, "ramp": 200, "dropout": 0.2},
    "tiny": {"dim": 6, "embedding_dim": 5, "min_count": 1, "rate": 0.5},
}
BASELINES = ("mean", "none")


class ReinforceRationaleEncoder(DrawnRationaleEncoder):
    """Encode text columns by the words that a sampled selection keeps.

    Args:
        columns: names of the text columns.
        dim: width of each direction of both LSTMs.
        rate: share of the words to keep, in (0, 1].
        strength: weight λ of the distance from that share.
        ramp: training batches over which λ rises from 0.
        coherence: weight of the share of neighbours of which one is kept and the other not; 0 as in the code.
        reward_baseline: ``"mean"`` of the other texts' costs, or ``"none"`` as published.
        dependent: whether a choice sees the choices before it.
        dropout: share of the words' features dropped in training.
        words: arguments of :class:`~salience.models.word_encoder.WordEncoder`.
    """

    parameters_of_choice = 1

    def __init__(
        self,
        columns: list[str],
        dim: int = 100,
        rate: float = 0.2,
        strength: float = 1.0,
        ramp: int = 200,
        coherence: float = 0.0,
        reward_baseline: str = "mean",
        dependent: bool = False,
        dropout: float = 0.2,
        **words: Any,
    ) -> None:
        super().__init__(columns, dim, rate, strength, ramp, dependent, dropout, **words)
        if reward_baseline not in BASELINES:
            raise ConfigError(
                f"Unknown reward_baseline {reward_baseline!r}", "", nearest(reward_baseline, BASELINES)
            )
        self.coherence, self.reward_baseline = coherence, reward_baseline
        self._drawn: tuple[Tensor, Tensor] | None = None  # log-probability and extra cost of the last draw

    def draw(self, parameters: Float[Tensor, "*shape 1"]) -> Float[Tensor, "*shape"]:
        """Return a draw of 0 or 1 for each word; in evaluation 1 where it is at least as likely as 0."""
        logits = parameters[..., 0].detach()
        return torch.bernoulli(logits.sigmoid()) if self.training else (logits >= 0).to(logits.dtype)

    def probability(self, parameters: Float[Tensor, "*shape 1"]) -> Float[Tensor, "*shape"]:
        """Return the probability of a 1."""
        return parameters[..., 0].sigmoid()

    def remember(
        self,
        parameters: Float[Tensor, "batch token 1"],
        kept: Float[Tensor, "batch token"],
        mask: Bool[Tensor, "batch token"],
    ) -> None:
        """Keep the log-probability of the draw, and what it costs beside the prediction."""
        log_probability = -F.binary_cross_entropy_with_logits(parameters[..., 0], kept, reduction="none")
        changes = (kept[:, 1:] != kept[:, :-1]) & mask[:, 1:]
        incoherence = changes.sum(1) / mask.sum(1).clamp(min=1)
        cost = self.penalty(share_of(kept, mask)) + self.coherence * incoherence
        self._drawn = (log_probability * mask).sum(1), cost

    def auxiliary_loss(self, row_losses: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Return ``(loss + cost of the choice − baseline) · log p(choice)``, whose gradient is REINFORCE's."""
        (log_probability, cost), self._drawn = self._drawn, None
        cost = (row_losses + cost).detach()
        if self.reward_baseline == "mean" and len(cost) > 1:
            cost = cost - (cost.sum() - cost) / (len(cost) - 1)
        return cost * log_probability
