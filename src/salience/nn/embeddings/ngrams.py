"""Vectors of words and of pairs of neighbouring words, for a linear part beside an attention network."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F


class NGramEmbedding(nn.Module):
    """Embed each word, plus half of each pair that it forms with its neighbours.

    The sum over a text is thus the sum of its words' vectors and of its pairs' vectors, and each pair counts for
    both of its words. Pairs share ``buckets`` vectors by a fixed hash. All vectors start at zero, so that
    what is rare stays near zero.

    Args:
        n_words: number of word indices.
        dim: size of a vector.
        buckets: number of vectors that pairs share.
        weight_decay: decoupled weight decay of these tables in training; strong, since most pairs are rare.

    Source:
        The linear part is that of Wide & Deep (Cheng et al. 2016); hashed pairs as in fastText
        (Joulin et al. 2017). Splitting a pair between its words is ours: it keeps one vector a word.
    """

    def __init__(self, n_words: int, dim: int, buckets: int = 1 << 17, weight_decay: float = 1.0) -> None:
        super().__init__()
        self.buckets, self.weight_decay = buckets, weight_decay
        self.word = nn.Parameter(torch.zeros(n_words, dim))
        self.pair = nn.Parameter(torch.zeros(buckets, dim))

    def forward(
        self,
        index: Int[Tensor, "batch token"],
        group: Int[Tensor, "batch token"],
        known: Bool[Tensor, "batch token"],
    ) -> Float[Tensor, "batch token dim"]:
        """Return one vector a token.

        Args:
            index: word of each token.
            group: only neighbours of the same group (column) form a pair.
            known: tokens that are seen; the others get zero and form no pair.
        """
        words = F.embedding(index, self.word) * known.unsqueeze(-1)
        left, right = index[:, :-1], index[:, 1:]
        bucket = (left * 1_000_003 + right * 7_919 + group[:, 1:]) % self.buckets
        joined = known[:, :-1] & known[:, 1:] & (group[:, :-1] == group[:, 1:])
        half = F.embedding(bucket, self.pair) * (0.5 * joined).unsqueeze(-1).to(words.dtype)
        return words + F.pad(half, (0, 0, 0, 1)) + F.pad(half, (0, 0, 1, 0))
