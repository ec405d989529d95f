"""TransNormerLLM: a language model with linear attention; a token costs the same at any position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Bool
from torch import Tensor

from salience.core.errors import ConfigError
from salience.models.language_models.base import LanguageModel, LanguageModelConfig
from salience.nn.attention.linear.gated_linear_attention import GatedLinearAttention
from salience.ops.linear.slopes import decay_slopes

CARD = {
    "key": "transnormer",
    "kind": "language_model",
    "title": "TransNormerLLM with Lightning Attention",
    "entry": "TransNormer",
    "summary": "Gated linear attention with fixed decay, simple gated linear units, normalisation without weights.",
    "paper": "Qin et al., TransNormerLLM (arXiv 2307.14995); Various Lengths, Constant Speed (ICML 2024)",
    "year": 2024,
    "url": "https://arxiv.org/abs/2307.14995",
    "source": "modeling_transnormer.py of the released checkpoints",
    "licence": "Apache-2.0 (facts read, own code)",
    "faithful": "Block, initialisation, slopes as trained, LRPE in the first layer, sizes, names of the weights.",
    "deviates": "Padding has no effect (mask_mode='tnl' gives the published handling); positions live in the cache; the paper's own slopes, which no released weights use, are slopes='paper'.",
    "cost": "O(tokens × dim × head_dim) a layer; a state of fixed size",
    "defaults": {},
    "tiny": {"vocab_size": 17, "dim": 16, "num_layers": 2, "num_heads": 2, "glu_dim": 24},
}


@dataclass(frozen=True)
class TransNormerConfig(LanguageModelConfig):
    """Say how large a TransNormer is, and which variant.

    Attributes:
        hidden_dim: width of the token mixer, all heads together; ``dim`` if None.
        slopes: ``"alibi"`` (as trained), ``"geometric"`` or ``"paper"``.
        lrpe_layers: layers whose queries and keys carry positions; the first, as published. nanoTransNormer has
            them in every layer but the first.
        mask_mode: ``"skip"``: padding has no effect; ``"tnl"``: as published, time goes on.
        mode: how the attention computes, see :func:`salience.ops.linear_attention`.
    """

    hidden_dim: int | None = None
    slopes: str = "alibi"
    lrpe_layers: tuple[int, ...] = (0,)
    mask_mode: str = "skip"
    mode: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = [i for i in self.lrpe_layers if not 0 <= i < self.num_layers]
        if unknown:
            raise ConfigError(
                "The model has no such layer",
                f"lrpe_layers={list(self.lrpe_layers)}, num_layers={self.num_layers}.",
                "Layers are counted from 0.",
                code="SAL-C005",
            )

    @property
    def mixer_dim(self) -> int:
        """Width of the token mixer."""
        return self.dim if self.hidden_dim is None else self.hidden_dim

    def num_parameters(self) -> int:
        """Return the number of weights: L (5 D² + 3 D G) + V D if tied, plus D for each layer with LRPE."""
        mixers = 5 * self.dim * self.mixer_dim + 3 * self.dim * self.glu_dim
        tables = self.vocab_size * self.dim * (1 if self.tie_embedding else 2)
        return self.num_layers * mixers + tables + len(set(self.lrpe_layers)) * self.mixer_dim


def _size(layers: int, dim: int, heads: int, glu: int, vocab: int) -> dict[str, int]:
    return {"num_layers": layers, "dim": dim, "num_heads": heads, "glu_dim": glu, "vocab_size": vocab}


# Layers, width and heads of the table in version 1 of the paper, whose parameter counts are with about 50,000 tokens;
# released checkpoints have 64,000. The inner width is 8/3 of the width, rounded up to a multiple of 256. That of 175B is
# not confirmed; that of TNL3-15B is what its 14.83 billion parameters leave, with its "about 100,000" tokens.
SIZES = {
    "tiny": _size(4, 128, 4, 384, 256),
    "small": _size(6, 384, 6, 1024, 256),
    "385M": _size(24, 1024, 8, 2816, 64000),
    "1B": _size(16, 2048, 16, 5632, 64000),
    "3B": _size(32, 2560, 20, 6912, 64000),
    "7B": _size(30, 4096, 32, 11008, 64000),
    "13B": _size(36, 5120, 40, 13824, 64000),
    "65B": _size(72, 8192, 64, 22016, 64000),
    "175B": _size(88, 12288, 96, 32768, 64000),
    "TNL3-15B": _size(42, 5120, 40, 13656, 100352),
}


class TransNormer(LanguageModel):
    """Predict the next token with gated linear attention.

    Args:
        config: settings; a small model if not given.

    The state of a sequence is H · d · e numbers a layer, whatever its length (twice that with LRPE). Module names
    are those of the released weights. Source: TransNormerLLM (arXiv 2307.14995), and its code where they disagree.
    """

    Config = TransNormerConfig
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = SIZES
    config: TransNormerConfig

    def token_mixer(self, layer: int) -> GatedLinearAttention:
        """Return the gated linear attention of a layer, with its slopes."""
        config = self.config
        slopes = decay_slopes(config.num_heads, layer, config.num_layers, config.slopes)
        return GatedLinearAttention(
            config.dim,
            config.num_heads,
            slopes.tolist(),
            hidden_dim=config.hidden_dim,
            lrpe=layer in config.lrpe_layers,
            mask_mode=config.mask_mode,
            mode=config.mode,
        )

    def counted(self, mask: Bool[Tensor, "batch token"] | None) -> Bool[Tensor, "batch token"] | None:
        """Return which tokens take a position: the real ones, or all with ``mask_mode="tnl"``."""
        return None if self.config.mask_mode == "tnl" else mask
