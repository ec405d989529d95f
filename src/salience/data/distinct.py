"""Group a column by its distinct values, so that slow work is done once a value and not once a row."""

import numpy as np
import pandas as pd


def distinct(series: pd.Series) -> tuple[np.ndarray, np.ndarray] | None:
    """Return (code of each row, −1 where missing; distinct values), or None if values cannot be compared.

    The values are an array of numbers where the column is one, else of objects.
    Python counts ``True``, ``1`` and ``1.0`` as one value.
    """
    try:
        if series.dtype == object:
            set(series)  # pandas compares some lists, and not others
        codes, values = pd.factorize(series)
    except TypeError:
        return None
    numeric = isinstance(series.dtype, np.dtype) and series.dtype.kind in "iuf"
    return codes, np.asarray(values, dtype=None if numeric else object)
