"""An explanation: one number a unit, for one row and one target, with a measurement of whether it is true."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from salience.core import io
from salience.core.errors import ConfigError
from salience.core.unit import Unit
from salience.explain import markup, outside

if TYPE_CHECKING:
    import pandas as pd

    from salience.explain.words import Words

VERDICTS = ("supported", "doubtful", "not supported")
NEXT_TOKEN = "next token"  # what a language model predicts, in place of the name of a target column
BAR = 12  # width of a bar in the terminal, in characters


@dataclass(frozen=True)
class Faithfulness:
    """State whether removing what an explanation names changes the answer more than removing random units.

    Attributes:
        comprehensiveness: mean drop of the answer when the top units are removed; high is good.
        sufficiency: mean drop when only the top units are kept; low is good.
        random_comprehensiveness: mean comprehensiveness of random orders of the same units.
        random_sufficiency: likewise for sufficiency.
        difference: (comprehensiveness − sufficiency), less its mean over random orders.
        interval: 95 % bootstrap interval of the difference over random orders.
        better_orders: share of random orders that do better, in [0, 1].
        orders: number of random orders.
        verdict: ``"supported"``: the interval is above zero, comprehensiveness is above that of random orders,
            and so few of these do better (none of 20) that luck explains it in at most 5 % of cases;
            ``"not supported"``: random orders do as well or better on average; ``"doubtful"`` otherwise,
            and where all orders are alike, as with a single unit.
        scale: what the numbers are: ``"probability"``, ``"standard deviations"``, ``"units of the target"`` or
            ``"log-probability"``.
        log_odds: the first four numbers on the log-odds, for classification.
        convention: the exact definition, in words.
        forwards: rows that the model evaluated for it.
        seconds: its share of the time.
    """

    comprehensiveness: float
    sufficiency: float
    random_comprehensiveness: float
    random_sufficiency: float
    difference: float
    interval: tuple[float, float]
    better_orders: float
    orders: int
    verdict: str
    scale: str
    log_odds: dict[str, float] | None
    convention: str
    forwards: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return io.to_plain(asdict(self))

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Faithfulness":
        """Rebuild from :meth:`to_json`; None stands for a number that is not finite.

        Raises:
            DataError: a field is missing, unknown or of the wrong kind (SAL-D060).
        """
        outside.check_faithfulness(data, {f.name: f.type for f in fields(cls)})
        numbers = {f.name: math.nan for f in fields(cls) if f.type is float and data[f.name] is None}
        interval = tuple(math.nan if end is None else end for end in data["interval"])
        return cls(**{**data, **numbers, "interval": interval})


@dataclass(frozen=True)
class Explanation:
    """Say how much each unit of one row speaks for one answer.

    Attributes:
        units: what a person can point at.
        values: one number a unit, in units of the quantity; NaN where the method says nothing.
        inputs: the raw row, input columns only.
        kinds: kind of each of these columns.
        row: name of the row in the frame that it came from.
        method: key of the explainer.
        target: what is explained: a class, ``"a rather than b"``, a label, or the target column.
        quantity: ``"log-odds"``, ``"value"`` or ``"log-probability"``, as in :mod:`salience.explain.target`; or
            ``"weight"``, with which one head of one layer takes in a unit.
        prediction: the predicted class, ``"yes"`` or ``"no"`` of a label, number, or log-probability of the text.
        probability: probability of the predicted class, or of yes or no; None where a number is predicted.
        output: the quantity at the row; None if the method does not look at it.
        baseline_output: the quantity at the neutral input; None likewise.
        baseline: the neutral input, in words.
        completeness_gap: ``sum(values) − (output − baseline_output)``; None if the method promises nothing.
        faithfulness: whether the explanation is true; None if it was not measured.
        seed: seed of the method.
        forwards: rows that the model evaluated for it.
        seconds: its share of the time.
        signed: False where values say how much, not for or against (attention).
        target_index: position of the class among the outputs.
        against_index: position of the class to contrast with.
        independent: the target is a label of several that do not exclude each other; its log-odds are for the label
            and against its absence.
        target_column: name of the predicted column; :data:`NEXT_TOKEN`, or the text whose log-probability it is.
        evidence: what else a view can show, such as attention maps by name.
        truth: the true class or number where it is known; it is not looked at.
        medians: training median of each number column, to compare a cell with; empty where it is not known.
    """

    units: tuple[Unit, ...]
    values: tuple[float, ...]
    inputs: dict[str, Any]
    kinds: dict[str, str]
    row: Any
    method: str
    target: str
    quantity: str
    prediction: str | float
    probability: float | None
    output: float | None
    baseline_output: float | None
    baseline: str
    completeness_gap: float | None = None
    faithfulness: Faithfulness | None = None
    seed: int = 0
    forwards: int = 0
    seconds: float = 0.0
    signed: bool = True
    target_index: int = 0
    against_index: int | None = None
    independent: bool = False
    target_column: str = ""
    evidence: dict[str, Any] = field(default_factory=dict, compare=False)
    truth: Any = None
    medians: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.units) != len(self.values):
            raise ConfigError(
                "An explanation needs one value a unit",
                f"{len(self.values)} values for {len(self.units)} units.",
                "Return one number for each of model.units(row).",
            )
        object.__setattr__(self, "values", tuple(float(v) for v in self.values))

    def top(self, k: int = 5) -> list[tuple[Unit, float]]:
        """Return the ``k`` units with the largest absolute values; units without a value are left out."""
        known = [pair for pair in zip(self.units, self.values, strict=True) if math.isfinite(pair[1])]
        return sorted(known, key=lambda pair: -abs(pair[1]))[:k]

    def words(self, k: int = 4, **options: Any) -> "Words":
        """Return the explanation in sentences; options as in :func:`salience.explain.words.verbalize`."""
        from salience.explain.words import verbalize

        return verbalize(self, k=k, **options)

    def to_frame(self) -> "pd.DataFrame":
        """Return one line a unit: row, position, column, kind, unit, value, share of all absolute values."""
        import pandas as pd

        total = math.fsum(abs(v) for v in self.values if math.isfinite(v)) or 1.0
        lines = [
            (self.row, i, u.column, u.kind, u.label, v, abs(v) / total)
            for i, (u, v) in enumerate(zip(self.units, self.values, strict=True))
        ]
        return pd.DataFrame(lines, columns=["row", "position", "column", "kind", "unit", "value", "share"])

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready data; pictures become small PNG data URIs, NaN becomes None."""
        data = {f.name: getattr(self, f.name) for f in fields(self)}
        data["units"] = [unit.to_json() for unit in self.units]
        data["faithfulness"] = self.faithfulness.to_json() if self.faithfulness else None
        data["inputs"] = {name: _storable(cell, self.kinds[name]) for name, cell in self.inputs.items()}
        return io.to_plain(data)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Explanation":
        """Rebuild from :meth:`to_json`, or from a short form; see :mod:`salience.explain.outside`.

        Pictures come back as bytes, maps as arrays.

        Raises:
            DataError: the data are no explanation; what is wrong, where, and how to mend it (SAL-D060).
        """
        import numpy as np

        data = outside.whole(data)
        known = {f.name for f in fields(cls)}
        values = {name: value for name, value in data.items() if name in known}
        values["units"] = tuple(Unit.from_json(unit) for unit in data["units"])
        values["values"] = tuple(math.nan if v is None else v for v in data["values"])
        values["inputs"] = {n: _restored(cell, data["kinds"][n]) for n, cell in data["inputs"].items()}
        if data.get("faithfulness"):
            values["faithfulness"] = Faithfulness.from_json(data["faithfulness"])
        if data["quantity"] != "log-odds" and data["prediction"] is None:
            values["prediction"] = math.nan
        values["evidence"] = {n: np.asarray(v, float) for n, v in data.get("evidence", {}).items()}
        return cls(**values)

    def save(self, path: str | Path) -> Path:
        """Write to ``.json``, ``.html`` or ``.png``, by the name's ending.

        Raises:
            ConfigError: another ending.
        """
        ending = Path(path).suffix.lower()
        if ending == ".json":
            return io.write_json(path, self.to_json())
        if ending == ".html":
            title = escape(f"{self.method}: {self.target}")
            head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
            return io.atomic_write_text(path, f"{head}<body>{self.to_html()}</body></html>\n")
        if ending == ".png":
            from salience.explain.picture import draw

            return io.atomic_write_bytes(path, draw(self))
        raise ConfigError(
            "An explanation cannot be saved like this", str(path), "End in .json, .html or .png."
        )

    # -- pictures ------------------------------------------------------------------------------------

    def to_html(self, *, style: bool = True, words: bool = True) -> str:
        """Return an HTML fragment that needs nothing from outside.

        Args:
            style: whether to include :data:`salience.explain.markup.STYLE`; once a page is enough.
            words: whether to include the sentences.
        """
        parts = [f"<style>{markup.STYLE}</style>"] if style else []
        if words:
            parts.append(f'<p class="sal-words">{self.words().to_html()}</p>')
        parts += [self._column_html(name) for name, kind in self.kinds.items() if kind in ("text", "image")]
        scale = markup.scale_of(self.values)
        parts.append(markup.cells_html(*self._of(lambda u: u.kind in ("number", "category")), scale))
        parts += [markup.legend_html(*self.legend()), f'<p class="sal-note">{escape(self.footer())}</p>']
        return f'<section class="sal" aria-label="Explanation">{"".join(parts)}</section>'

    def _repr_html_(self) -> str:
        return self.to_html()

    def _of(self, wanted: Any) -> tuple[list[Unit], list[float]]:
        pairs = [pair for pair in zip(self.units, self.values, strict=True) if wanted(pair[0])]
        return [unit for unit, _ in pairs], [value for _, value in pairs]

    def units_of(self, column: str) -> tuple[list[Unit], list[float]]:
        """Return the units of one column and their values."""
        return self._of(lambda unit: unit.column == column)

    def _column_html(self, name: str) -> str:
        units, values = self.units_of(name)
        scale, label = markup.scale_of(self.values), f'<span class="sal-name">{escape(name)}</span>'
        if self.kinds[name] == "text":
            return f"<p>{label}{markup.text_html(self.inputs[name], units, values, scale)}</p>"
        return f"<div>{label}{markup.image_html(self.inputs[name], units, values, scale, name)}</div>"

    def legend(self) -> tuple[str, str]:
        """Return what a positive and a negative value mean; the second is empty where there is none."""
        if not self.signed:
            return "the model looks here", ""
        if self.quantity == "value":
            return f"raises {self.target}", f"lowers {self.target}"
        if self.quantity == "log-probability":
            return f"makes {self.target} more likely", f"makes {self.target} less likely"
        if self.quantity == "weight":
            return f"{self.target} adds it", f"{self.target} takes it away"
        return f"speaks for {self.target}", f"speaks against {self.target}"

    def footer(self) -> str:
        """Return method, quantity, neutral input and cost in one line."""
        parts = [f"Method {self.method}", f"explains the {self.quantity} of {self.target}"]
        if self.output is not None:
            parts.append(f"{self.output:.4g} at the row")
        if self.baseline_output is not None:
            parts.append(f"{self.baseline_output:.4g} at the neutral input ({self.baseline})")
        if self.completeness_gap is not None:
            parts.append(f"completeness gap {self.completeness_gap:.2g}")
        parts.append(f"{self.forwards} model evaluations, {self.seconds:.2g} s, seed {self.seed}")
        return "; ".join(parts) + "."

    def __str__(self) -> str:
        scale = markup.scale_of(self.values)
        names = len({u.column for u in self.units if u.kind == "text"}) > 1
        lines = [_terminal(str(self.words())), ""]
        for unit, value in self.top(10):
            bar = ("█" if value > 0 else "░") * max(1, round(BAR * abs(value) / (scale or 1.0)))
            where = f" ({unit.column})" if names and unit.kind == "text" else ""
            lines.append(f"{markup.signed(value):>8}  {bar:<{BAR}}  {_terminal(unit.label + where)}")
        return "\n".join([*lines, "", _terminal(self.footer())])


def _terminal(text: str) -> str:
    """Return text without control characters, which could move the cursor or change colours."""
    return "".join(c if c.isprintable() or c == " " else "\ufffd" for c in text)


def _storable(cell: Any, kind: str) -> Any:
    return markup.thumbnail(cell)[0] if kind == "image" and cell is not None else cell


def _restored(cell: Any, kind: str) -> Any:
    if kind == "number" and cell is None:
        return math.nan
    return markup.from_data_uri(cell) if kind == "image" and cell is not None else cell


def kinds_of(columns: Sequence[Any]) -> dict[str, str]:
    """Return the kind of each column of a schema."""
    return {column.name: column.kind for column in columns}
