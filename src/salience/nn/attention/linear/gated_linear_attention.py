"""Gated linear attention: the token mixer of TransNormerLLM."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import silu

from salience.core.errors import ConfigError
from salience.nn.embeddings.lrpe import LRPE
from salience.nn.embeddings.positions import token_positions
from salience.nn.norms.simple_rms_norm import SimpleRMSNorm
from salience.ops import LinearAttentionState, contribution, linear_attention

CARD = {
    "key": "gated_linear_attention",
    "kind": "attention",
    "title": "Gated linear attention with fixed decay",
    "entry": "GatedLinearAttention",
    "summary": "Causal linear attention whose heads forget at fixed rates; normalised, then gated by the input.",
    "paper": "Qin et al., TransNormerLLM; Lightning Attention-2; Various Lengths, Constant Speed (ICML 2024)",
    "year": 2024,
    "url": "https://arxiv.org/abs/2307.14995",
    "source": "modeling_transnormer.py of the released checkpoints",
    "licence": "Apache-2.0 (facts read, own code)",
    "faithful": "SiLU on queries and keys only, optional LRPE, no scale, no denominator, SimpleRMSNorm over the full width, gate without sigmoid.",
    "deviates": "Padding neither writes, decays nor advances positions; mask_mode='tnl' gives the published handling. Positions live in the state.",
    "category": "linear",
    "cost": "O(tokens × head_dim × hidden_dim) time, O(head_dim × hidden_dim) memory for the state",
    "tiny": {"dim": 8, "num_heads": 2, "slopes": [0.5, 0.1]},
}
MASK_MODES = ("skip", "tnl")


class GatedLinearAttention(nn.Module):
    """Mix tokens by o_t = Σ_{s≤t} exp(−slope · (t−s)) (q_t·k_s) v_s, normalise over all heads, and gate by u.

    Args:
        dim: features of input and output.
        num_heads: heads H; queries, keys and values have hidden_dim / H features.
        slopes: H decay rates, not negative; see :func:`salience.ops.linear.slopes.decay_slopes`.
        hidden_dim: width of all heads together; ``dim`` if not given.
        lrpe: whether queries and keys carry positions (doubles the state).
        mask_mode: ``"skip"``: a masked token writes nothing, lets nothing decay and takes no position;
            ``"tnl"``: as published, its value is zero and time goes on.
        mode: how :func:`salience.ops.linear_attention` computes.

    Raises:
        ConfigError: the heads do not divide ``hidden_dim``, slopes and heads differ in number, or an unknown mask mode.

    Holds 5 · dim · hidden_dim parameters, and hidden_dim more with LRPE. Module names are those of the published
    weights. Source: TransNormerLLM, section 3.1, and the code of the released model where they disagree.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        slopes: Sequence[float],
        *,
        hidden_dim: int | None = None,
        lrpe: bool = False,
        mask_mode: str = "skip",
        mode: str = "auto",
    ) -> None:
        super().__init__()
        hidden_dim = dim if hidden_dim is None else hidden_dim
        _check(hidden_dim, num_heads, slopes, mask_mode)
        self.num_heads, self.mask_mode, self.mode = num_heads, mask_mode, mode
        self.slopes = tuple(float(slope) for slope in slopes)
        self.qkvu_proj = nn.Linear(dim, 4 * hidden_dim, bias=False)
        self.out_proj = nn.Linear(hidden_dim, dim, bias=False)
        self.lrpe = LRPE(num_heads, hidden_dim // num_heads) if lrpe else None
        self.norm = SimpleRMSNorm()
        self._log_decay: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def log_decay(self, like: Tensor) -> Float[Tensor, "head"]:
        """Return −slope of each head, in fp32, or float64 beside float64 input.

        Not a buffer: a model that is cast to bf16 must keep exact slopes.
        """
        key = (like.device, torch.float64 if like.dtype == torch.float64 else torch.float32)
        if key not in self._log_decay:
            with torch.inference_mode(False):  # what is made in inference mode cannot serve training later
                self._log_decay[key] = -torch.tensor(self.slopes, device=key[0], dtype=key[1])
        return self._log_decay[key]

    def forward(
        self,
        x: Float[Tensor, "batch token dim"],
        *,
        mask: Bool[Tensor, "batch token"] | None = None,
        cu_seqlens: Int[Tensor, "boundary"] | None = None,
        position: Int[Tensor, "batch token"] | None = None,
        state: LinearAttentionState | None = None,
        keep_state: bool = False,
        need_weights: bool | Literal["last"] = False,
    ) -> tuple[
        Float[Tensor, "batch token dim"],
        LinearAttentionState | None,
        Float[Tensor, "batch head query key"] | None,
    ]:
        """Return the mixed tokens, the state after them, and the weights that were applied.

        Args:
            x: the tokens.
            mask: true where a token is real; its output is zero where it is not (``mask_mode="skip"``).
            cu_seqlens: boundaries of sequences that are packed in one row.
            position: position of each token; counted if not given.
            state: the state before the first token.
            keep_state: whether to return the state after the last token.
            need_weights: whether to return the effective weights: decayed, signed, LRPE included. Weights times
                values are the output before its normalisation. ``"last"``: those of the last query alone,
                ``[batch head 1 key]``, in memory that is linear in the tokens.
        """
        q, k, v, u = self.qkvu_proj(x).chunk(4, dim=-1)
        q, k, v = (t.unflatten(-1, (self.num_heads, -1)) for t in (silu(q), silu(k), v))
        if mask is not None and self.mask_mode == "tnl":
            v, mask = v * mask[:, :, None, None], None
        if self.lrpe is not None:
            factors = self.lrpe.factors(self._positions(x, mask, cu_seqlens, position, state))
            q, k = self.lrpe(q, factors), self.lrpe(k, factors)
        result = linear_attention(
            q,
            k,
            v,
            log_decay=self.log_decay(q),
            mask=mask,
            cu_seqlens=cu_seqlens,
            initial_state=state,
            output_final_state=keep_state,
            mode=self.mode,
            need_weights=need_weights is True,
        )
        weights = self._last_weights(q, k, mask) if need_weights == "last" else result.weights
        mixed = u * self.norm(result.out.flatten(2))
        return self.out_proj(mixed), result.state, weights

    def _last_weights(self, q: Tensor, k: Tensor, mask: Tensor | None) -> Float[Tensor, "batch head 1 key"]:
        last, keys = q.shape[1] - 1, torch.arange(q.shape[1], device=q.device)
        return contribution(q, k, last, keys, log_decay=self.log_decay(q), mask=mask)[:, :, None]

    @staticmethod
    def _positions(
        x: Tensor,
        mask: Tensor | None,
        cu_seqlens: Tensor | None,
        position: Tensor | None,
        state: LinearAttentionState | None,
    ) -> Tensor:
        if position is not None:
            return position
        start = None if state is None else state.position
        return token_positions(x.shape[1], mask=mask, cu_seqlens=cu_seqlens, start=start, device=x.device)


def _check(hidden_dim: int, num_heads: int, slopes: Sequence[float], mask_mode: str) -> None:
    if num_heads < 1 or hidden_dim % num_heads or len(slopes) != num_heads:
        raise ConfigError(
            "The heads of gated linear attention do not fit",
            f"hidden_dim={hidden_dim}, num_heads={num_heads}, {len(slopes)} slopes.",
            "Choose a number of heads that divides the width, and give one slope a head.",
            code="SAL-C005",
        )
    if mask_mode not in MASK_MODES:
        raise ConfigError(f"Unknown mask mode {mask_mode!r}", "", "Use 'skip' or 'tnl'.", code="SAL-C002")
