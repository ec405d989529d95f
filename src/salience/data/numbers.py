"""Scaling of columns of numbers: fitted on training rows, kept as JSON, with a policy for every odd cell."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from salience.core.errors import ConfigError, DataError, nearest

FARTHEST = 1e6  # standard deviations: a stray sentinel cannot overflow
LARGEST = 1e30  # of a value that is not scaled, in its own units
NOISE, MOST_NOISE = 1e-3, 0.1  # the paper's, and the largest share of a column's own spread
SATURATED = 5.199337582605575  # normal quantile of 1 − 1e−7, where scikit-learn cuts
CHOICES = {
    "scaling": ("quantile", "standard", "none"),
    "missing": ("learned", "median", "error"),
    "infinite": ("missing", "clip", "error"),
    "outside": ("extrapolate", "clip"),
}

Column = dict[str, Any]
Values = Float[np.ndarray, "row column"]


@dataclass
class NumberScaler:
    """Bring number columns to one scale.

    Every value is standardised in float64 first. A column that is constant in training is 0 everywhere, so that all
    its values are alike.

    Args:
        columns: names, for messages.
        scaling: ``"quantile"`` maps each column to a normal distribution by its quantiles, ``"standard"`` leaves it
            at mean 0 and standard deviation 1, ``"none"`` gives it back in its own units.
        missing: ``"learned"`` leaves NaN, for a vector that is learned; ``"median"`` puts the training median in its
            place; ``"error"`` refuses it.
        infinite: infinities count as ``"missing"``, become the largest and smallest training value (``"clip"``), or
            are refused (``"error"``).
        outside: values outside the training range are moved to its ends (``"clip"``) or go on linearly
            (``"extrapolate"``). None is the usual choice of the scaling: a quantile transform clips.

    Source:
        Gorishniy et al. 2022 (arXiv 2203.05556): scikit-learn's ``QuantileTransformer`` to a normal distribution with
        rows // 30 quantiles, between 10 and 1,000, fitted on values with noise of 1e-3 / max(std, 1e-3), applied to
        the values without it. Two deviations, for columns in small units: the noise is at most a tenth of the
        column's spread (the formula drowns a column whose spread is below 0.03), and values near the ends of the
        range are told apart (scikit-learn sets all those within 1e-7, in the column's own units, to the end).
    """

    columns: list[str]
    scaling: str = "quantile"
    missing: str = "learned"
    infinite: str = "missing"
    outside: str | None = None
    fitted: list[Column] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices and not (name == "outside" and value is None):
                raise ConfigError(
                    f"Unknown {name} {value!r} of numbers",
                    "",
                    nearest(str(value), choices),
                    code="SAL-C002",
                )
        self.outside = self.outside or ("clip" if self.scaling == "quantile" else "extrapolate")

    def fit(self, values: Values, rng: np.random.Generator) -> "NumberScaler":
        """Learn each column's scale from its finite training values.

        Args:
            values: training rows in float64, NaN where missing.
            rng: source of the noise of the quantile transform.

        Raises:
            DataError: a missing or infinite value that is refused (SAL-D033).
        """
        self._refuse(values)
        self.fitted = [self._column(column, rng) for column in values.T]
        return self

    def _column(self, cells: np.ndarray, rng: np.random.Generator) -> Column:
        found = _moments(cells)
        finite = cells[np.isfinite(cells)]
        standard = (finite - found["mean"]) * found["scale"] if len(finite) else np.zeros(1)
        found |= {"low": float(standard.min()), "high": float(standard.max())}
        if self.scaling == "quantile" and found["scale"]:
            found["quantiles"] = _noisy_quantiles(standard, found["scale"], len(cells), rng).tolist()
        found["median"] = float(self._mapped(np.median(standard, keepdims=True), found)[0])
        return found

    def _of_columns(self, name: str) -> np.ndarray:
        return np.array([column[name] for column in self.fitted])

    @property
    def median(self) -> Float[np.ndarray, " column"]:
        """Scaled training median of each column; 0 where it had no value."""
        return self._of_columns("median")

    @property
    def knows_missing(self) -> np.ndarray:
        """Whether each column had a missing value in training, so that a vector for it could be learned."""
        return self._of_columns("some_missing")

    @property
    def varies(self) -> np.ndarray:
        """Whether each column had two distinct values in training."""
        return self._of_columns("scale") > 0

    def transform(self, values: Values) -> Values:
        """Return scaled values in float64: NaN where missing, unless the median stands in.

        Every value of a column that had none in training counts as missing.

        Raises:
            DataError: a missing or infinite value that is refused (SAL-D033).
        """
        self._refuse(values)
        values = np.asarray(values, dtype=np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            standard = np.clip(
                (values - self._of_columns("mean")) * self._of_columns("scale"), -FARTHEST, FARTHEST
            )
        if self.infinite == "clip":
            ends = np.where(values > 0, self._of_columns("high"), self._of_columns("low"))
            standard = np.where(np.isinf(values), ends, standard)
        else:
            standard[np.isinf(values)] = np.nan
        standard[:, ~self._of_columns("known")] = np.nan
        scaled = np.stack(
            [self._mapped(z, column) for z, column in zip(standard.T, self.fitted, strict=True)], axis=1
        )
        return (
            np.where(np.isnan(scaled), self._of_columns("median"), scaled)
            if self.missing == "median"
            else scaled
        )

    def _mapped(self, standard: np.ndarray, column: Column) -> np.ndarray:
        """Return scaled values of one column from standardised ones."""
        if not column["scale"]:
            return np.where(np.isnan(standard), np.nan, 0.0)
        quantiles = np.array(column.get("quantiles", (column["low"], column["high"])))
        inside = np.clip(standard, quantiles[0], quantiles[-1])
        beyond = 0.0 if self.outside == "clip" else standard - inside
        if self.scaling == "quantile":
            return _to_normal(inside, quantiles) + beyond
        moved = inside + beyond
        if self.scaling == "standard":
            return moved
        return np.clip(_own_units(moved, column), -LARGEST, LARGEST)

    def inverse(self, scaled: Float[np.ndarray, " value"], column: int) -> Float[np.ndarray, " value"]:
        """Return values of one column in its own units, such as edges of bins.

        Args:
            scaled: scaled values; those beyond the ends of a quantile transform go on linearly.
            column: its position.
        """
        found = self.fitted[column]
        scaled = np.asarray(scaled, dtype=np.float64)
        if self.scaling == "none" and found["scale"]:
            return scaled
        if self.scaling == "quantile" and found["scale"]:
            inside = np.clip(scaled, -SATURATED, SATURATED)
            scaled = _from_normal(inside, np.array(found["quantiles"])) + (scaled - inside)
        return _own_units(scaled, found)

    def _refuse(self, values: Values) -> None:
        for policy, test, what in (
            (self.missing, np.isnan, "missing"),
            (self.infinite, np.isinf, "infinite"),
        ):
            if policy == "error" and (bad := test(values)).any():
                column = int(bad.any(0).argmax())
                raise DataError(
                    f"{self.columns[column]!r} has {what} values",
                    f"{int(bad[:, column].sum()):,} of {len(values):,} rows, the first at position "
                    f"{int(bad[:, column].argmax())}.",
                    f"Mend them, or choose another policy: {what}={CHOICES[what][0]!r}.",
                    code="SAL-D033",
                )

    def state(self) -> dict[str, Any]:
        """Return what :meth:`fit` learned, as JSON-ready data."""
        return {"columns": self.fitted}

    def restore(self, state: dict[str, Any]) -> "NumberScaler":
        """Take over what another one learned."""
        self.fitted = state["columns"]
        return self


def _moments(cells: np.ndarray) -> Column:
    """Return mean and inverse spread of one column's finite values; 0 for the spread of a constant column."""
    finite = np.isfinite(cells)
    values = cells[finite] if finite.any() else np.zeros(1)
    power = np.frexp(np.abs(values).max())[1] - 1
    unit = float(np.ldexp(1.0, power))  # a power of two: sums cannot overflow, no digit is lost
    reduced = values / unit
    mean, std = float(reduced.mean()), float(reduced.std())
    constant = values.min() == values.max() or std <= 4 * np.finfo(np.float64).eps
    with np.errstate(over="ignore"):
        scale = 0.0 if constant else float(np.nan_to_num(1.0 / (np.float64(std) * unit), posinf=0.0))
    return {
        "mean": mean * unit,
        "scale": scale,
        "known": bool(finite.any()),
        "some_missing": not bool(finite.all()),
    }


def _own_units(standard: np.ndarray, column: Column) -> np.ndarray:
    """Return values in the column's own units; the mean where it was constant."""
    with np.errstate(over="ignore"):
        away = standard / column["scale"] if column["scale"] else np.zeros_like(standard)
    return away + column["mean"]


def _noisy_quantiles(standard: np.ndarray, scale: float, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Return the quantiles of one standardised column with noise, which tells equal values apart."""
    noise = min(NOISE * scale / max(1 / scale, NOISE), MOST_NOISE)
    levels = min(int(np.clip(rows // 30, 10, 1000)), len(standard))
    noisy = standard + noise * rng.standard_normal(len(standard))
    return np.maximum.accumulate(np.quantile(noisy, np.linspace(0, 1, levels)))


def _to_normal(values: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """Return normal quantiles of values; equal quantiles count with their mean level."""
    from scipy.special import ndtri

    levels = np.linspace(0, 1, len(quantiles))
    up = np.interp(values, quantiles, levels)
    down = -np.interp(-values, -quantiles[::-1], -levels[::-1])
    return np.clip(ndtri(0.5 * (up + down)), -SATURATED, SATURATED)


def _from_normal(values: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    from scipy.special import ndtr

    level = np.where(np.abs(values) < SATURATED, ndtr(values), values > 0)
    return np.interp(level, np.linspace(0, 1, len(quantiles)), quantiles)
