"""The softmax twin of TransNormer: the same model with softmax attention, as a control."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from salience.models.language_models.base import LanguageModel, LanguageModelConfig
from salience.models.language_models.transnormer import SIZES
from salience.nn.attention.self_attention.causal_softmax import CausalSoftmaxAttention

CARD = {
    "key": "transformer",
    "kind": "language_model",
    "title": "Transformer decoder with rotary positions and SwiGLU",
    "entry": "Transformer",
    "summary": "Pre-norm softmax attention of the same size, embedding, norm and head as TransNormer.",
    "paper": "Vaswani et al., Attention Is All You Need (2017); Touvron et al., LLaMA (2023)",
    "year": 2023,
    "url": "https://arxiv.org/abs/2302.13971",
    "faithful": "Rotary positions, SwiGLU, pre-norm, no bias.",
    "deviates": "The norm has no weights, and embedding scale, tying and initialisation are TransNormer's, so that only the token mixer differs.",
    "cost": "O(tokens² × dim) a layer; a state that grows with the tokens",
    "defaults": {},
    "tiny": {"vocab_size": 17, "dim": 16, "num_layers": 2, "num_heads": 2, "glu_dim": 24},
}


@dataclass(frozen=True)
class TransformerConfig(LanguageModelConfig):
    """Say how large a transformer is.

    Attributes:
        rope_base: base of the rotary frequencies.
    """

    glu_activation: str = "silu"
    rope_base: float = 10000.0

    def num_parameters(self) -> int:
        """Return the number of weights: L (4 D² + 3 D G) + V D if tied."""
        tables = self.vocab_size * self.dim * (1 if self.tie_embedding else 2)
        return self.num_layers * self.dim * (4 * self.dim + 3 * self.glu_dim) + tables


def _twin(size: dict[str, int]) -> dict[str, int]:
    """Return a size with as many parameters: what the mixer lacks (its gate, dim²) goes to the channel mixer."""
    return {**size, "glu_dim": size["glu_dim"] + 8 * round(size["dim"] / 24)}


class Transformer(LanguageModel):
    """Predict the next token with softmax attention.

    Args:
        config: settings; a small model if not given.

    A preset has within 1 % as many parameters as that of TransNormer. Cost and memory of a token grow with its
    position.
    """

    Config = TransformerConfig
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {name: _twin(size) for name, size in SIZES.items()}
    constant_state: ClassVar[bool] = False
    config: TransformerConfig

    def token_mixer(self, layer: int) -> CausalSoftmaxAttention:
        """Return the softmax attention of a layer."""
        return CausalSoftmaxAttention(self.config.dim, self.config.num_heads, self.config.rope_base)
