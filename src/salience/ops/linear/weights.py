"""Single effective weights of linear attention, without the token × token matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from salience.core.errors import ConfigError
from salience.ops.linear.attention import EPS, features, linear_attention, masked, share
from salience.ops.linear.check import check_arguments
from salience.ops.linear.naive import pair_weights, token_decay
from salience.ops.precision import exact_dtype, full_precision

KEYS = 4096  # keys that are weighed at once


class TopContributions(NamedTuple):
    """Hold the keys that weigh most in some queries' outputs, greatest first.

    Attributes:
        weights: effective weights, signed; 0 where a query has fewer legal keys.
        keys: their positions; -1 where there is none.
    """

    weights: Float[Tensor, "batch head query count"]
    keys: Int[Tensor, "batch head query count"]


class _Prepared:
    """Queries, keys and summed log-decays, as the operator uses them (batch head token …)."""

    def __init__(
        self,
        q: Tensor,
        k: Tensor,
        log_decay: Tensor | None,
        scale: float,
        normalize: bool,
        feature_map: str | Callable[[Tensor], Tensor] | None,
        causal: bool,
        mask: Tensor | None,
        cu_seqlens: Tensor | None,
        layout: str,
    ) -> None:
        check_arguments(q, k, k, log_decay, mask, cu_seqlens, None, causal, False, normalize, layout)
        if layout == "bhnd":
            q, k = q.transpose(1, 2), k.transpose(1, 2)
            per_token = log_decay is not None and log_decay.dim() > 1
            log_decay = log_decay.transpose(1, 2) if per_token else log_decay
        self.causal, self.tokens, self.total = causal, q.shape[1], None
        if normalize:
            options = {"log_decay": log_decay, "mask": mask, "cu_seqlens": cu_seqlens, "causal": causal}
            ones = torch.ones_like(k[..., :1])
            sums = linear_attention(q, k, ones, scale=scale, feature_map=feature_map, **options).out
            self.total = sums[..., 0].transpose(1, 2).to(exact_dtype(q))
        q, k = (features(x, feature_map).to(exact_dtype(x)) for x in (q, k))
        k = share(k, q.shape[2])
        if mask is not None:
            q, k, _, log_decay = masked(q, k, k, log_decay, mask)
        self.q, self.k = (q * scale).transpose(1, 2), k.transpose(1, 2)
        self.decay = token_decay(log_decay, q).cumsum(1).transpose(1, 2)
        order = torch.arange(self.tokens, device=q.device)
        edges = torch.tensor([0, self.tokens]) if cu_seqlens is None else cu_seqlens
        self.sequence = torch.bucketize(order, edges[1:].to(q.device), right=True)

    def weigh(self, query: Tensor, key: Tensor) -> Tensor:
        """Return weights of position pairs that are given side by side (batch head pair)."""
        gap = -(self.decay[:, :, query] - self.decay[:, :, key]).abs()
        weights = (self.q[:, :, query] * self.k[:, :, key] * gap.exp()).sum(-1)
        return self._finish(weights, query, key, query)

    def weigh_all(self, query: Tensor, key: Tensor) -> Tensor:
        """Return weights of every query with every key (batch head query key)."""
        gap = -(self.decay[:, :, query, None] - self.decay[:, :, None, key]).abs()
        q, k = self.q[:, :, query], self.k[:, :, key]
        with full_precision(q.device):
            weights = pair_weights(q, k, gap)
        return self._finish(weights, query[:, None], key, query)

    def _finish(self, weights: Tensor, query: Tensor, key: Tensor, rows: Tensor) -> Tensor:
        if self.total is not None:
            total = self.total[:, :, rows] + EPS
            weights = weights / (total if weights.dim() == total.dim() else total[..., None])
        return weights.masked_fill(~self.legal(query, key), 0.0)

    def legal(self, query: Tensor, key: Tensor) -> Tensor:
        same = self.sequence[query] == self.sequence[key]
        return same & (key <= query) if self.causal else same

    def positions(self, name: str, x: int | Tensor) -> Tensor:
        x = torch.as_tensor(x, device=self.q.device).flatten().long()
        if x.numel() == 0 or int(x.min()) < 0 or int(x.max()) >= self.tokens:
            got = "none" if x.numel() == 0 else f"{int(x.min())} to {int(x.max())}"
            raise ConfigError(f"{name} is not a position", f"Got {got}.", f"Pass 0 to {self.tokens - 1}.")
        return x


def contribution(
    q: Float[Tensor, "batch token head dim"],
    k: Float[Tensor, "batch token key_head dim"],
    t: int | Int[Tensor, " pair"],
    s: int | Int[Tensor, " pair"],
    *,
    log_decay: Tensor | None = None,
    scale: float = 1.0,
    normalize: bool = False,
    feature_map: str | Callable[[Tensor], Tensor] | None = None,
    causal: bool = True,
    mask: Bool[Tensor, "batch token"] | None = None,
    cu_seqlens: Int[Tensor, " boundary"] | None = None,
    layout: str = "bnhd",
) -> Float[Tensor, "batch head pair"]:
    """Return what token ``s`` weighs in the output of token ``t``, for single pairs; memory O(token).

    The options are those of `salience.ops.linear_attention`, and the numbers are those of its ``weights``. An
    illegal pair weighs zero. Raises `ConfigError` for positions outside the tokens, and as the operator does.
    """
    given = (log_decay, scale, normalize, feature_map, causal, mask, cu_seqlens, layout)
    prepared = _Prepared(q, k, *given)
    query, key = torch.broadcast_tensors(prepared.positions("t", t), prepared.positions("s", s))
    return prepared.weigh(query, key)


def top_contributions(
    q: Float[Tensor, "batch token head dim"],
    k: Float[Tensor, "batch token key_head dim"],
    queries: int | Int[Tensor, " query"],
    *,
    count: int = 10,
    v: Float[Tensor, "batch token key_head value"] | None = None,
    log_decay: Tensor | None = None,
    scale: float = 1.0,
    normalize: bool = False,
    feature_map: str | Callable[[Tensor], Tensor] | None = None,
    causal: bool = True,
    mask: Bool[Tensor, "batch token"] | None = None,
    cu_seqlens: Int[Tensor, " boundary"] | None = None,
    layout: str = "bnhd",
) -> TopContributions:
    """Return the keys that weigh most in the outputs of some queries, by absolute weight.

    With ``v``, keys are ranked by the length of what they add, ``|weight| · ‖v‖``; the weights returned are the
    same. Keys are weighed 4,096 at a time: memory is O(token + query · (4,096 + count)), never token². Other
    options are those of `salience.ops.linear_attention`. Raises `ConfigError` as `contribution` does.
    """
    given = (log_decay, scale, normalize, feature_map, causal, mask, cu_seqlens, layout)
    prepared = _Prepared(q, k, *given)
    query = prepared.positions("queries", queries)
    length = None if v is None else _lengths(v, layout, prepared.q.shape[1])
    shape = (*prepared.q.shape[:2], len(query), 0)
    weights, keys = prepared.q.new_zeros(shape), query.new_zeros(shape)
    for start in range(0, prepared.tokens, KEYS):
        key = torch.arange(start, min(start + KEYS, prepared.tokens), device=query.device)
        block = prepared.weigh_all(query, key)
        place = torch.where(prepared.legal(query[:, None], key), key, -1).expand_as(block)
        weights, keys = torch.cat([weights, block], -1), torch.cat([keys, place], -1)
        size = weights.abs() if length is None else weights.abs() * _pick(length, keys)
        best = size.masked_fill(keys < 0, -1.0).topk(min(count, size.shape[-1]), -1).indices
        weights, keys = weights.gather(-1, best), keys.gather(-1, best)
    return TopContributions(weights, keys)


def _lengths(v: Tensor, layout: str, heads: int) -> Tensor:
    length = v.to(exact_dtype(v)).norm(dim=-1)
    length = length if layout == "bhnd" else length.transpose(1, 2)
    return length.repeat_interleave(heads // length.shape[1], 1)


def _pick(length: Tensor, keys: Tensor) -> Tensor:
    return length[:, :, None].expand(*keys.shape[:3], length.shape[-1]).gather(-1, keys.clamp(min=0))
