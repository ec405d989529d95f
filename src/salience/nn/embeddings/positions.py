"""Count positions: every real token is one step after the real token before it."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor


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
    """
    if cu_seqlens is not None:
        lengths = cu_seqlens.diff()
        shift = cu_seqlens[:-1] if start is None else cu_seqlens[:-1] - start
        return (torch.arange(tokens, device=device) - shift.repeat_interleave(lengths))[None]
    if mask is None:
        position = torch.arange(tokens, device=device)[None]
    else:
        position = (mask.cumsum(dim=1) - 1).clamp(min=0)
    return position if start is None else position + start[:, None]
