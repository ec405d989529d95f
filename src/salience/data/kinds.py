"""Column kinds: how raw values become canonical ones, which units they hold, and how a unit is taken away.

Canonical values: text is ``str`` (``""`` if missing); a number is float64 (NaN if missing or infinite);
a category is ``str`` or None; an image is a path, bytes, a PIL image or a uint8 array, or None.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from salience.core.errors import DataError
from salience.core.unit import Unit
from salience.data.distinct import distinct
from salience.data.images import is_image_object, load_image, looks_whole, missing
from salience.data.places import cells, place, row_name, sentence
from salience.data.words import cut

MISSING_TEXTS = frozenset({"", "na", "n/a", "nan", "null", "#n/a", "<na>"})
MISSING_NUMBERS = MISSING_TEXTS | {"none", "?", "-", ".", "missing", "unknown"}
THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")
SURROGATES = re.compile("[\ud800-\udfff]")


class Text:
    """Text of any length. Units are words and punctuation marks; missing is the empty text."""

    name = "text"

    def parse(self, series: pd.Series, where: str = "") -> pd.Series:
        """Return canonical values.

        Raises:
            DataError: a cell holds a list, a dictionary or bytes (SAL-D032).
        """
        return _mapped(series, _to_text, where, self.name)

    def units(self, column: str, value: str) -> tuple[Unit, ...]:
        """Return the words and marks of a text, with character offsets."""
        return _text_units(column, value)

    def remove(self, value: str, units: Sequence[Unit], baseline: str = "") -> str:
        """Return the text without some words; the others are cut as before."""
        if not units:
            return value
        kept, start = [], 0
        for a, b in sorted(unit.locator for unit in units):
            if a > start and (part := value[start : int(a)].strip()):
                kept.append(part)
            if b > start:
                start = int(b)
        kept.append(value[start:].strip())
        return " ".join(part for part in kept if part) or baseline

    def baseline(self, series: pd.Series) -> str:
        """Return the neutral value: no text."""
        return ""


@lru_cache(maxsize=256)  # explainers ask for the words of one text again and again
def _text_units(column: str, value: str) -> tuple[Unit, ...]:
    return tuple(Unit(column, "text", value[a:b], (a, b)) for a, b in cut(value))


class Number:
    """A measured quantity. The unit is the cell; missing is NaN."""

    name = "number"

    def parse(self, series: pd.Series, where: str = "") -> pd.Series:
        """Return float64 values; infinity counts as missing.

        Raises:
            DataError: cells that are not numbers, with their rows (SAL-D030).
        """
        values, bad = to_numbers(series)
        if len(bad):
            raise not_numbers(series, bad, where)
        return values

    def units(self, column: str, value: float) -> tuple[Unit, ...]:
        """Return the cell as one unit, such as ``"Age = 34"``."""
        return (Unit(column, "number", f"{column} = {number_text(value)}"),)

    def remove(self, value: float, units: Sequence[Unit], baseline: float) -> float:
        """Return the neutral value where the cell is removed."""
        return baseline if units else value

    def baseline(self, series: pd.Series) -> float:
        """Return the median of the training rows; 0 where all are missing."""
        present = series.dropna()
        return float(present.median()) if len(present) else 0.0


class Category:
    """One of some named values. The unit is the cell; missing is None."""

    name = "category"

    def parse(self, series: pd.Series, where: str = "") -> pd.Series:
        """Return labels: text without outer white space, ``1.0`` as ``"1"``, None where missing.

        Raises:
            DataError: a cell holds a list or a dictionary (SAL-D032).
        """
        return _mapped(series, to_label, where, self.name)

    def units(self, column: str, value: str | None) -> tuple[Unit, ...]:
        """Return the cell as one unit, such as ``"Division = General"``."""
        return (Unit(column, "category", f"{column} = {'missing' if value is None else value}"),)

    def remove(self, value: str | None, units: Sequence[Unit], baseline: str | None = None) -> str | None:
        """Return the neutral value where the cell is removed."""
        return baseline if units else value

    def baseline(self, series: pd.Series) -> None:
        """Return the neutral value: missing."""
        return


class Image:
    """A picture. Units are the regions of a grid; missing is None.

    Args:
        grid: regions a side.
    """

    name = "image"

    def __init__(self, grid: int = 4) -> None:
        self.grid = grid

    def parse(self, series: pd.Series, where: str = "") -> pd.Series:
        """Return paths, bytes, PIL images or arrays; only pictures that look damaged are decoded.

        Raises:
            DataError: a file is absent (SAL-D040) or cut short (SAL-D041), or a cell is nothing like a picture
                (SAL-D032).
        """
        values = []
        for position, value in enumerate(series):
            found, problem = _to_image(value)
            if problem or not looks_whole(found):
                at = place(where, row_name(series.index, position), str(series.name))
                if problem:
                    raise _image_error(value, at, problem)
                load_image(found, at)  # decides, and names the place
            values.append(found)
        return pd.Series(values, index=series.index, name=series.name, dtype=object)

    def units(self, column: str, value: Any) -> tuple[Unit, ...]:
        """Return the regions of the grid, row by row; none for a missing picture."""
        return () if value is None else _grid_units(column, self.grid)

    def remove(self, value: Any, units: Sequence[Unit], baseline: Any = None) -> Any:
        """Return the picture with some regions filled by its mean colour."""
        if not units or value is None:
            return value
        image = load_image(value)
        colour = tuple(int(c) for c in np.asarray(image).reshape(-1, 3).mean(axis=0).round())
        for unit in units:
            image.paste(colour, pixel_box(unit.locator, image.size))
        return image

    def baseline(self, series: pd.Series) -> None:
        """Return None: the neutral picture is the mean colour of each picture."""
        return


KINDS: dict[str, Text | Number | Category | Image] = {
    kind.name: kind for kind in (Text(), Image(), Number(), Category())
}


def is_missing(value: Any) -> bool:
    """Tell whether a cell holds nothing: None, NaN, NaT, NA."""
    if value is None:
        return True
    if isinstance(value, str | bytes | bytearray | list | tuple | dict | np.ndarray):
        return False
    return pd.api.types.is_scalar(value) and bool(pd.isna(value))


def to_label(value: Any) -> str | None:
    """Return the name of a category: ``True`` → ``"True"``, ``1.0`` → ``"1"``, blank → None.

    Raises:
        TypeError: the value is a list, a dictionary or an array.
    """
    if is_missing(value):
        return None
    if isinstance(value, str):
        text = " ".join(SURROGATES.sub("\ufffd", value).split())
        return text or None
    if isinstance(value, list | tuple | dict | set | np.ndarray | bytes | bytearray):
        raise TypeError
    if isinstance(value, float | np.floating):
        return str(int(value)) if float(value).is_integer() else repr(float(value))
    return str(value)


def to_numbers(series: pd.Series) -> tuple[pd.Series, np.ndarray]:
    """Return float64 values (NaN where missing or not a number) and the positions that are not numbers."""
    dtype = series.dtype
    if pd.api.types.is_datetime64_any_dtype(dtype):
        values = (series.dt.tz_localize(None) - pd.Timestamp(0)).dt.total_seconds() / 86400
    elif pd.api.types.is_timedelta64_dtype(dtype):
        values = series.dt.total_seconds()
    elif pd.api.types.is_complex_dtype(dtype):
        return pd.Series(np.nan, index=series.index, name=series.name), np.arange(len(series))
    elif pd.api.types.is_bool_dtype(dtype) or pd.api.types.is_numeric_dtype(dtype):
        values = series
    else:
        return _numbers_from_objects(series)
    array = values.to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
    return pd.Series(_finite(array), index=series.index, name=series.name), np.empty(0, dtype=int)


def _finite(values: np.ndarray) -> np.ndarray:
    values[~np.isfinite(values)] = np.nan
    return values


def _numbers_from_objects(series: pd.Series) -> tuple[pd.Series, np.ndarray]:
    groups = distinct(series)
    if groups is None:
        numbers, wrong = _number_each(list(series))
    else:
        codes, found = groups
        numbers, wrong = _number_each([*found, None])  # the last one serves the code −1
        numbers, wrong = numbers[codes], wrong[codes]
    return pd.Series(_finite(numbers), index=series.index, name=series.name), np.flatnonzero(wrong)


def _number_each(values: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers (NaN where there is none) and whether a value is none though it is not missing."""
    numbers, wrong = np.full(len(values), np.nan), np.zeros(len(values), dtype=bool)
    for position, value in enumerate(values):
        try:
            numbers[position] = np.nan if is_missing(value) else _number(value)
        except (TypeError, ValueError, OverflowError):
            wrong[position] = True
    return numbers, wrong


