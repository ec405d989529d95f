"""RAVLT: a vision transformer with rank-augmented linear attention, in the published sizes and small ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from salience.core.errors import ConfigError, IntegrityError, UnsupportedError, nearest
from salience.nn.attention.linear.rank_augmented import (
    FeatureMapAttention,
    RankAugmentedAttention,
    SoftmaxAttention,
)
from salience.nn.embeddings.rope2d import RotaryEmbedding2D

Mask = Bool[Tensor, "batch height width"] | None
Map = Float[Tensor, "batch channel height width"]
ATTENTIONS = ("l", "v")
STRIDES = {1: (1, 1, 1, 1), 2: (2, 1, 1, 1), 4: (2, 1, 1, 2)}
NORMS = ("batch", "group")


@dataclass(frozen=True)
class RAVLTConfig:
    """Say how a network is built. Sequences have one entry a stage.

    Attributes:
        dims: channels.
        depths: blocks.
        heads: attention heads.
        attn_per_stage: ``"l"`` for rank-augmented linear attention, ``"v"`` for softmax. The published networks are
            hybrids, ``l, l, v, v``, although every name and shape of their weights also fits ``l, l, l, l``: a
            checkpoint says nothing about it.
        layer_scale: first value of the scales of both branches of a block.
        drop_path: rate at which whole branches are dropped in training; rises from 0 at the first block to this.
        classes: outputs of the head; 0 for a network without one.
        projection: channels before the head.
        channels: channels of the image.
        ffn_ratio: hidden channels of the feed-forward part, in multiples of ``dims``.
        stem_stride: pixels a cell of the first stage, 1, 2 or 4 (published); each later stage doubles it.
        norm: ``"batch"`` (published), or ``"group"``, one group, for tiny batches and tables.
        alpha: weight the keys of linear attention by their likeness to the mean query.
        gate: multiply attention by a linear map of its input.
    """

    dims: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    attn_per_stage: tuple[str, ...]
    layer_scale: tuple[float, ...]
    drop_path: float = 0.0
    classes: int = 1000
    projection: int = 1024
    channels: int = 3
    ffn_ratio: float = 3.5
    stem_stride: int = 4
    norm: str = "batch"
    alpha: bool = True
    gate: bool = True

    def __post_init__(self) -> None:
        stages = (self.dims, self.depths, self.heads, self.attn_per_stage, self.layer_scale)
        if len({len(part) for part in stages}) != 1 or not self.dims or min(self.depths) < 1:
            raise ConfigError(
                "The stages of RAVLT do not agree",
                f"dims={self.dims}, depths={self.depths}, heads={self.heads}, attn_per_stage={self.attn_per_stage},"
                f" layer_scale={self.layer_scale}.",
                "Give one entry a stage in each, and at least one block a stage.",
            )
        allowed = {"attn_per_stage": ATTENTIONS, "norm": NORMS, "stem_stride": tuple(STRIDES)}
        for name, choices in allowed.items():
            value = getattr(self, name)
            if not set(value if isinstance(value, tuple) else (value,)) <= set(choices):
                raise ConfigError(f"RAVLT got an unknown {name}", f"{value!r}.", f"Use {choices}.")


PRESETS: dict[str, RAVLTConfig] = {
    "T": RAVLTConfig((64, 128, 256, 512), (2, 2, 6, 2), (1, 2, 4, 8), tuple("llvv"), (1.0,) * 4, 0.1),
    "S": RAVLTConfig((64, 128, 320, 512), (3, 5, 9, 3), (1, 2, 5, 8), tuple("llvv"), (1.0,) * 4, 0.15),
    "B": RAVLTConfig((96, 192, 384, 512), (4, 6, 12, 6), (1, 2, 6, 8), tuple("llvv"), (1.0, 1.0, 1e-6, 1e-6), 0.4),
    "L": RAVLTConfig((96, 192, 448, 640), (4, 7, 19, 8), (1, 2, 7, 10), tuple("llvv"), (1e-6,) * 4, 0.55),
    # for 8 to 16 pixels, and for 32 to 64 pixels; ours
    "mini": RAVLTConfig((16, 32), (1, 1), (1, 2), tuple("ll"), (1.0,) * 2, projection=64, stem_stride=1),
    "small": RAVLTConfig((32, 64, 128), (1, 2, 1), (1, 2, 4), tuple("lll"), (1.0,) * 3, projection=256, stem_stride=2),
}  # fmt: skip


def preset(name: str, **changes: Any) -> RAVLTConfig:
    """Return a preset's configuration with changes.

    Args:
        name: ``T``, ``S``, ``B``, ``L`` (published), ``small`` or ``mini``.
        changes: fields of `RAVLTConfig`; ``attn_per_stage`` may be a text such as ``"l,l,l,l"``.

    Raises:
        ConfigError: an unknown name, or an impossible value.
    """
    if name not in PRESETS:
        raise ConfigError(f"RAVLT has no preset {name!r}", "", nearest(name, PRESETS))
    wanted = changes.get("attn_per_stage")
    if isinstance(wanted, str):
        changes["attn_per_stage"] = [part.strip() for part in wanted.split(",")]
    unknown = sorted(set(changes) - {field.name for field in fields(RAVLTConfig)})
    if unknown:
        names = [field.name for field in fields(RAVLTConfig)]
        raise ConfigError(f"RAVLT has no option {unknown[0]!r}", "", nearest(unknown[0], names))
    lists = {key: tuple(value) if isinstance(value, list) else value for key, value in changes.items()}
    return replace(PRESETS[name], **lists)


def norm2d(norm: str, channels: int) -> nn.Module:
    """Return batch normalisation, or group normalisation with one group."""
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.GroupNorm(1, channels)


def blank_map(x: Map, mask: Mask) -> Map:
    """Return the map with zeros where there is no image, as at the border of a smaller one."""
    return x if mask is None else x.masked_fill(~mask[:, None], 0.0)


class Stem(nn.Module):
    """Turn pixels into the cells of the first stage by four 3×3 convolutions."""

    def __init__(self, config: RAVLTConfig) -> None:
        super().__init__()
        half, dim = config.dims[0] // 2, config.dims[0]
        widths = (config.channels, half, half, half, dim)
        layers: list[nn.Module] = []
        for number, stride in enumerate(STRIDES[config.stem_stride]):
            layers += [nn.Conv2d(widths[number], widths[number + 1], 3, stride, 1)]
            layers += [norm2d(config.norm, widths[number + 1]), nn.GELU()]
        self.proj = nn.Sequential(*layers[:-1])  # no activation at the end

    def forward(self, x: Map, mask: Mask) -> tuple[Map, Mask]:
        """Return the first feature map and its mask."""
        for layer in self.proj:
            if isinstance(layer, nn.Conv2d):
                x, mask = layer(blank_map(x, mask)), strided(mask, layer.stride[0])
            else:
                x = layer(x)
        return x, mask


def strided(mask: Mask, stride: int) -> Mask:
    """Return the mask after a 3×3 convolution: a cell is real if its centre is."""
    return mask if mask is None else mask[:, ::stride, ::stride]


class ChannelNorm(nn.Module):
    """Normalise the channels of each cell."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, x: Map) -> Map:
        """Return the normalised map."""
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class DropPath(nn.Module):
    """Drop a branch for whole rows of a batch in training, and scale the kept ones up.

    Args:
        rate: share of rows that lose the branch, in [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Map) -> Map:
        """Return the branch, zero for the dropped rows."""
        if not self.training or not self.rate:
            return x
        keep = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.rate
        return x * keep.to(x.dtype) / (1 - self.rate)


class FeedForward(nn.Module):
    """Apply two 1×1 convolutions with GELU and a 3×3 depthwise convolution, added to its input, between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden, 1)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, 1, 1, groups=hidden)
        self.fc2 = nn.Conv2d(hidden, dim, 1)

    def forward(self, x: Map, mask: Mask) -> Map:
        """Return the branch."""
        hidden = blank_map(nn.functional.gelu(self.fc1(x)), mask)
        return self.fc2(hidden + self.dwconv(hidden))


