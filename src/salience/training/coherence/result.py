"""What a measurement of coherence says."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from salience.training.coherence.interval import FEWEST, unbiased_interval
from salience.training.coherence.totals import Totals

NO_GRADIENT = "All gradients are zero, so that coherence is 0/0."
TOLERANCE = 1e-2


@dataclass(frozen=True)
class Share:
    """Coherence of one parameter or layer.

    Attributes:
        alpha: coherence over these parameters alone; NaN where their gradients are zero.
        share: their part of all squared norms, in [0, 1]; the mean of ``alpha`` with these weights is the whole α.
        m_coherence: α times the number of examples.
        unbiased: as in :class:`Coherence`.
    """

    alpha: float
    share: float
    m_coherence: float
    unbiased: float


@dataclass(frozen=True)
class Coherence:
    """Say how much the gradients of examples agree.

    Attributes:
        alpha: α = ‖mean gradient‖² / mean squared norm, in [0, 1]; 1/m for gradients that share no direction. Compare it
            only between samples of the same size.
        m: number of examples.
        m_coherence: mα, in [0, m]: how many examples a small step along one example's gradient helps, on average.
        unbiased: α_U = (mα − 1)/(m − 1): about 0 for unrelated gradients, whatever m; may be negative.
        active_share: share of examples with a gradient norm over ``tolerance`` times the root mean square.
        active_alpha: α among these.
        by_layer, by_parameter: name → :class:`Share`.
        squared_norms: squared gradient norm of every example, in the order of the batches; empty where the method does
            not give them.
        gradient_squared_norm: ‖mean gradient‖².
        interval: 95 % interval of ``unbiased`` by bootstrap over groups of batches; None where there are fewer
            than four groups.
        standard_error: of α, from the random signs of ``method="signs"``; 0 for an exact method.
        method: how it was measured.
        reason: why a number is NaN or absent, or why another method stood in; "" if there is nothing to say.
        notes: what was done to make gradients of examples well defined.
    """

    alpha: float
    m: int
    m_coherence: float
    unbiased: float
    active_share: float
    active_alpha: float
    by_layer: dict[str, Share]
    by_parameter: dict[str, Share]
    squared_norms: np.ndarray = field(repr=False)
    gradient_squared_norm: float
    interval: tuple[float, float] | None
    method: str
    reason: str = ""
    notes: tuple[str, ...] = ()
    standard_error: float = 0.0

    @property
    def noise_scale(self) -> float:
        """Return (1 − α)/α: the critical batch size of McCandlish et al. 2018, tr Σ / ‖ḡ‖²; infinite at α = 0."""
        return (1 - self.alpha) / self.alpha if self.alpha else math.inf

    @property
    def gradient_diversity(self) -> float:
        """Return 1/(mα) = Σ‖g_i‖² / ‖Σ g_i‖² (Yin et al. 2018); infinite at α = 0."""
        return 1 / self.m_coherence if self.m_coherence else math.inf

    @property
    def batch_bound(self) -> float:
        """Return 1/α: up to about this batch size larger batches pay (Yin et al. 2018)."""
        return 1 / self.alpha if self.alpha else math.inf

    def at_size(self, examples: int) -> float:
        """Return the α that a sample of another size would be expected to have: α_U + (1 − α_U)/size."""
        return self.unbiased + (1 - self.unbiased) / examples

    def to_json(self) -> dict[str, Any]:
        """Return all but the per-example norms, as plain data."""
        return {name: value for name, value in asdict(self).items() if name != "squared_norms"}

    def words(self) -> str:
        """Return one or two plain sentences."""
        if math.isnan(self.alpha):
            return self.reason
        spread = "" if self.interval is None else f" (95 % interval {_signed(self.interval)})"
        first = (
            f"A step along one example's gradient helps {self.m_coherence:.3g} of {self.m} examples on average; "
            f"examples that share nothing would give 1. Two examples' gradients agree to {self.unbiased:.3g}{spread}, "
            "on a scale from 0 to 1."
        )
        rest = 1 - self.active_share
        return first if rest < 0.005 else f"{first} {rest:.0%} of the examples have almost no gradient left."


def _signed(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.3g} to {ends[1]:.3g}"


def layer_of(parameter: str) -> str:
    """Return the module that holds a parameter; "" for the outermost."""
    return parameter.rpartition(".")[0]


def shares(top: dict[str, float], squares: dict[str, float], m: int) -> dict[str, Share]:
    """Return coherence by name.

    Args:
        top: name → ‖Σ g‖².
        squares: name → Σ‖g‖².
        m: number of examples.
    """
    whole = sum(squares.values())
    return {name: _share(top[name], squares[name], whole, m) for name in top}


def _share(top: float, square: float, whole: float, m: int) -> Share:
    times = top / square if square > 0 else math.nan
    return Share(times / m, square / whole if whole else math.nan, times, unbiased(times, m))


def unbiased(m_coherence: float, m: int) -> float:
    """Return (mα − 1)/(m − 1); NaN for one example."""
    return (m_coherence - 1) / (m - 1) if m > 1 else math.nan


def by_layers(values: dict[str, float]) -> dict[str, float]:
    """Add up parameters of the same module."""
    found: dict[str, float] = {}
    for name, value in values.items():
        found[layer_of(name)] = found.get(layer_of(name), 0.0) + value
    return found


def summarise(
    totals: Totals, *, method: str, tolerance: float, seed: int, reason: str = "", notes: tuple[str, ...] = ()
) -> Coherence:
    """Return what exact sums say."""
    norms, products = totals.norms(totals.names), totals.products()
    top = {name: float(gram.sum()) for name, gram in products.items()}
    squares = {name: float(totals.norms([name]).sum()) for name in totals.names}
    m, over, under = len(norms), sum(top.values()), float(norms.sum())
    times = over / under if under > 0 else math.nan
    active = norms > tolerance**2 * norms.mean()
    kept = float(norms[active].sum())
    gram = np.sum(list(products.values()), axis=0)
    interval = unbiased_interval(gram, totals.group_norms(), totals.group_sizes(), seed=seed)
    return Coherence(
        alpha=times / m,
        m=m,
        m_coherence=times,
        unbiased=unbiased(times, m),
        active_share=float(active.mean()),
        active_alpha=over / (active.sum() * kept) if kept > 0 else math.nan,
        by_layer=shares(by_layers(top), by_layers(squares), m),
        by_parameter=shares(top, squares, m),
        squared_norms=norms,
        gradient_squared_norm=over / m**2,
        interval=interval,
        method=method,
        reason=NO_GRADIENT if math.isnan(times) else reason or _no_interval(interval, len(totals.members)),
        notes=notes,
    )


def _no_interval(interval: tuple[float, float] | None, groups: int) -> str:
    if interval is not None:
        return ""
    return f"No interval: {groups} groups of batches, and it takes {FEWEST}. Give more, smaller batches."