def _number(value: Any) -> float:
    if not isinstance(value, str):
        if isinstance(value, bytes | bytearray | np.ndarray):
            raise TypeError
        return float(value)
    text = value.strip()
    if text.lower() in MISSING_NUMBERS:
        return np.nan
    if "_" in text:
        raise ValueError
    return float(text.replace(",", "") if THOUSANDS.fullmatch(text) else text)


def not_numbers(series: pd.Series, bad: np.ndarray, where: str = "") -> DataError:
    """Return the error that names the cells of a number column that are not numbers."""
    column = str(series.name)
    return DataError(
        f"Column {column!r} mixes numbers with other values",
        sentence(where, cells(series, bad)),
        f"Mend these cells, or leave them empty; or treat the column as named values: --kind "
        f"{column}=category (or text), or leave it out: --drop {column}.",
        code="SAL-D030",
    )


def number_text(value: float | None) -> str:
    """Return a number as a person writes it: ``34``, ``0.125``, ``missing``."""
    if value is None or not np.isfinite(value):
        return "missing"
    if float(value).is_integer() and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.6g}"


def _to_text(value: Any) -> str:
    if isinstance(value, str):
        return SURROGATES.sub("\ufffd", value)
    return to_label(value) or ""


def _mapped(series: pd.Series, function: Any, where: str, kind: str) -> pd.Series:
    """Apply a function to each distinct value once."""
    groups = distinct(series)
    try:
        if groups is None:
            raise TypeError
        codes, found = groups
        table = np.full(len(found) + 1, None, dtype=object)
        table[:] = [*(function(value) for value in found), function(None)]
        values = table[codes]
    except TypeError:
        values = _mapped_one_by_one(series, function, where, kind)
    return pd.Series(values, index=series.index, name=series.name, dtype=object)