class Block(nn.Module):
    """Add position by a depthwise convolution, then attention, then the feed-forward part.

    Args:
        config: the network's configuration.
        stage: number of the stage, from 0.
        drop_path: rate at which a branch is dropped in training.
    """

    def __init__(self, config: RAVLTConfig, stage: int, drop_path: float) -> None:
        super().__init__()
        dim, heads = config.dims[stage], config.heads[stage]
        scale = torch.full((1, dim, 1, 1), config.layer_scale[stage])
        self.pos = nn.Conv2d(dim, dim, 3, 1, 1, groups=dim)
        self.norm1, self.norm2 = ChannelNorm(dim), ChannelNorm(dim)
        self.attn: FeatureMapAttention
        if config.attn_per_stage[stage] == "l":
            self.attn = RankAugmentedAttention(dim, heads, alpha=config.alpha, gate=config.gate)
        else:
            self.attn = SoftmaxAttention(dim, heads, gate=config.gate)
        self.ffn = FeedForward(dim, int(config.ffn_ratio * dim))
        self.gamma_1, self.gamma_2 = nn.Parameter(scale.clone()), nn.Parameter(scale.clone())
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Map, rotation: tuple[Tensor, Tensor], mask: Mask) -> Map:
        """Return the map in context."""
        x = x + self.pos(blank_map(x, mask))
        x = x + self.drop_path(self.gamma_1 * self.attn(self.norm1(x), rotation, mask))
        return x + self.drop_path(self.gamma_2 * self.ffn(self.norm2(x), mask))


