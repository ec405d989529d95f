"""Soft perturbation: keep each number of the embedded input with a probability that follows the explanation.

The formulas are those of the paper (Zhao, Aletras, ACL 2023). The authors' main program keeps the unimportant part for
sufficiency and the important part for comprehensiveness; the paper, and an older class of the same program, do the
opposite, and are followed here.
"""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from salience.core.stats import generator
from salience.explain.answers import answers, scale_words, target_of
from salience.explain.explanation import Explanation
from salience.explain.gradients import Path, make_path, take
from salience.explain.model import WhiteBox
from salience.explain.orders import values_of
from salience.explain.rows import to_frame
from salience.explain.scores import ANSWER, Scores
from salience.explain.state import frozen

SMALLEST = 1e-4  # change from the neutral input to the row below which nothing can be normalised


def importance(values: Float[np.ndarray, " unit"], share: float | None) -> Float[np.ndarray, " unit"] | None:
    """Return values as probabilities: the least is 0, the greatest 1; units without a value get 0.

    Args:
        values: values of an explanation.
        share: scale them, and cut at 1, so that this is their mean, the same for all methods; a constant map then has
            this everywhere. None leaves them, as in the paper, and a constant map has none (None is returned).
    """
    low, high = np.nanmin(values), np.nanmax(values)
    if high > low:
        part = np.nan_to_num((values - low) / (high - low))
        return part if share is None else _with_mean(part, share)
    return None if share is None else np.full(len(values), share)


def _with_mean(part: Float[np.ndarray, " unit"], mean: float) -> Float[np.ndarray, " unit"]:
    """Return ``min(1, c · part)`` with the ``c`` that gives this mean; spread over the zeros what is left."""
    wanted, units = mean * len(part), len(part)
    order = np.sort(part)[::-1]
    for full in range(units):  # so many are cut at 1
        rest = order[full:].sum()
        if rest <= 0:
            break
        factor = (wanted - full) / rest
        if factor * order[full] <= 1:
            return np.minimum(1.0, factor * part)
    positive = part > 0
    spare = (wanted - positive.sum()) / max(units - positive.sum(), 1)
    return np.where(positive, 1.0, spare)


def soft_scores(
    model: WhiteBox,
    explanations: Sequence[Explanation],
    kept: Callable[[np.ndarray], np.ndarray],
    normalised: Callable[[float, float, np.ndarray], np.ndarray],
    words: str,
    *,
    share: float | None,
    draws: int,
    seed: int,
    memory_mb: int | float,
) -> Scores:
    """Return the mean over draws of a normalised score of softly perturbed rows.

    Args:
        model: a model that shows its embedded input.
        explanations: what is judged.
        kept: from importance to the probability that a number of the unit is kept.
        normalised: from the answers to the row, to the neutral input and to each draw to the score of each draw.
        words: the definition, to which the details are added.
        share: see :func:`importance`.
        draws: number of random masks.
        seed: seed of the masks.
        memory_mb: memory for one pass of the model, in MiB.
    """
    begin, values, forwards = perf_counter(), np.full(len(explanations), np.nan), 0
    with frozen(model):
        for i, e in enumerate(explanations):
            known = values_of(e)
            part = importance(known, share) if np.isfinite(known).any() else None
            if part is None:
                continue
            rng = generator(seed, "soft", str(e.row))
            row, neutral, found = _answers(model, e, kept(part), draws, rng, memory_mb)
            forwards += draws + 2
            values[i] = normalised(row, neutral, found).mean() if row - neutral >= SMALLEST else np.nan
    rule = "values from 0 (least) to 1 (greatest)"
    rule += "" if share is None else f", scaled so that their mean is {share:g} (π-controlled)"
    convention = (
        f"{words}; a: {rule}; every number of the embedded input by itself, the neutral input's number in place of one "
        f"that is dropped; mean of {draws} draws; p is the {scale_words(model, explanations)}."
    )
    reason = "p(x) is not above p of the neutral input, or the values are all alike"
    return Scores(
        values,
        convention,
        forwards,
        perf_counter() - begin,
        reason if np.isnan(values).any() else "",
    )


def _answers(
    model: WhiteBox,
    explanation: Explanation,
    kept: Float[np.ndarray, " unit"],
    draws: int,
    rng: np.random.Generator,
    memory_mb: int | float,
) -> tuple[float, float, Float[np.ndarray, " draw"]]:
    """Return the answer to the row, to its neutral input, and to each draw."""
    path = make_path(model, to_frame(model, [explanation.inputs]), [target_of(explanation)], memory_mb)
    share = {
        n: torch.from_numpy(np.append(kept, 1.0))[unit[0]] for n, unit in path.unit.items()
    }  # −1: no unit
    lines = [{n: torch.full_like(s, end) for n, s in share.items()} for end in (1.0, 0.0)] + [share] * draws
    parts = []
    with torch.no_grad():
        for start in range(0, len(lines), path.capacity):
            points = _points(path, lines[start : start + path.capacity], rng)
            parts.append(model.finish(model.forward_tokens(points)).double().cpu().numpy())
    found = answers(model, explanation, np.concatenate(parts))[:, ANSWER]
    return float(found[0]), float(found[1]), found[2:]


def _points(path: Path, lines: list[dict[str, Any]], rng: np.random.Generator) -> dict[str, Any]:
    """Return one masked copy of the row a line; draws are taken line by line, so that memory does not change them."""
    masks = [
        {n: rng.random((int(path.tokens[n].mask[0].sum()), path.tokens[n].values.shape[2])) for n in line}
        for line in lines
    ]
    points = {}
    for name, tokens in path.tokens.items():
        kept = torch.ones(len(lines), *tokens.values.shape[1:], dtype=torch.bool)
        for i, line in enumerate(lines):
            real = tokens.mask[0].cpu()
            kept[i, real] = torch.from_numpy(masks[i][name]) < line[name][real].unsqueeze(-1)
        values = torch.where(kept.to(tokens.values.device), tokens.values, path.baseline[name].values)
        first = torch.zeros(len(lines), dtype=torch.int64)
        points[name] = take(tokens, first).with_values(values)
    return points
