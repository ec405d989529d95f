"""Where does the model err more than elsewhere?"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from salience.audit.context import AuditContext
from salience.audit.make import make_finding
from salience.audit.phrases import number, percent
from salience.core.errors import UnsupportedError
from salience.core.finding import Control, Finding
from salience.core.metrics import PROBABLE
from salience.core.stats import generator, holm

CARD = {
    "key": "slices",
    "kind": "check",
    "order": 50,
    "title": "Weak slices",
    "entry": "run",
    "summary": "Every value of a category, quarter of a number or of a text's length, and missing cells, compared with "
    "the other test rows; p-values adjusted by Holm, intervals widened for the number of slices, the largest gap after "
    "shuffling the errors as the control.",
    "question": "Is there a group of rows where the model errs more than elsewhere?",
    "tasks": ["classification", "regression", "multi-label", "multi-regression"],
    "pass": "no slice is worse, adjusted p ≥ 0.05",
    "warn": "at least one is",
    "fail": "the worst errs at least twice as much as the others, by 5 points (a quarter of the error) beyond noise",
}
MIN_ROWS = 30
MAX_VALUES = 30
FEW_VALUES = 6
SHOWN = 15
SHUFFLES = 200
UNITS = {  # unit of the difference, and what a slice shows
    "classification": ("error rate", "error rate"),
    "regression": ("absolute error, units of the target", "mean absolute error"),
    "multi-label": ("share of wrong labels", "share of wrong labels"),
    "multi-regression": ("absolute error, standard deviations", "mean absolute error in standard deviations"),
}


def run(context: AuditContext) -> list[Finding]:
    """Compare the error in every slice with the error in the other test rows.

    Raises:
        UnsupportedError: no slice with at least 30 rows inside and outside, or no error at all.
    """
    errors = row_errors(context)
    names, inside = _slices(context)
    if not names:
        raise UnsupportedError(
            "No slice is large enough",
            f"{len(errors)} test rows.",
            f"Give at least {2 * MIN_ROWS} test rows.",
        )
    if errors.std() == 0:
        raise UnsupportedError("Every test row has the same error", number(float(errors.mean())), "")
    table = compare(names, inside, errors, binary=context.task == "classification")
    order = np.argsort([-row["z"] for row in table], kind="stable")
    worst, chance = table[order[0]], _largest_by_chance(inside, errors, context)
    significant = [row for row in table if row["adjusted p"] < 0.05]
    verdict = _verdict(context, worst, significant, float(errors.mean()))
    return [
        make_finding(
            CARD,
            answer=_answer(context, worst, significant, len(names), chance),
            verdict=verdict,
            value=worst["difference"],
            unit=UNITS[context.task][0],
            interval=(worst["low"], worst["high"]),
            control=Control("worst slice after shuffling the errors", chance[0], chance[1]),
            rows=len(errors),
            advice=_advice(verdict, worst["slice"]),
            tables={"slices": [{k: v for k, v in table[i].items() if k != "z"} for i in order[:SHOWN]]},
        )
    ]


def row_errors(context: AuditContext) -> np.ndarray:
    """Return the error of each test row.

    It is 1 for a wrong class and 0 for the right one; the share of labels that are wrong; the absolute error; or its
    mean over targets, each in standard deviations of the truth.
    """
    truth, predicted = context.truth("test"), context.predictions("test")
    if context.task == "classification":
        return (predicted.argmax(axis=1) != truth).astype(float)
    if context.task == "multi-label":
        return ((predicted >= 0.5) != truth).mean(axis=1)
    error = np.abs(predicted - truth)
    if error.ndim == 1:
        return error
    spread = truth.std(axis=0)
    return (error / np.where(spread > 0, spread, 1.0)).mean(axis=1)


def _slices(context: AuditContext) -> tuple[list[str], np.ndarray]:
    frame, names, masks, known = context.inputs("test"), [], [], set()
    for column in context.schema.inputs:
        for name, mask in SLICERS[column.kind](column.name, frame[column.name]):
            key = mask.tobytes()
            if MIN_ROWS <= mask.sum() <= len(frame) - MIN_ROWS and key not in known:
                known.add(key)  # two names of the same rows are one slice
                names.append(name)
                masks.append(mask)
    return names, np.array(masks, dtype=float).reshape(len(names), len(frame))


def _by_value(name: str, values: pd.Series) -> Iterator[tuple[str, np.ndarray]]:
    for value in values.value_counts().index[:MAX_VALUES]:
        yield f"{name} = {value}", (values == value).to_numpy()
    yield f"{name} missing", values.isna().to_numpy()


def _by_quarter(name: str, values: pd.Series) -> Iterator[tuple[str, np.ndarray]]:
    numbers = values.to_numpy(dtype=float)
    known = np.isfinite(numbers)
    distinct = np.unique(numbers[known])
    if 0 < len(distinct) <= FEW_VALUES:
        yield from ((f"{name} = {value:g}", numbers == value) for value in distinct)
    elif known.any():
        yield from _bands(name, numbers, np.unique(np.quantile(numbers[known], [0.25, 0.5, 0.75])))
    yield f"{name} missing", ~known


def _bands(name: str, numbers: np.ndarray, edges: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    yield f"{name} ≤ {edges[0]:g}", numbers <= edges[0]
    for low, high in pairwise(edges):
        yield f"{low:g} < {name} ≤ {high:g}", (numbers > low) & (numbers <= high)
    yield f"{name} > {edges[-1]:g}", numbers > edges[-1]


def _by_length(name: str, values: pd.Series) -> Iterator[tuple[str, np.ndarray]]:
    empty = (values.str.strip() == "").to_numpy()
    words = values.str.split().str.len().to_numpy(dtype=float)
    yield f"{name} empty", empty
    yield from _by_quarter(f"words in {name}", pd.Series(np.where(empty, np.nan, words)))


def _by_presence(name: str, values: pd.Series) -> Iterator[tuple[str, np.ndarray]]:
    yield f"{name} missing", values.isna().to_numpy()


SLICERS = {"category": _by_value, "number": _by_quarter, "text": _by_length, "image": _by_presence}


def compare(
    names: list[str], inside: np.ndarray, errors: np.ndarray, *, binary: bool
) -> list[dict[str, Any]]:
    """Compare the error in each slice with that of the other rows.

    Args:
        names: names of the slices.
        inside: 1 where a row is in the slice, ``(slice, row)``.
        errors: error of each row.
        binary: errors are 0 or 1.

    Returns:
        One line a slice: ``slice, difference, low, high, rows, error, error elsewhere, adjusted p, z``. Intervals hold
        for all slices at once (95 % by Bonferroni), so the one of the worst slice is not too narrow.
    """
    from scipy.stats import norm

    count, total = inside.sum(axis=1), errors.sum()
    here, elsewhere = inside @ errors / count, (total - inside @ errors) / (len(errors) - count)
    spread = _standard_errors(inside, errors, binary)
    centre, width = here - elsewhere, norm.ppf(1 - 0.025 / len(names))
    if binary:  # Agresti and Caffo: two added rows on each side keep the interval honest for few errors
        centre = (inside @ errors + 1) / (count + 2) - (total - inside @ errors + 1) / (
            len(errors) - count + 2
        )
    adjusted = holm(_p_values(inside, errors, binary))
    z = standardised(inside, errors[:, None])[:, 0]
    return [
        {
            "slice": name,
            "difference": here[i] - elsewhere[i],
            "low": min(centre[i] - width * spread[i], here[i] - elsewhere[i]),
            "high": max(centre[i] + width * spread[i], here[i] - elsewhere[i]),
            "rows": int(count[i]),
            "error": here[i],
            "error elsewhere": elsewhere[i],
            "adjusted p": adjusted[i],
            "z": z[i],
        }
        for i, name in enumerate(names)
    ]


def _standard_errors(inside: np.ndarray, errors: np.ndarray, binary: bool) -> np.ndarray:
    result = np.zeros(len(inside))
    for part in (inside, 1 - inside):
        count = part.sum(axis=1)
        if binary:
            share = (part @ errors + 1) / (count + 2)
            result += share * (1 - share) / (count + 2)
        else:
            mean = part @ errors / count
            result += (part * (errors - mean[:, None]) ** 2).sum(axis=1) / count / (count - 1)
    return np.sqrt(result)


def _p_values(inside: np.ndarray, errors: np.ndarray, binary: bool) -> np.ndarray:
    """Return one-sided p-values that a slice is not worse: Fisher's exact test, or Welch's t test."""
    from scipy.stats import hypergeom

    if binary:
        hits = (inside @ errors).round()
        return hypergeom.sf(hits - 1, len(errors), errors.sum(), inside.sum(axis=1))
    return welch(inside, errors)


def welch(inside: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Return one-sided p-values that the mean in a slice is not larger; 0 or 1 where neither side varies."""
    from scipy.stats import t

    means, terms, freedom = [], [], []
    for part in (inside, 1 - inside):
        count = part.sum(axis=1)
        mean = part @ errors / count
        variance = np.maximum((part * (errors - mean[:, None]) ** 2).sum(axis=1), 0) / (count - 1)
        means.append(mean)
        terms.append(variance / count)
        freedom.append((variance / count) ** 2 / (count - 1))
    gap, squared = means[0] - means[1], terms[0] + terms[1]
    steady = squared <= 1e-24 * np.maximum(gap**2, 1e-300)
    squared, below = np.where(steady, 1.0, squared), np.where(steady, 1.0, freedom[0] + freedom[1])
    p = t.sf(gap / np.sqrt(squared), squared**2 / below)
    return np.where(steady, np.where(gap > 0, 0.0, 1.0), p)


