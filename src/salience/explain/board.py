"""What a comparison of explainers returns: cells, methods, agreement, definitions."""

from dataclasses import asdict, dataclass, fields
from typing import Any

import pandas as pd

from salience.core.errors import ConfigError
from salience.core.io import to_plain


@dataclass(frozen=True)
class Cell:
    """One method by one metric.

    Attributes:
        method, metric: names.
        better: whether ``"higher"`` or ``"lower"`` is better.
        mean: mean over the explanations that the metric is defined for.
        interval: 95 % bootstrap interval of the mean.
        difference: mean difference from the random control, over the rows where both are defined.
        difference_interval: its 95 % bootstrap interval.
        p: two-sided sign-flip test that it is zero; NaN without a pair.
        p_holm: the same after Holm's correction over all methods and metrics; NaN for controls, and for metrics that do
            not ask whether an explanation is true (robustness, complexity, completeness).
        beats: True if it is better than random at the corrected level, False if worse, None if neither is shown.
        explanations: number of explanations.
        undefined: how many of them the metric is not defined for.
        forwards: rows that the model evaluates if the metric is taken alone.
        seconds: time that it took, with what it could share.
        reason: why the metric is not defined, where it can be said.
    """

    method: str
    metric: str
    better: str
    mean: float
    interval: tuple[float, float]
    difference: float
    difference_interval: tuple[float, float]
    p: float
    p_holm: float
    beats: bool | None
    explanations: int
    undefined: int
    forwards: int
    seconds: float
    reason: str = ""


@dataclass(frozen=True)
class Method:
    """One method over all metrics.

    Attributes:
        name: name of the method.
        control: whether it is a control.
        forwards: rows that the model evaluated to explain.
        seconds: time to explain.
        changed: share of rows whose predicted class is another without the top 20 % of the units; NaN for numbers.
        changed_interval: its 95 % bootstrap interval.
        verdict: what the metrics say, in words.
    """

    name: str
    control: bool
    forwards: int
    seconds: float
    changed: float
    changed_interval: tuple[float, float]
    verdict: str


@dataclass(frozen=True)
class Leaderboard:
    """State how explainers compare on one model and its data.

    Attributes:
        cells: one a method and metric.
        methods: one a method, controls last.
        agreement: one a pair of methods: mean Spearman correlation of values and overlap of the top 20 %.
        conventions: exact definition of each metric.
        left_out: methods and metrics that could not be measured, and why.
        rows: number of rows.
        seed: seed of methods, controls and tests.
        forwards: rows that the model evaluated for the metrics, with what they share counted once.
        seconds: time of all.
    """

    cells: tuple[Cell, ...]
    methods: tuple[Method, ...]
    agreement: tuple[dict[str, Any], ...]
    conventions: dict[str, str]
    left_out: dict[str, str]
    rows: int
    seed: int
    forwards: int
    seconds: float

    def cell(self, method: str, metric: str) -> Cell:
        """Return one cell.

        Raises:
            ConfigError: there is none.
        """
        for found in self.cells:
            if (found.method, found.metric) == (method, metric):
                return found
        raise ConfigError("The leaderboard has no such cell", f"{method!r}, {metric!r}", "See to_frame().")

    def to_frame(self) -> pd.DataFrame:
        """Return one line a method and metric."""
        lines = [asdict(cell) for cell in self.cells]
        frame = pd.DataFrame(lines, columns=[f.name for f in fields(Cell)])
        for name in ("interval", "difference_interval"):
            prefix = name.removesuffix("interval")
            frame[f"{prefix}low"], frame[f"{prefix}high"] = (frame[name].str[end] for end in (0, 1))
        return frame.drop(columns=["interval", "difference_interval"])

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready data; NaN becomes None."""
        return to_plain(asdict(self))

    def to_markdown(self) -> str:
        """Return tables of scores, costs and agreement, with verdicts and definitions."""
        from salience.explain.leaderboard_text import markdown

        return markdown(self)

    def __str__(self) -> str:
        return self.to_markdown()
