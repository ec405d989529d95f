"""What every language model shares: embedding, pre-norm layers, head, cache, masks, loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from salience.core.config import build
from salience.core.errors import ConfigError, UnsupportedError, nearest
from salience.nn.blocks.sglu import SGLU
from salience.nn.embeddings.positions import token_positions
from salience.nn.norms.simple_rms_norm import SimpleRMSNorm
from salience.nn.watch import show


@dataclass(frozen=True)
class LanguageModelConfig:
    """Say how large a language model is.

    Attributes:
        vocab_size: number of different tokens.
        dim: features of a token.
        num_layers: layers, each a token mixer and a channel mixer.
        num_heads: heads of the token mixer.
        glu_dim: features inside the channel mixer.
        glu_activation: ``"none"`` (SGLU) or ``"silu"`` (SwiGLU).
        scale_embedding: whether embeddings are multiplied by sqrt(dim).
        tie_embedding: whether embedding and head share their weights.
        padding_id: token whose embedding starts at zero and gets no gradient from the input side; None for none.
        init_std: spread of the initial weights.
    """

    vocab_size: int = 256
    dim: int = 128
    num_layers: int = 4
    num_heads: int = 4
    glu_dim: int = 384
    glu_activation: str = "none"
    scale_embedding: bool = True
    tie_embedding: bool = True
    padding_id: int | None = None
    init_std: float = 0.02

    def __post_init__(self) -> None:
        sizes = {name: getattr(self, name) for name in SIZES}
        low = [f"{name}={value}" for name, value in sizes.items() if value < 1]
        if low:
            raise ConfigError(
                "A language model is too small", ", ".join(low), "Use 1 or more.", code="SAL-C005"
            )
        if self.padding_id is not None and not 0 <= self.padding_id < self.vocab_size:
            raise ConfigError(
                "The padding token is not in the vocabulary",
                f"padding_id={self.padding_id}, vocab_size={self.vocab_size}.",
                "Give a token below vocab_size, or None.",
                code="SAL-C005",
            )

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain data."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> LanguageModelConfig:
        """Rebuild from :meth:`to_json`.

        Raises:
            ConfigError: an unknown name or a value of the wrong type.
        """
        return build(cls, values)


SIZES = ("vocab_size", "dim", "num_layers", "num_heads", "glu_dim")


@dataclass
class Cache:
    """Hold what a batch of sequences has left behind; :meth:`LanguageModel.forward` reads and updates it.

    Attributes:
        states: state of each layer's token mixer, None before the first token.
        position: real tokens read, one number a sequence.
    """

    states: list[Any]
    position: Int[Tensor, " batch"]

    def nbytes(self) -> int:
        """Return the memory of the states in bytes."""
        tensors = (t for state in self.states if state is not None for t in vars(state).values())
        return sum(t.nbytes for t in tensors if isinstance(t, Tensor))


class Layer(nn.Module):
    """Add the token mixer and then the channel mixer to the stream, each behind a normalisation.

    Args:
        token_mixer: mixes tokens; called as :class:`salience.nn.attention.linear.gated_linear_attention.GatedLinearAttention` is.
        channel_mixer: maps each token.
    """

    def __init__(self, token_mixer: nn.Module, channel_mixer: nn.Module) -> None:
        super().__init__()
        self.token_norm, self.token_mixer = SimpleRMSNorm(), token_mixer
        self.channel_norm, self.channel_mixer = SimpleRMSNorm(), channel_mixer

    def forward(self, x: Tensor, **context: Any) -> tuple[Tensor, Any, Tensor | None]:
        """Return the stream, the mixer's state and its weights."""
        mixed, state, weights = self.token_mixer(self.token_norm(x), **context)
        x = x + mixed
        return x + self.channel_mixer(self.channel_norm(x)), state, weights