def standardised(inside: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Return the gap of each slice in standard errors under "no slice differs"; ``errors`` is ``(row, repeat)``."""
    count, rows = inside.sum(axis=1)[:, None], len(errors)
    gap = inside @ errors / count - (errors.sum(axis=0) - inside @ errors) / (rows - count)
    return gap / (errors.std(axis=0) * np.sqrt(1 / count + 1 / (rows - count)))


def _largest_by_chance(
    inside: np.ndarray, errors: np.ndarray, context: AuditContext
) -> tuple[float, tuple[float, float]]:
    """Return the mean gap, and its 95 % range, of the slice that looks worst when errors are dealt out at random."""
    rng = generator(context.seed, "shuffled errors")
    shuffled = np.stack([rng.permutation(errors) for _ in range(SHUFFLES)], axis=1)
    worst = standardised(inside, shuffled).argmax(axis=0)
    chosen = inside[worst]
    count, sums = chosen.sum(axis=1), (chosen * shuffled.T).sum(axis=1)
    gaps = sums / count - (errors.sum() - sums) / (len(errors) - count)
    low, high = np.quantile(gaps, [0.025, 0.975])
    return float(gaps.mean()), (float(low), float(high))


def _verdict(
    context: AuditContext, worst: dict[str, Any], significant: list[dict[str, Any]], overall: float
) -> str:
    if not significant:
        return "pass"
    least = 0.05 if context.task == "classification" else 0.25 * overall
    severe = worst["error"] >= 2 * worst["error elsewhere"] and worst["low"] > least
    return "fail" if severe else "warn"


def _answer(
    context: AuditContext,
    worst: dict[str, Any],
    significant: list[dict[str, Any]],
    slices: int,
    chance: tuple[float, tuple[float, float]],
) -> str:
    show, what = percent if context.task in PROBABLE else number, UNITS[context.task][1]
    count = f"{len(significant)} of {slices} slices" if significant else f"None of {slices} slices"
    verb = "are" if len(significant) > 1 else "is"
    return (
        f"{count} {verb} worse than the other test rows beyond noise (p < 0.05 after Holm's adjustment). "
        f"The weakest is {worst['slice']!r} ({worst['rows']:,} rows): {what} {show(worst['error'])} against "
        f"{show(worst['error elsewhere'])} elsewhere, a gap of {show(worst['difference'])} (95 % interval over all "
        f"slices {show(worst['low'])} to {show(worst['high'])}). Shuffled errors give a worst slice with a gap of "
        f"{show(chance[0])} on average."
    )


def _advice(verdict: str, name: str) -> str:
    if verdict == "pass":
        return ""
    return f"Look at the errors in {name!r}, collect more such rows, or warn users of the model about them."
