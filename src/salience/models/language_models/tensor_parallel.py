"""Split a TransNormer over processes by heads and by columns, and put it together again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from salience.core.errors import ConfigError
from salience.models.language_models.transnormer import TransNormer, TransNormerConfig
from salience.nn.attention.linear.gated_linear_attention import GatedLinearAttention
from salience.nn.blocks.sglu import SGLU

# how each weight is cut: reshape axis 0 or 1 into these blocks, and cut every block; all others are whole everywhere
ROWS, COLUMNS = 0, 1
CUTS = {
    "token_mixer.qkvu_proj.weight": (ROWS, 4),  # queries, keys, values and gates lie one behind the other
    "token_mixer.out_proj.weight": (COLUMNS, 1),
    "token_mixer.lrpe.theta": (ROWS, 1),
    "channel_mixer.l1.weight": (ROWS, 1),
    "channel_mixer.l2.weight": (ROWS, 1),
    "channel_mixer.l3.weight": (COLUMNS, 1),
}


def split(tensors: Mapping[str, Tensor], config: TransNormerConfig, parts: int) -> list[dict[str, Tensor]]:
    """Return the weights of each part: whole heads, and equal shares of the channel mixer.

    Args:
        tensors: the state of a whole model.
        config: its settings.
        parts: number of parts; divides ``num_heads`` and ``glu_dim``.

    Embedding and head are whole in every part. Source: the layout of TransNormerLLM, section 3.3.

    Raises:
        ConfigError: ``parts`` does not divide heads or channels.
    """
    _check_parts(config, parts)
    shares: list[dict[str, Tensor]] = [{} for _ in range(parts)]
    for name, tensor in tensors.items():
        for share, piece in zip(shares, _pieces(name, tensor, parts), strict=True):
            share[name] = piece
    return shares


def merge(shares: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the weights of the whole model from those of its parts, in the order of the parts."""
    return {name: _joined(name, [share[name] for share in shares]) for name in shares[0]}


def local_part(model: TransNormer, rank: int, parts: int, group: Any = None) -> TransNormer:
    """Return this process's part of a model; its forward and backward equal those of the whole model.

    Each layer needs one sum over the processes for each mixer, forward and backward, and one of a number a token
    for the norm inside the token mixer, which is over all heads. A norm of each part alone would be another model.

    Args:
        model: the whole model.
        rank: which part, from 0.
        parts: number of parts.
        group: the process group; the default one if not given.

    Raises:
        ConfigError: ``parts`` does not divide heads or channels.
    """
    config = model.config
    share = split(model.state_dict(), config, parts)[rank]
    with torch.device("meta"):
        local = TransNormer(config)
        for whole, layer in zip(model.layers, local.layers, strict=True):
            layer.token_mixer = _mixer_part(config, whole.token_mixer, rank, parts, group)
            layer.channel_mixer = SGLU(config.dim, config.glu_dim // parts, config.glu_activation)
            for mixer in (layer.token_mixer, layer.channel_mixer):
                _join(mixer, group)
    local.load_state_dict(share, assign=True)
    if config.tie_embedding:
        local.lm_head.weight = local.embed_tokens.weight
    return local.requires_grad_().train(model.training)


class SharedRMSNorm(nn.Module):
    """Normalise by the root mean square over the features of all processes.

    Args:
        width: features of all processes together.
        group: the process group.
        eps: added to the mean square.
    """

    def __init__(self, width: int, group: Any = None, eps: float = 1e-6) -> None:
        super().__init__()
        self.width, self.group, self.eps = width, group, eps

    def forward(self, x: Float[Tensor, "*batch part"]) -> Float[Tensor, "*batch part"]:
        """Return this process's features, normalised."""
        exact = x.to(torch.promote_types(x.dtype, torch.float32))
        total = _Sum.apply(exact.square().sum(dim=-1, keepdim=True), self.group, True, True)
        return (exact * torch.rsqrt(total / self.width + self.eps)).to(x.dtype)


class _Sum(torch.autograd.Function):
    """Sum over the processes in the forward pass, in the backward pass, or in both."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any, ahead: bool, back: bool) -> Tensor:
        ctx.group, ctx.back = group, back
        return _summed(x, group) if ahead else x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return _summed(gradient, ctx.group) if ctx.back else gradient, None, None, None


def _summed(x: Tensor, group: Any) -> Tensor:
    x = x.contiguous().clone()
    torch.distributed.all_reduce(x, group=group)
    return x


def _join(mixer: nn.Module, group: Any) -> None:
    """Make a part of a mixer give the sum over all parts, and its input the sum of their gradients.

    Hooks, not a wrapper, so that the weights keep their names.
    """

    def before(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return _Sum.apply(inputs[0], group, False, True), *inputs[1:]

    def after(_: nn.Module, inputs: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return _Sum.apply(output[0], group, True, False), *output[1:]
        return _Sum.apply(output, group, True, False)

    mixer.register_forward_pre_hook(before)
    mixer.register_forward_hook(after)


def _mixer_part(
    config: TransNormerConfig, whole: GatedLinearAttention, rank: int, parts: int, group: Any
) -> GatedLinearAttention:
    heads = config.num_heads // parts
    part = GatedLinearAttention(
        config.dim,
        heads,
        whole.slopes[rank * heads : (rank + 1) * heads],
        hidden_dim=config.mixer_dim // parts,
        lrpe=whole.lrpe is not None,
        mask_mode=config.mask_mode,
        mode=config.mode,
    )
    part.norm = SharedRMSNorm(config.mixer_dim, group)
    return part


def _check_parts(config: TransNormerConfig, parts: int) -> None:
    if parts < 1 or config.num_heads % parts or config.glu_dim % parts:
        raise ConfigError(
            "The model cannot be cut into equal parts",
            f"parts={parts}, num_heads={config.num_heads}, glu_dim={config.glu_dim}.",
            "Choose a number of parts that divides both.",
            code="SAL-C005",
        )


def _cut(name: str) -> tuple[int, int] | None:
    return next((cut for suffix, cut in CUTS.items() if name.endswith(suffix)), None)


def _pieces(name: str, tensor: Tensor, parts: int) -> list[Tensor]:
    cut = _cut(name)
    if cut is None:
        return [tensor] * parts
    axis, blocks = cut
    whole = tensor.unflatten(axis, (blocks, -1))
    return [piece.flatten(axis, axis + 1).contiguous() for piece in whole.chunk(parts, dim=axis + 1)]


def _joined(name: str, pieces: list[Tensor]) -> Tensor:
    cut = _cut(name)
    if cut is None:
        return pieces[0]
    axis, blocks = cut
    return torch.cat([piece.unflatten(axis, (blocks, -1)) for piece in pieces], dim=axis + 1).flatten(
        axis, axis + 1
    )