class Downsample(nn.Module):
    """Halve the map by a 3×3 convolution of stride 2."""

    def __init__(self, dim_in: int, dim: int, norm: str) -> None:
        super().__init__()
        self.reduction = nn.Conv2d(dim_in, dim, 3, 2, 1)
        self.norm = norm2d(norm, dim)

    def forward(self, x: Map, mask: Mask) -> tuple[Map, Mask]:
        """Return the smaller map and its mask."""
        return self.norm(self.reduction(blank_map(x, mask))), strided(mask, 2)


class Stage(nn.Module):
    """Run the blocks of one resolution, then halve it unless the stage is the last."""

    def __init__(self, config: RAVLTConfig, stage: int, rates: list[float]) -> None:
        super().__init__()
        self.RoPE = RotaryEmbedding2D(config.dims[stage] // config.heads[stage])
        self.blocks = nn.ModuleList([Block(config, stage, rate) for rate in rates])
        more = stage + 1 < len(config.dims)
        self.downsample = Downsample(*config.dims[stage : stage + 2], config.norm) if more else None

    def forward(self, x: Map, mask: Mask) -> tuple[Map, Mask]:
        """Return the map for the next stage and its mask."""
        rotation = self.RoPE(*x.shape[2:])
        for block in self.blocks:
            x = block(x, rotation, mask)
        return (x, mask) if self.downsample is None else self.downsample(x, mask)


class RAVLT(nn.Module):
    """Classify images by stages of attention blocks at falling resolution.

    Names and shapes of the state dict are those of the published checkpoints (with ``norm="batch"`` and the gate).

    Args:
        config: sizes and switches.

    Source: Fan, Huang, He: Breaking the Low-Rank Dilemma of Linear Attention (CVPR 2025, arXiv 2411.07635).
    """

    def __init__(self, config: RAVLTConfig) -> None:
        super().__init__()
        self.config = config
        rates = torch.linspace(0, config.drop_path, sum(config.depths), device="cpu").tolist()
        starts = [sum(config.depths[:stage]) for stage in range(len(config.depths))]
        self.patch_embed = Stem(config)
        self.layers = nn.ModuleList(
            Stage(config, stage, rates[start : start + config.depths[stage]])
            for stage, start in enumerate(starts)
        )
        self.proj = nn.Conv2d(config.dims[-1], config.projection, 1)
        self.norm = norm2d(config.norm, config.projection)
        self.head = nn.Conv2d(config.projection, config.classes, 1) if config.classes else None
        self.apply(_initialise)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> RAVLT:
        """Return an untrained network of a preset; arguments as in :func:`preset`."""
        return cls(preset(name, **changes))

    def features(self, image: Map, mask: Mask = None) -> tuple[Map, Mask]:
        """Return the last feature map, projected, with its mask.

        Args:
            image: standardised pixels; any size, the map is ``ceil(size / stride)`` cells wide.
            mask: True at pixels that belong to the image, a rectangle from the upper left corner; none for all. In
                evaluation mode a padded image then gives the numbers of the image alone.

        Raises:
            UnsupportedError: a mask with group normalisation.
        """
        if mask is not None and self.config.norm == "group":
            raise UnsupportedError(
                "Group normalisation counts padding as part of the image",
                "a mask with norm='group'.",
                "Use norm='batch', or images of one size.",
            )
        x, mask = self.patch_embed(image, mask)
        for stage in self.layers:
            x, mask = stage(x, mask)
        return nn.functional.silu(self.norm(self.proj(x))), mask

    def forward(self, image: Map, mask: Mask = None) -> Float[Tensor, "batch class"]:
        """Return logits, or the mean features of a network without classes. Arguments as in :meth:`features`."""
        x, mask = self.features(image, mask)
        count = x[0, 0].numel() if mask is None else mask.sum((1, 2))[:, None].clamp(min=1)
        pooled = blank_map(x, mask).sum((2, 3)) / count
        return pooled if self.head is None else self.head(pooled[..., None, None]).flatten(1)

    def attention_layers(self) -> dict[str, FeatureMapAttention]:
        """Return the attention layers by name, ``stage<i>_block<j>_<rank_augmented|softmax>``, counted from 1."""
        return {
            f"stage{i}_block{j}_{block.attn.title}": block.attn
            for i, stage in enumerate(self.layers, 1)
            for j, block in enumerate(stage.blocks, 1)
        }

    @contextmanager
    def watched(self) -> Iterator[dict[str, tuple[Any, ...]]]:
        """Collect, inside the block, the inputs that each attention layer gets, by name."""
        seen: dict[str, tuple[Any, ...]] = {}
        hooks = [
            layer.register_forward_pre_hook(lambda _, inputs, name=name: seen.__setitem__(name, inputs))
            for name, layer in self.attention_layers().items()
        ]
        try:
            yield seen
        finally:
            for hook in hooks:
                hook.remove()

    def attention(self, image: Map, mask: Mask = None) -> dict[str, Float[Tensor, "batch head query key"]]:
        """Return every layer's weights between cells, by the names of :meth:`attention_layers`.

        Those of rank-augmented layers are the exact effective weights: signed, and not summing to one.
        """
        with self.watched() as seen:
            self.features(image, mask)
        return {name: layer.attention(*seen[name]) for name, layer in self.attention_layers().items()}

    def load_checkpoint(self, path: Path | str) -> None:
        """Load published weights, or ones saved from this class; nothing is unpickled but tensors.

        Args:
            path: a safetensors file, or one of ``torch.save`` that holds a state dict, bare or under ``"model"``.

        Raises:
            IntegrityError: the file is unreadable, or its names or shapes are not those of this network.
        """
        try:
            self.load_state_dict(_read_state(Path(path)), strict=True)
        except IntegrityError:
            raise
        except Exception as error:
            raise IntegrityError(
                "The weights do not fit the network",
                f"{path}: {error}",
                "Use the preset that they were trained with; classes, gate and norm change names and shapes.",
            ) from None


def _read_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise IntegrityError("There is no file of weights", str(path), "Mend the path.")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    found = torch.load(path, map_location="cpu", weights_only=True)
    return found.get("model", found)


def _initialise(module: nn.Module) -> None:
    """Draw convolutions from a normal distribution of spread 0.02, cut at two spreads; biases start at zero."""
    if isinstance(module, nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


@torch.no_grad()
def flops(name: str | RAVLTConfig, size: int = 224) -> dict[str, float]:
    """Count the multiply-adds of one image, by running on tensors without memory.

    Args:
        name: a preset, or a configuration.
        size: height and width of the image, in pixels.

    Returns:
        ``parameters``; ``convolutions`` (what the published figures hold), ``attention`` (matrix products between
        tokens, which they leave out) and ``total``, in multiply-adds; ``attn_per_stage`` decides between linear and
        softmax. Norms and element-wise work are not counted.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        network = RAVLT(PRESETS[name] if isinstance(name, str) else name).eval()
    with FlopCounterMode(display=False) as counter:
        network(torch.empty(1, network.config.channels, size, size, device="meta"))
    counts = {str(op): count / 2 for op, count in counter.get_flop_counts()["Global"].items()}
    convolutions = sum(count for op, count in counts.items() if "convolution" in op)
    total = sum(counts.values())
    parameters = sum(p.numel() for p in network.parameters())
    return {
        "parameters": parameters,
        "convolutions": convolutions,
        "attention": total - convolutions,
        "total": total,
    }
