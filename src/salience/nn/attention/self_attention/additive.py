"""Additive attention pooling: one learned weight a token, as in the attention classifiers of text."""

from jaxtyping import Bool, Float
from torch import Tensor, finfo, nn

from salience.nn.watch import show

CARD = {
    "key": "additive",
    "kind": "attention",
    "title": "Additive attention pooling",
    "entry": "AdditiveAttention",
    "summary": "A small network scores each token; their softmax pools a sequence into one vector.",
    "paper": "Neural Machine Translation by Jointly Learning to Align and Translate (Bahdanau et al., ICLR 2015)",
    "year": 2015,
    "url": "https://arxiv.org/abs/1409.0473",
    "source": "the attention classifier of Zhou et al., AAAI 2022 (YilunZhou/feature-attribution-evaluation, facts)",
    "licence": "MIT (facts read, own code)",
    "faithful": "Linear with bias, tanh, linear without bias, softmax over the real tokens.",
    "deviates": "An all-padding sequence gives zeros. The published network has no query, and neither has this one.",
    "category": "self",
    "defaults": {},
    "tiny": {"dim": 8},
}


class AdditiveAttention(nn.Module):
    """Pool a sequence into one vector with one weight a token.

    Args:
        dim: features of the tokens and of the result.
        hidden: width of the scoring network; half of ``dim`` if none.

    Holds ``dim · hidden + 2 · hidden`` parameters.
    """

    def __init__(self, dim: int, hidden: int | None = None) -> None:
        super().__init__()
        hidden = hidden or max(1, dim // 2)
        self.score = nn.Sequential(nn.Linear(dim, hidden), nn.Tanh(), nn.Linear(hidden, 1, bias=False))

    def weights(
        self, x: Float[Tensor, "batch token dim"], mask: Bool[Tensor, "batch token"]
    ) -> Float[Tensor, "batch token"]:
        """Return weights of the real tokens that add up to one (zero if there are none)."""
        logits = self.score(x).squeeze(-1)
        return logits.masked_fill(~mask, finfo(logits.dtype).min).softmax(dim=1) * mask

    def forward(
        self, x: Float[Tensor, "batch token dim"], mask: Bool[Tensor, "batch token"]
    ) -> Float[Tensor, "batch dim"]:
        """Return the weighted sum of the tokens; zeros for a sequence without real tokens."""
        weights = show("source2token", self.weights(x, mask))
        return (weights.unsqueeze(-1) * x).sum(dim=1)
