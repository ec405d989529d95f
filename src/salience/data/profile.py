"""Guess the kind and role of a column from its values and name, and say why.

The rules run in the order of :data:`RULES`; the first that answers decides.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from salience.data.distinct import distinct
from salience.data.images import is_image_object, is_image_path, looks_encoded
from salience.data.kinds import not_numbers, to_numbers
from salience.data.places import brief
from salience.data.times import is_date_text, to_times, without_zone

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
MAX_CATEGORIES = 1000
NUMERIC_SHARE = 0.95
SAMPLE = 2000
ID_NAME = re.compile(
    r"(?:^|[ _\-.])(?:id|ids|uuid|guid|index|idx|key|rownum|row)$|^unnamed(?:: ?\d+)?$", re.IGNORECASE
)
CAMEL_ID = re.compile(r"[a-z0-9](?:ID|Id)$")


@dataclass(frozen=True)
class Guess:
    """A kind and a role with the reason, in words."""

    kind: str
    role: str
    reason: str


class Facts:
    """What can be counted in a column.

    Args:
        series: raw values.
        source: name of the file or table, for messages.
    """

    def __init__(self, series: pd.Series, source: str = "") -> None:
        self.series, self.source = without_zone(series), source
        self.name, self.rows = str(series.name), len(series)

    @cached_property
    def groups(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Code of each row (−1 where missing or blank) and distinct values; None if values cannot be compared."""
        found = distinct(self.series)
        if found is None:
            return None
        codes, values = found
        if values.dtype == object:
            blank = np.fromiter(map(_is_blank, values), bool, len(values))
        else:
            blank = ~np.isfinite(values)
        return np.where(blank[codes], -1, codes) if blank.any() else codes, values

    @cached_property
    def counts(self) -> pd.Series:
        """How often each distinct value occurs, the most frequent first; empty where values cannot be compared."""
        if self.groups is None:
            return pd.Series(dtype=int)
        codes, values = self.groups
        counts = np.bincount(codes[codes >= 0], minlength=len(values))
        order = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
        return pd.Series(counts[order], index=pd.Index(values[order], dtype=values.dtype))

    @cached_property
    def present(self) -> np.ndarray:
        """Positions that hold a value; blank text and infinity count as missing."""
        if self.groups is not None:
            return np.flatnonzero(self.groups[0] >= 0)
        blank = self.series.isna().to_numpy(dtype=bool)
        return np.flatnonzero(~blank & ~np.fromiter(map(_is_blank, self.series), bool, self.rows))

    @property
    def missing(self) -> int:
        """Number of rows without a value."""
        return self.rows - len(self.present)

    @property
    def comparable(self) -> bool:
        """Whether values can be compared (lists, dictionaries and arrays cannot)."""
        return len(self.counts) > 0 or len(self.present) == 0

    @property
    def distinct(self) -> int:
        """Number of distinct values; the number of values where they cannot be compared."""
        return len(self.counts) if self.comparable else len(self.present)

    @cached_property
    def values(self) -> pd.Series:
        """The values that are present."""
        return self.series.iloc[self.present]

    @cached_property
    def sample(self) -> list[Any]:
        """At most :data:`SAMPLE` values, evenly spread over the rows."""
        step = max(1, -(-len(self.present) // SAMPLE))
        return list(self.series.iloc[self.present[::step]].astype(object))

    @cached_property
    def texts(self) -> list[str]:
        """The sampled values that are text."""
        return [value for value in self.sample if isinstance(value, str)]

    @property
    def mean_words(self) -> float:
        """Mean number of words between blanks, over the sample."""
        return float(np.mean([len(text.split()) for text in self.texts])) if self.texts else 0.0

    @property
    def examples(self) -> tuple[str, ...]:
        """Up to three of the most frequent values, short."""
        values = list(self.counts.index[:3]) if self.comparable else self.sample[:1]
        return tuple(_example(value) for value in values)


def _is_blank(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return isinstance(value, float | np.floating) and not np.isfinite(value)


def _example(value: Any) -> str:
    return brief(value).strip("'\"") if isinstance(value, str) else brief(value)


def _is_plain(dtype: Any) -> bool:
    types = pd.api.types
    return types.is_numeric_dtype(dtype) or types.is_bool_dtype(dtype) or types.is_datetime64_any_dtype(dtype)


def percent(part: int, whole: int) -> str:
    """Return a share as whole per cent."""
    return f"{100 * part / max(whole, 1):.0f} %"


def _given_split(facts: Facts) -> Guess | None:
    if facts.name.strip().lower() != "split" or facts.distinct == 0 or facts.missing:
        return None
    names = {str(value).strip().lower() for value in facts.counts.index}
    if not names <= set(SPLIT_NAMES):
        return None
    return Guess("category", "split", f"the name says split, the values are {', '.join(sorted(names))}")


def _empty(facts: Facts) -> Guess | None:
    return Guess("category", "ignored", "every value is missing") if len(facts.present) == 0 else None


def _constant(facts: Facts) -> Guess | None:
    if not facts.comparable or facts.distinct != 1 or facts.missing:
        return None
    return Guess("category", "ignored", f"constant: every row holds {facts.examples[0]!r}")


def _objects(facts: Facts) -> Guess | None:
    if _is_plain(facts.series.dtype):
        return None
    first = facts.sample[:20]
    if any(isinstance(value, bytes | bytearray) for value in first):
        if all(looks_encoded(value) for value in first):
            return Guess("image", "input", "every value is an encoded picture")
        return Guess("other", "ignored", "raw bytes that are no picture")
    if all(is_image_object(value) for value in first):
        return Guess("image", "input", "every value is a picture")
    if any(isinstance(value, list | tuple | set | dict | np.ndarray) for value in facts.sample):
        return Guess("other", "ignored", "holds lists or dictionaries")
    return None


def _boolean(facts: Facts) -> Guess | None:
    if pd.api.types.is_bool_dtype(facts.series.dtype) or all(
        isinstance(value, bool | np.bool_) for value in facts.sample
    ):
        return Guess("category", "input", "true or false")
    return None


def _categorical(facts: Facts) -> Guess | None:
    if not isinstance(facts.series.dtype, pd.CategoricalDtype):
        return None
    return Guess("category", "input", f"a column of categories, {facts.distinct:,} distinct values")


def _time(facts: Facts) -> Guess | None:
    if pd.api.types.is_datetime64_any_dtype(facts.series.dtype) or _all_dates(facts):
        return Guess("time", "time", "dates; used to split by time, not as an input")
    return None


def _all_dates(facts: Facts) -> bool:
    if facts.texts and len(facts.texts) == len(facts.sample):
        if not all(is_date_text(text) for text in facts.texts[:50]):
            return False
        return bool(to_times(pd.Series(facts.texts, dtype=object)).notna().mean() > NUMERIC_SHARE)
    return all(hasattr(value, "isoformat") for value in facts.sample)


def _identifier(facts: Facts) -> Guess | None:
    named = bool(ID_NAME.search(facts.name) or CAMEL_ID.search(facts.name))
    few = facts.distinct <= max(20, facts.rows // 100)
    whole = _whole_numbers(facts)
    own = facts.distinct == facts.rows
    if named and not few and (whole or _single_words(facts)):
        return Guess("category", "ignored", f"its name and {facts.distinct:,} distinct values say identifier")
    if own and whole and (named or facts.rows >= 20) and _consecutive(facts):
        return Guess("category", "ignored", "counts the rows: consecutive numbers, each once")
    if (
        own
        and facts.rows >= 20
        and _single_words(facts)
        and not _mostly_numbers(facts)
        and not _mostly_paths(facts)
    ):
        return Guess("category", "ignored", "an identifier: every row has its own single word")
    return None


def _whole_numbers(facts: Facts) -> bool:
    if pd.api.types.is_integer_dtype(facts.series.dtype):
        return True
    if not pd.api.types.is_float_dtype(facts.series.dtype):
        return bool(facts.texts) and all(text.strip().isdecimal() for text in facts.texts)
    values = facts.values.to_numpy(dtype=float)
    return bool((values == np.floor(values)).all())


def _consecutive(facts: Facts) -> bool:
    values, bad = to_numbers(facts.values)
    return not len(bad) and float(values.max() - values.min()) == len(values) - 1


def _single_words(facts: Facts) -> bool:
    return len(facts.texts) == len(facts.sample) > 0 and facts.mean_words <= 1.05


def _mostly_paths(facts: Facts) -> bool:
    return sum(is_image_path(text) for text in facts.texts) >= NUMERIC_SHARE * len(facts.sample) > 0


def _mostly_numbers(facts: Facts) -> bool:
    """Tell whether over 95 % of the sample are numbers. Codes with leading zeros are none."""
    sample = pd.Series(facts.sample, dtype=object)
    _, bad = to_numbers(sample)
    coded = any(re.fullmatch(r"0\d+", text.strip()) for text in facts.texts)
    return not coded and len(bad) < (1 - NUMERIC_SHARE) * len(sample)


def _number(facts: Facts) -> Guess | None:
    if pd.api.types.is_numeric_dtype(facts.series.dtype) or pd.api.types.is_timedelta64_dtype(
        facts.series.dtype
    ):
        return Guess("number", "input", f"numbers, {facts.distinct:,} distinct")
    if not _mostly_numbers(facts):
        return None
    values, bad = to_numbers(facts.series)
    if not values.notna().any():
        return None
    if 0 < len(bad) < (1 - NUMERIC_SHARE) * facts.rows:
        raise not_numbers(facts.series, bad, facts.source)
    return (
        None
        if len(bad)
        else Guess("number", "input", f"numbers written as text, {facts.distinct:,} distinct")
    )


def _image_paths(facts: Facts) -> Guess | None:
    if facts.texts and _mostly_paths(facts):
        return Guess("image", "input", "the values are names of image files")
    return None


def _words(facts: Facts) -> Guess | None:
    words, share = facts.mean_words, percent(facts.distinct, len(facts.present))
    reason = f"{share} distinct, mean {words:.1f} words"
    repeated = len(facts.present) >= 10 * facts.distinct
    if words >= 3 and not (words < 6 and facts.distinct <= 30 and repeated):
        return Guess("text", "input", reason)
    if words >= 1.5 and facts.distinct > max(50, 0.5 * len(facts.present)):
        return Guess("text", "input", reason)
    if facts.distinct > MAX_CATEGORIES:
        rare = f"all but the {MAX_CATEGORIES:,} most frequent in training are read as rare"
        return Guess("category", "input", f"{facts.distinct:,} distinct values; {rare}")
    return Guess("category", "input", f"{facts.distinct:,} distinct values")


RULES = (
    _given_split,
    _empty,
    _constant,
    _objects,
    _boolean,
    _time,
    _identifier,
    _categorical,
    _number,
    _image_paths,
    _words,
)


def guess(facts: Facts) -> Guess:
    """Return the kind and role of a column that nobody has named.

    Raises:
        DataError: over 95 %, but not all, of a column's values are numbers (SAL-D030).
    """
    for rule in RULES:
        found = rule(facts)
        if found is not None:
            return found
    raise AssertionError("the last rule always answers")


def present_positions(series: pd.Series) -> np.ndarray:
    """Return the positions of rows with a value."""
    return Facts(series).present


def missing_positions(series: pd.Series) -> np.ndarray:
    """Return the positions of rows without a value; blank text and infinity count as missing."""
    return np.setdiff1d(np.arange(len(series)), present_positions(series))