def _mapped_one_by_one(series: pd.Series, function: Any, where: str, kind: str) -> np.ndarray:
    """Apply a function where values cannot be hashed, and name the cells that it refuses."""
    values, bad = np.full(len(series), None, dtype=object), []
    for position, value in enumerate(series):
        try:
            values[position] = function(value)
        except TypeError:
            bad.append(position)
    if bad:
        raise _unfit(series, bad, where, kind)
    return values


def _unfit(series: pd.Series, bad: list[int], where: str, kind: str) -> DataError:
    return DataError(
        f"Column {str(series.name)!r} cannot be read as {kind}",
        sentence(where, cells(series, bad)),
        f"Give one value a cell, or leave the column out: --drop {series.name}.",
        code="SAL-D032",
    )


def _to_image(value: Any) -> tuple[Any, str]:
    """Return the canonical picture and what is wrong with it (``""`` if nothing)."""
    if isinstance(value, dict) and is_image_object(value):
        value = value["bytes"] if value["bytes"] is not None else value.get("path")
    if is_missing(value) or (isinstance(value, str) and not value.strip()):
        return None, ""
    if isinstance(value, str | Path):
        path = Path(value)
        try:
            return str(path), "" if path.is_file() else "missing"
        except (OSError, ValueError):
            return None, "missing"
    return (value, "") if is_image_object(value) else (None, "unfit")


def _image_error(value: Any, at: str, problem: str) -> DataError:
    if problem == "missing":
        return missing(str(value)[:200], at)
    return DataError(
        "A cell of an image column holds no image",
        f"{at}: {type(value).__name__}.",
        "Give a path, bytes, a PIL image or a uint8 array (height, width, channel).",
        code="SAL-D032",
    )


_ROW_NAMES = {
    1: ("",),
    2: ("upper", "lower"),
    3: ("upper", "middle", "lower"),
    4: ("top", "upper", "lower", "bottom"),
}
_COLUMN_NAMES = {
    1: ("",),
    2: ("left", "right"),
    3: ("left", "centre", "right"),
    4: ("far left", "left", "right", "far right"),
}


def region_label(row: int, column: int, grid: int) -> str:
    """Return how a person names a region: ``"upper left"``; ``"row 2, column 7"`` for a fine grid."""
    if grid == 1:
        return "whole image"
    if grid in _ROW_NAMES:
        return f"{_ROW_NAMES[grid][row]} {_COLUMN_NAMES[grid][column]}"
    return f"row {row + 1}, column {column + 1}"


def _grid_units(column: str, grid: int) -> tuple[Unit, ...]:
    return tuple(
        Unit(column, "image", region_label(r, c, grid), (c / grid, r / grid, (c + 1) / grid, (r + 1) / grid))
        for r in range(grid)
        for c in range(grid)
    )


def pixel_box(locator: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return a region in pixels (left, top, right, bottom) from fractions of width and height."""
    width, height = size
    left, top, right, bottom = locator
    return round(left * width), round(top * height), round(right * width), round(bottom * height)
