"""Count positions: every real token is one step after the real token before it."""

from itertools import pairwise

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from salience.core.errors import ConfigError


def packed_boundaries(cu_seqlens: Int[Tensor, " boundary"], tokens: int) -> list[int]:
    """Return the boundaries of packed sequences as a list.

    Raises:
        ConfigError: they do not rise from 0 to the number of tokens.
    """
    edges = cu_seqlens.tolist()
    if edges[:1] != [0] or edges[-1] != tokens or any(a >= b for a, b in pairwise(edges)):
        raise ConfigError(
            "The boundaries of packed sequences do not fit",
            f"{edges[:8]}, {tokens} tokens.",
            "Pass cumulative lengths that rise from 0 to the number of tokens.",
            code="SAL-C005",
        )
    return edges


def token_positions(
    tokens: int,
    *,
    mask: Bool[Tensor, "batch token"] | None = None,
    cu_seqlens: Int[Tensor, "boundary"] | None = None,
    start: Int[Tensor, "sequence"] | None = None,
    device: torch.device | str = "cpu",
) -> Int[Tensor, "batch token"]:
    """Return the position of each token; the batch axis is 1 where all rows agree.

    Args:
        tokens: length of the batch.
        mask: true where a token is real. Padding, wherever it stands, does not count.
        cu_seqlens: boundaries of packed sequences; each starts anew.
        start: tokens that each sequence has had before; 0 if not given.
        device: where the positions are made.

    Raises:
        ConfigError: the boundaries do not rise from 0 to the number of tokens.
    """
    if cu_seqlens is not None:
        packed_boundaries(cu_seqlens, tokens)
        edges = cu_seqlens.to(device)
        shift = edges[:-1] if start is None else edges[:-1] - start
        return (torch.arange(tokens, device=device) - shift.repeat_interleave(edges.diff()))[None]
    if mask is None:
        position = torch.arange(tokens, device=device)[None]
    else:
        position = (mask.cumsum(dim=1) - 1).clamp(min=0)
    return position if start is None else position + start[:, None]
