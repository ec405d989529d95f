"""How many directions the outputs of attention layers span, measured by their singular values."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from salience.models.image_encoder import ImageEncoder
from salience.models.ravlt import RAVLT
from salience.nn.attention.self_attention.disa import evaluating

MEASURES = ("rank", "rank_1pct", "effective", "stable")
CAUTION = (
    "Weighting keys does not move the algebraic bound: the buffer Σ α_j K_j v_jᵀ has rank at most min(head_dim, tokens)"
    " with or without α. What changes is the spectrum that training finds. Only the gate can raise the bound of the"
    " output (rank(A ⊙ Y) ≤ rank(A) · rank(Y))."
)


def spectrum(matrix: Float[Tensor, "*batch row column"], *, centred: bool) -> dict[str, Tensor]:
    """Return measures of rank, each divided by the highest value that the shape allows.

    ``rank``: singular values above σ₁ · max(rows, columns) · ε of the matrix's type. ``rank_1pct``: above 1 % of σ₁.
    ``effective``: exp of the entropy of σ/Σσ (Roy, Vetterli, 2007). ``stable``: ‖·‖²/σ₁². All are zero for a zero
    matrix.

    Args:
        matrix: one or more matrices; computed in float64.
        centred: subtract the mean row; the highest rank is then at most rows − 1.
    """
    rows, columns = matrix.shape[-2:]
    epsilon = torch.finfo(matrix.dtype).eps
    matrix = matrix.double()
    size = matrix.norm(dim=(-2, -1))  # before centring: equal rows leave rounding errors, not a spectrum
    if centred:
        matrix = matrix - matrix.mean(-2, keepdim=True)
    attainable = max(1, min(rows - centred, columns))
    sigma = torch.linalg.svdvals(matrix)
    top = sigma[..., :1]
    noise = max(rows, columns) * epsilon * torch.maximum(top, size[..., None] if centred else top)
    share = sigma / sigma.sum(-1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    alive = (top > noise)[..., 0]
    measures = {
        "rank": (sigma > noise).sum(-1).double(),
        "rank_1pct": (sigma > 0.01 * top).sum(-1).double(),
        "effective": torch.special.entr(share).sum(-1).exp(),
        "stable": sigma.square().sum(-1) / top[..., 0].square().clamp(min=torch.finfo(torch.float64).tiny),
    }
    return {name: torch.where(alive, value, 0.0) / attainable for name, value in measures.items()}


@torch.no_grad()
def rank_rows(
    network: RAVLT, images: Float[Tensor, "batch channel height width"]
) -> Iterator[dict[str, Any]]:
    """Measure every attention layer on some images: one record a layer, matrix, and way of centring.

    The network runs in float64 and evaluation mode, as a copy. Heads are averaged for each image; a record has mean and
    standard deviation over images, as shares of the attainable maximum, which it also names.

    Args:
        network: untrained or trained.
        images: standardised, more than one.
    """
    exact = copy.deepcopy(network).double().eval()
    with exact.watched() as seen:
        exact.features(images.double())
    for name, layer in exact.attention_layers().items():
        stage, block, _ = name.split("_", 2)
        place = {"stage": int(stage[5:]), "block": int(block[5:])}
        for what, matrix in layer.matrices(*seen[name][:2]).items():
            for centred in (False, True):
                form = {"matrix": what, "shape": "×".join(map(str, matrix.shape[-2:])), "centred": centred}
                yield {**place, **form, **_over_images(spectrum(matrix, centred=centred))}


def image_ranks(encoder: ImageEncoder, frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the records of :func:`rank_rows` for an encoder of `RAVLT` and rows of a table, not shifted or mirrored."""
    with evaluating(encoder):
        tokens = encoder.embed(encoder.collate(encoder.prepare(frame)))
    return list(rank_rows(encoder.network, encoder.image(tokens)))


def _over_images(measures: dict[str, Float[Tensor, "image head"]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, values in measures.items():
        each = values.mean(1)
        found |= {name: float(each.mean()), f"{name}_sd": float(each.std())}
    return found


def stage_means(rows: list[dict[str, Any]], by: tuple[str, ...]) -> list[dict[str, Any]]:
    """Average the records of a stage's blocks.

    Args:
        rows: records of :func:`rank_rows`, perhaps with more columns.
        by: columns besides stage, matrix and centring that tell records apart.
    """
    keys = (*by, "stage", "matrix", "centred")
    groups: dict[tuple, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return [
        dict(zip(keys, key, strict=True)) | {m: sum(r[m] for r in found) / len(found) for m in MEASURES}
        for key, found in groups.items()
    ]


def changes(means: list[dict[str, Any]], by: tuple[str, ...]) -> list[dict[str, Any]]:
    """Put the stage means of two moments side by side: ``effective_before``, ``effective_after``, and so on.

    Args:
        means: records of :func:`stage_means` with ``moment``: ``"before"`` or ``"after"`` training.
        by: columns besides stage, matrix and centring that tell records apart.
    """
    keys = (*by, "stage", "matrix", "centred")
    rows: dict[tuple, dict[str, Any]] = {}
    for record in means:
        place = {key: record[key] for key in keys}
        row = rows.setdefault(tuple(place.values()), place)
        row |= {f"{measure}_{record['moment']}": record[measure] for measure in MEASURES}
    return list(rows.values())


def told(rows: list[dict[str, Any]]) -> str:
    """Say how the centred effective rank of each matrix changed, stage by stage: ``attention 0.28 → 0.18, …``."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row["centred"]:
            text = f"{row['effective_before']:.2f} → {row['effective_after']:.2f}"
            found.setdefault(row["matrix"], []).append(text)
    return "; ".join(f"{matrix} {', '.join(texts)}" for matrix, texts in found.items())
