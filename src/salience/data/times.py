"""Read dates and times from the forms that tables hold."""

import re

import pandas as pd

_ISO = r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}"
_DAY_OR_MONTH_FIRST = r"\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2})"
_CLOCK = r"(?:[ T]\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?: ?[AaPp][Mm])?(?:Z| ?[+-]\d{2}:?\d{2}| UTC)?)?"
DATE = re.compile(f"(?:{_ISO}|{_DAY_OR_MONTH_FIRST}){_CLOCK}")


def is_date_text(text: str) -> bool:
    """Tell whether a text is a date by its form: ``2024-05-31``, ``31/05/2024 12:30``."""
    return DATE.fullmatch(text.strip()) is not None


def to_times(series: pd.Series) -> pd.Series:
    """Return a column that sorts by time: datetimes in UTC, or numbers as they are; NaT or NaN where unreadable.

    A column where any date starts with a number over 12 is read day first.
    """
    if pd.api.types.is_datetime64_any_dtype(series.dtype):
        return pd.to_datetime(series, utc=True)
    if pd.api.types.is_numeric_dtype(series.dtype):
        return series.astype(float)
    texts = series.astype(object).map(lambda value: value.strip() if isinstance(value, str) else value)
    first = texts.map(lambda value: _first_number(value) if isinstance(value, str) else 0)
    day_first = bool((first > 12).any() and (first < 32).all())
    return pd.to_datetime(texts, errors="coerce", format="mixed", dayfirst=day_first, utc=True)


def _first_number(text: str) -> int:
    match = re.match(r"\d{1,4}", text)
    return int(match.group()) if match else 0


def without_zone(series: pd.Series) -> pd.Series:
    """Return times of a zone as plain times in UTC; other columns as they are."""
    if isinstance(series.dtype, pd.DatetimeTZDtype):
        return series.dt.tz_convert("UTC").dt.tz_localize(None)
    return series