class LanguageModel(nn.Module, ABC):
    """Predict the next token from the tokens before.

    A subclass names its settings and sizes, and makes the token mixer of a layer.

    Args:
        config: settings; the defaults of the subclass if not given.
    """

    Config: ClassVar[type[LanguageModelConfig]] = LanguageModelConfig
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {}
    constant_state: ClassVar[bool] = (
        True  # whether the cache stays the same size, so that any text can be streamed
    )

    def __init__(self, config: LanguageModelConfig | None = None) -> None:
        super().__init__()
        self.config = config = self.Config() if config is None else config
        self.vocab_size, self.dim = config.vocab_size, config.dim
        self.embed_tokens = nn.Embedding(config.vocab_size, config.dim, padding_idx=config.padding_id)
        self.layers = nn.ModuleList(
            Layer(self.token_mixer(i), SGLU(config.dim, config.glu_dim, config.glu_activation))
            for i in range(config.num_layers)
        )
        self.final_norm = SimpleRMSNorm()
        self.lm_head = nn.Linear(config.dim, config.vocab_size, bias=False)
        if config.tie_embedding:
            self.lm_head.weight = self.embed_tokens.weight
        self.reset_parameters()

    @classmethod
    def preset(cls, name: str, **changes: Any) -> LanguageModel:
        """Return a model of a named size.

        Args:
            name: a key of ``PRESETS``.
            changes: settings that differ from the preset, such as ``vocab_size``.

        Raises:
            ConfigError: an unknown name or setting.
        """
        return cls(cls.preset_config(name, **changes))

    @classmethod
    def preset_config(cls, name: str, **changes: Any) -> LanguageModelConfig:
        """Return the settings of a named size."""
        if name not in cls.PRESETS:
            raise ConfigError(f"Unknown preset {name!r}", "", nearest(name, cls.PRESETS), code="SAL-C002")
        return build(cls.Config, {**cls.PRESETS[name], **changes})

    @abstractmethod
    def token_mixer(self, layer: int) -> nn.Module:
        """Return the token mixer of a layer."""

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw all matrices from N(0, init_std²), as published; the padding row is zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                module.weight.normal_(0, self.config.init_std)
        if self.config.padding_id is not None:
            self.embed_tokens.weight[self.config.padding_id].zero_()

    def new_cache(self, batch: int) -> Cache:
        """Return the cache of ``batch`` sequences that have no tokens yet."""
        position = torch.zeros(batch, dtype=torch.long, device=self.embed_tokens.weight.device)
        return Cache([None] * self.config.num_layers, position)

    def embed(self, ids: Int[Tensor, "batch token"]) -> Float[Tensor, "batch token dim"]:
        """Return the vectors of tokens. Gradient methods start here."""
        scale = self.dim**0.5 if self.config.scale_embedding else 1.0
        return self.embed_tokens(ids) * scale

    def forward(
        self,
        ids: Int[Tensor, "batch token"],
        *,
        attention_mask: Tensor | None = None,
        cu_seqlens: Int[Tensor, " boundary"] | None = None,
        cache: Cache | None = None,
    ) -> Float[Tensor, "batch token vocab"]:
        """Return the logits of the token after each token.

        Args:
            ids: tokens.
            attention_mask: true or 1 where a token is real; padding may stand anywhere, and changes nothing.
            cu_seqlens: boundaries of sequences that are packed in one row.
            cache: what earlier tokens left; the call goes on from it and updates it.

        Raises:
            ConfigError: the mask has another shape than the tokens, or the cache another batch.
        """
        return self.forward_embedded(
            self.embed(ids), attention_mask=attention_mask, cu_seqlens=cu_seqlens, cache=cache
        )

    def forward_embedded(
        self,
        x: Float[Tensor, "batch token dim"],
        *,
        attention_mask: Tensor | None = None,
        cu_seqlens: Int[Tensor, " boundary"] | None = None,
        cache: Cache | None = None,
        need_weights: bool | Literal["last"] = False,
    ) -> Any:
        """Return the logits, from embedded tokens.

        Args:
            x: embedded tokens, from :meth:`embed`.
            attention_mask: as in :meth:`forward`.
            cu_seqlens: as in :meth:`forward`.
            cache: as in :meth:`forward`.
            need_weights: whether to return also the effective weights of each layer, a list of
                ``[batch head query key]``; token² memory, and only for whole sequences, without a cache. ``"last"``:
                those of the last query alone, ``[batch head 1 key]``.
        """
        features, weights = self.features(
            x, attention_mask=attention_mask, cu_seqlens=cu_seqlens, cache=cache, need_weights=need_weights
        )
        logits = self.lm_head(features)
        return (logits, weights) if need_weights else logits

    def features(
        self,
        x: Float[Tensor, "batch token dim"],
        *,
        attention_mask: Tensor | None = None,
        cu_seqlens: Int[Tensor, " boundary"] | None = None,
        cache: Cache | None = None,
        need_weights: bool | Literal["last"] = False,
    ) -> tuple[Float[Tensor, "batch token dim"], list[Tensor]]:
        """Return what the head reads (``lm_head`` makes it logits), and the weights of each layer if wanted."""
        mask = _checked_mask(attention_mask, x, cu_seqlens)
        _check_cache(cache, x, cu_seqlens, need_weights)
        counted = self.counted(mask)
        start = None if cache is None else cache.position
        context = {
            "mask": mask,
            "cu_seqlens": cu_seqlens,
            "position": token_positions(
                x.shape[1], mask=counted, cu_seqlens=cu_seqlens, start=start, device=x.device
            ),
            "keep_state": cache is not None,
            "need_weights": need_weights,
        }
        weights: list[Tensor] = []
        states = [None] * len(self.layers) if cache is None else cache.states
        for i, layer in enumerate(self.layers):
            x = show("context", x) if i == len(self.layers) - 1 else x
            x, states[i], found = layer(x, state=states[i], **context)
            weights += [] if found is None else [found]
        if cache is not None:
            cache.position = _advanced(cache.position, x.shape[1], counted, cu_seqlens)
        return self.final_norm(x), weights

    def counted(self, mask: Bool[Tensor, "batch token"] | None) -> Bool[Tensor, "batch token"] | None:
        """Return which tokens take a position: the real ones."""
        return mask

    def loss(
        self,
        logits: Float[Tensor, "batch token vocab"],
        target: Int[Tensor, "batch token"],
        ignore_index: int = -100,
    ) -> Float[Tensor, ""]:
        """Return the mean cross-entropy in nats a token; 0 if all targets are ignored.

        Args:
            logits: predictions, one for each token.
            target: the token that follows each token.
            ignore_index: target that does not count.
        """
        flat = logits.flatten(0, -2)
        exact = flat.to(torch.promote_types(flat.dtype, torch.float32))
        total = cross_entropy(exact, target.flatten(), ignore_index=ignore_index, reduction="sum")
        return total / (target != ignore_index).sum().clamp(min=1)


