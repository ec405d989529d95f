"""Small changes of rows that leave the meaning as it is, and some that take information away."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from salience.data.images import load_image

WORD = re.compile(r"\w+")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def mistype(word: str, rng: np.random.Generator) -> str:
    """Return the word with two neighbours swapped, or one letter dropped, or one inserted."""
    place, kind = int(rng.integers(len(word))), int(rng.integers(3))
    if kind == 0 and len(word) > 1:
        place = min(place, len(word) - 2)
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    if kind == 1 and len(word) > 1:
        return word[:place] + word[place + 1 :]
    return word[:place] + LETTERS[int(rng.integers(26))] + word[place:]


def typos(text: str, rng: np.random.Generator) -> str:
    """Return the text with a typing error in each word of three letters or more with probability 0.1."""
    return WORD.sub(lambda m: mistype(m[0], rng) if len(m[0]) > 2 and rng.random() < 0.1 else m[0], text)


def drop_words(text: str, rng: np.random.Generator) -> str:
    """Return the text without each word with probability 0.1; never empty if it was not."""
    kept = [word for word in text.split() if rng.random() >= 0.1]
    return " ".join(kept) or text


def upper_case(text: str, rng: np.random.Generator) -> str:
    """Return the text in capital letters."""
    return text.upper()


def more_space(text: str, rng: np.random.Generator) -> str:
    """Return the text with double spaces and space at both ends: a change without meaning."""
    return " " + "  ".join(text.split(" ")) + " " if text else text


def noise(values: pd.Series, rng: np.random.Generator, train: pd.Series) -> pd.Series:
    """Return numbers with normal noise of a tenth of their standard deviation among the training rows."""
    spread = float(np.nan_to_num(train.std()))
    return values + rng.normal(0.0, 0.1 * spread, len(values))


def erase(values: pd.Series, rng: np.random.Generator, train: pd.Series) -> pd.Series:
    """Return missing cells only."""
    return pd.Series([None] * len(values), index=values.index, dtype=object)


def grain(values: pd.Series, rng: np.random.Generator, train: pd.Series) -> pd.Series:
    """Return pictures with normal noise of 5 % of the brightness range."""

    def change(pixels: np.ndarray) -> np.ndarray:
        return pixels + rng.normal(0.0, 0.05 * 255, pixels.shape)

    return _pictures(values, change)


def darken(values: pd.Series, rng: np.random.Generator, train: pd.Series) -> pd.Series:
    """Return pictures 20 % darker."""
    return _pictures(values, lambda pixels: 0.8 * pixels)


def _pictures(values: pd.Series, change: Callable[[np.ndarray], np.ndarray]) -> pd.Series:
    from PIL import Image

    def cell(value: Any) -> Any:
        if value is None:
            return None
        pixels = change(np.asarray(load_image(value), dtype=float))
        return Image.fromarray(np.clip(pixels.round(), 0, 255).astype(np.uint8))

    return pd.Series([cell(value) for value in values], index=values.index, dtype=object)


def _each(change: Callable[[str, np.random.Generator], str]) -> Callable[..., pd.Series]:
    def series(values: pd.Series, rng: np.random.Generator, train: pd.Series) -> pd.Series:
        return values.map(lambda text: change(text, rng))

    return series


@dataclass(frozen=True)
class Perturbation:
    """One change of all columns of a kind.

    Attributes:
        name: what is done, in words.
        kind: kind of the columns that are changed.
        change: maps canonical values, a generator and the training values to new values.
        keeps_meaning: a person would still give the same answer.
    """

    name: str
    kind: str
    change: Callable[[pd.Series, np.random.Generator, pd.Series], pd.Series]
    keeps_meaning: bool = True


CONTROL = Perturbation("extra white space (control)", "text", _each(more_space))
PERTURBATIONS = (
    Perturbation("typing errors in a tenth of the words", "text", _each(typos)),
    Perturbation("a tenth of the words dropped", "text", _each(drop_words)),
    Perturbation("all in capital letters", "text", _each(upper_case)),
    Perturbation("numbers with noise of 0.1 standard deviations", "number", noise),
    Perturbation("all categories missing", "category", erase, keeps_meaning=False),
    Perturbation("pictures with 5 % noise", "image", grain),
    Perturbation("pictures 20 % darker", "image", darken),
)


def perturbed(
    inputs: pd.DataFrame,
    columns: list[str],
    perturbation: Perturbation,
    train: pd.DataFrame,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Return a copy of canonical rows with some columns changed."""
    changed = {name: perturbation.change(inputs[name], rng, train[name]) for name in columns}
    return inputs.assign(**changed)
