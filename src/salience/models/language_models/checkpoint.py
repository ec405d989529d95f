"""Read and write the layout of the released TransNormerLLM checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from salience.core.errors import ConfigError, IntegrityError, nearest
from salience.core.io import read_json, write_json
from salience.models.language_models.transnormer import TransNormer, TransNormerConfig

PREFIX = "model."
HEAD = "lm_head.weight"
EMBEDDING = "embed_tokens.weight"
FIXED = {"linear_act_fun": "silu", "norm_type": "simplermsnorm", "bias": False}  # what all releases have
NAMES = {
    "vocab_size": "vocab_size",
    "decoder_embed_dim": "dim",
    "decoder_layers": "num_layers",
    "decoder_attention_heads": "num_heads",
    "hidden_dim": "hidden_dim",
    "glu_dim": "glu_dim",
    "pad_token_id": "padding_id",
    "init_std": "init_std",
}


def load_published(folder: Path | str) -> TransNormer:
    """Return the model of a released checkpoint, in the types of its weights.

    Args:
        folder: holds ``config.json`` and the weights: ``*.safetensors``, or else ``*.bin``, in one file or several.

    A checkpoint without a head shares that of the embedding; so does one whose head equals it.

    Raises:
        IntegrityError: a file is absent or damaged, or weights are missing, unknown or of another shape.
        ConfigError: the configuration asks for what no released model has.
    """
    folder = Path(folder)
    config = published_config(read_json(folder / "config.json"))
    return from_published(_read_weights(folder), config)


def save_published(model: TransNormer, folder: Path | str) -> Path:
    """Write ``config.json`` and ``model.safetensors`` as the released checkpoints have them; return the folder.

    Raises:
        ConfigError: the model has settings that the published code does not have.
    """
    from safetensors.torch import save_file

    folder, settings = Path(folder), to_published_config(model.config)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / ".model.safetensors.tmp"
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in to_published(model).items()}
    save_file(tensors, temporary, metadata={"format": "pt"})
    temporary.replace(folder / "model.safetensors")
    write_json(folder / "config.json", settings)
    return folder


def published_config(values: Mapping[str, Any]) -> TransNormerConfig:
    """Return our settings from a released ``config.json``.

    Raises:
        ConfigError: a size is missing, or a variant that no released model has.
    """
    missing = [name for name in NAMES if name not in values and name not in ("pad_token_id", "init_std")]
    if missing:
        raise ConfigError(
            "The configuration is not of a released TransNormerLLM",
            f"Missing: {', '.join(missing)}.",
            "Give the config.json of the checkpoint.",
        )
    other = [f"{name}={values[name]!r}" for name, want in FIXED.items() if values.get(name, want) != want]
    if other:
        raise ConfigError("The checkpoint is of another variant", ", ".join(other), f"Supported: {FIXED}.")
    settings = {ours: values[theirs] for theirs, ours in NAMES.items() if theirs in values}
    if settings["glu_dim"] == -1:  # the published code's word for "as wide as the model"
        settings["glu_dim"] = settings["dim"]
    used = values.get("linear_use_lrpe_list") or []
    return TransNormerConfig(
        **settings,
        lrpe_layers=tuple(i for i, use in enumerate(used) if use),
        scale_embedding=not values.get("no_scale_embedding", False),
    )


def to_published_config(config: TransNormerConfig) -> dict[str, Any]:
    """Return a released ``config.json`` from our settings.

    Raises:
        ConfigError: settings that the published code does not have.
    """
    if config.slopes != "alibi" or config.glu_activation != "none":
        raise ConfigError(
            "The published layout cannot say these settings",
            f"slopes={config.slopes!r}, glu_activation={config.glu_activation!r}.",
            "Save the model in our own form.",
        )
    values = {theirs: getattr(config, ours) for theirs, ours in NAMES.items()}
    return (
        values
        | FIXED
        | {
            "model_type": "transnormer",
            "architectures": ["TransnormerForCausalLM"],
            "hidden_dim": config.mixer_dim,
            "linear_use_lrpe_list": [int(i in config.lrpe_layers) for i in range(config.num_layers)],
            "no_scale_embedding": not config.scale_embedding,
            "tie_word_embeddings": config.tie_embedding,
        }
    )


def from_published(tensors: Mapping[str, Tensor], config: TransNormerConfig) -> TransNormer:
    """Return a model with released weights; the tensors are used, not copied.

    Args:
        tensors: weights by their published names.
        config: sizes. Which layers have LRPE, and whether the head is tied, the weights decide.

    Raises:
        IntegrityError: weights are missing, unknown, or of another shape.
    """
    ours = {
        name.removeprefix(PREFIX): t for name, t in tensors.items() if not name.endswith("decoder.version")
    }
    thetas = [name for name in ours if name.endswith("lrpe.theta")]
    tied = HEAD not in ours or (EMBEDDING in ours and torch.equal(ours[HEAD], ours[EMBEDDING]))
    if tied and EMBEDDING in ours:
        ours[HEAD] = ours[EMBEDDING]
    layers = tuple(sorted(int(name.split(".")[1]) for name in thetas))
    with torch.device("meta"):
        model = TransNormer(replace(config, lrpe_layers=layers, tie_embedding=tied))
    _check_weights(ours, model.state_dict())
    model.load_state_dict(ours, assign=True)
    if tied:
        model.lm_head.weight = model.embed_tokens.weight
    return model


def to_published(model: TransNormer) -> dict[str, Tensor]:
    """Return the weights by their published names; a tied head is left out."""
    tied = model.config.tie_embedding
    return {
        name if name == HEAD else f"{PREFIX}{name}": tensor
        for name, tensor in model.state_dict().items()
        if not (tied and name == HEAD)
    }


def _check_weights(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    problems = [f"{name} is missing" for name in _few(wanted.keys() - found.keys())]
    problems += [f"{name} is unknown. {nearest(name, wanted)}" for name in _few(found.keys() - wanted.keys())]
    shapes = {
        name: (tuple(found[name].shape), tuple(wanted[name].shape)) for name in wanted.keys() & found.keys()
    }
    wrong = {name: pair for name, pair in shapes.items() if pair[0] != pair[1]}
    problems += [f"{name} has shape {wrong[name][0]}, want {wrong[name][1]}" for name in _few(wrong)]
    if problems:
        raise IntegrityError(
            "The weights do not fit the configuration",
            "; ".join(problems) + ".",
            "Give the config.json that belongs to them.",
        )


def _few(names: Iterable[str]) -> list[str]:
    return sorted(names)[:3]


def _read_weights(folder: Path) -> dict[str, Tensor]:
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    if not files:
        raise IntegrityError(
            "The checkpoint has no weights", str(folder), "Put its *.safetensors or *.bin files there."
        )
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors |= _read_file(file)
    return tensors


def _read_file(file: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        return dict(torch.load(file, map_location="cpu", weights_only=True, mmap=True))
    except Exception as error:  # a damaged file, or one with code in it, makes torch raise many classes
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise IntegrityError(
            f"{file.name} cannot be read", f"{file}: {reason}", "Copy or download it again."
        ) from None