def _checked_mask(
    mask: Tensor | None, x: Tensor, cu_seqlens: Tensor | None
) -> Bool[Tensor, "batch token"] | None:
    if mask is None:
        return None
    if cu_seqlens is not None or mask.shape != x.shape[:2]:
        packed = "" if cu_seqlens is None else ", and cu_seqlens"
        raise ConfigError(
            "The attention mask does not fit the tokens",
            f"Mask {tuple(mask.shape)}, tokens {tuple(x.shape[:2])}{packed}.",
            "Give one value a token: true where it is real. Packed tokens are all real and have no mask.",
            code="SAL-C005",
        )
    return mask.bool()


def _check_cache(cache: Cache | None, x: Tensor, cu_seqlens: Tensor | None, need_weights: bool) -> None:
    if cache is None:
        return
    if need_weights:
        raise UnsupportedError(
            "Weights are of whole sequences",
            "Got need_weights and a cache.",
            "Pass all tokens at once, without a cache.",
        )
    sequences = len(x) if cu_seqlens is None else len(cu_seqlens) - 1
    if len(cache.position) != sequences:
        raise ConfigError(
            "The cache is of another batch",
            f"It holds {len(cache.position)} sequences; got {sequences}.",
            "Make it with new_cache(batch).",
            code="SAL-C005",
        )


def _advanced(
    position: Tensor, tokens: int, mask: Tensor | None, cu_seqlens: Tensor | None
) -> Int[Tensor, " batch"]:
    if cu_seqlens is not None:
        return position + cu_seqlens.diff().to(position.device)
    return position + (tokens if mask is None else mask.sum(dim=1))
