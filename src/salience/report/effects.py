"""How each column moves the prediction: the section of a report, and a page of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salience.core.errors import ConfigError, nearest
from salience.core.io import atomic_write_text, dumps
from salience.explain import markup
from salience.explain.tables import Effects
from salience.explain.tables.sentences import answer_of
from salience.report import svg
from salience.report.effect_charts import curve, direction_words, heat_map
from salience.report.numbers import between, number, percent, plural
from salience.report.tables import Figure, Table, table

CURVES, PAIRS = 12, 4  # pictures, at most
METHODS = {
    "ale": "Accumulated local effects: within each step, the change of the answer of the rows that lie there.",
    "partial_dependence": "Partial dependence: the mean answer with the column set to each value in all rows; dashed lines "
    "hold the curves of eight rows in ten.",
}  # fmt: skip


@dataclass(frozen=True)
class EffectsView:
    """What a page shows of effects.

    Attributes:
        lede: what was measured, on how many rows.
        sentences: in words, what the pictures do not say: that no pair is beyond noise, which columns are left out.
        overview: strength of each column beside what chance reaches.
        curves: one picture a column, strongest first.
        pairs: pictures of the pairs beyond noise.
        tables: directions, pairs and contributions by bin.
    """

    lede: str
    sentences: tuple[str, ...]
    overview: Figure
    curves: tuple[Figure, ...]
    pairs: tuple[Figure, ...]
    tables: tuple[Table, ...]


def view(effects: dict[str, Any]) -> EffectsView | None:
    """Return what a page shows; None where nothing was measured.

    Args:
        effects: what :meth:`salience.explain.tables.Effects.to_json` returns.
    """
    if not effects or not effects["curves"]:
        return None
    answer = answer_of(effects["target"], effects["quantity"])
    lede = (
        f"{METHODS[effects['method']]} On {plural(effects['rows'], 'row')}; the answer is {answer}, which spreads by "
        f"{number(effects['spread'])} (standard deviation). Bands and intervals are 95 % over resampled rows. They describe "
        "the model, not the world."
    )
    real = [pair for pair in effects["interactions"] if pair["real"]]
    tables = (
        _directions(effects["monotone"]),
        _pairs(effects["interactions"]),
        _bins(effects["contributions"]),
    )
    return EffectsView(
        lede,
        (*effects["closing"], *_more(len(real) - PAIRS)),
        _overview(effects["curves"]),
        tuple(_curve(line) for line in effects["curves"][:CURVES]),
        tuple(_pair(pair) for pair in real[:PAIRS]),
        tuple(found for found in tables if found.rows),
    )


def _more(pairs: int) -> tuple[str, ...]:
    """Return where the pairs without a picture are; nothing if there are none."""
    return (
        (f"{plural(pairs, 'weaker pair')} beyond noise {'are' if pairs > 1 else 'is'} in the table below.",)
        if pairs > 0
        else ()
    )


def _overview(curves: Sequence[dict[str, Any]]) -> Figure:
    title = "How strongly each column moves the answer"
    description = (
        "Standard deviation of each column's effect over the rows. Grey: not beyond noise. Chance: what the same rows reach "
        "in one case of twenty when each row's own effect is turned upside down at random."
    )
    rows = [
        svg.Row(
            line["column"],
            line["strength"],
            line["interval"],
            f"chance {number(line['control'])}",
            "accent" if line["real"] else "other",
        )
        for line in curves[:CURVES]
    ]
    records = [
        {
            "column": line["column"],
            "strength": line["strength"],
            "95 % interval": between(line["interval"]),
            "chance reaches": line["control"],
            "adjusted p": line["p_value"],
            "rows": line["rows"],
            "rows left out": line["left"],
        }
        for line in curves
    ]
    drawing = svg.row_chart(title, description, rows, bars=True)
    return Figure(title, description, drawing, table(title, records))


def _curve(line: dict[str, Any]) -> Figure:
    title, description = line["column"], " ".join(line["words"])
    records = [
        {"value": label, "effect": effect, "low": low, "high": high}
        for label, effect, low, high in zip(
            line["labels"], line["effect"], line["low"], line["high"], strict=True
        )
    ]
    if line["kind"] == "number":
        return Figure(title, description, curve(title, description, line), table(title, records))
    for record, rows in zip(records, line["counts"], strict=True):
        record["rows"] = rows
    order = sorted(records, key=lambda r: -r["effect"])
    marks = [svg.Row(r["value"], r["effect"], (r["low"], r["high"]), plural(r["rows"], "row")) for r in order]
    drawing = svg.row_chart(
        title, description, marks, bars=False, reference=0.0, reference_label="mean", show=markup.signed
    )
    return Figure(title, description, drawing, table(title, order))


def _pair(pair: dict[str, Any]) -> Figure:
    title = " and ".join(pair["columns"])
    description = f"{pair['words']} Measured on {plural(pair['rows'], 'row')}."
    first, second = pair["columns"]
    records = [
        {first: a, second: b, "joint effect": pair["effect"][i][j]}
        for i, a in enumerate(pair["labels"][0])
        for j, b in enumerate(pair["labels"][1])
    ]
    return Figure(
        title, description, heat_map(title, description, pair), table(title, records), "interaction"
    )


def _directions(lines: Sequence[dict[str, Any]]) -> Table:
    records = [
        {
            "column": line["column"],
            "when it alone rises, the answer": direction_words(line),
            "rows where it falls": _moves(line["falls"]),
            "rows where it rises": _moves(line["rises"]),
            "steps where it falls": percent(line["falls"]["steps"]),
            "largest fall": _worst(line["falls"]["worst"]),
        }
        for line in lines
    ]
    looked = f"{lines[0]['rows']} rows followed over all values of one column" if lines else ""
    return table(f"Directions of number columns: {looked}", records)


def _moves(moves: dict[str, Any]) -> str:
    return f"{percent(moves['rows'])} ({between(moves['interval'], percent)})"


def _worst(worst: dict[str, Any] | None) -> str:
    if worst is None:
        return "none"
    return f"{markup.signed(worst['change'])}, row {worst['row']}, {number(worst['from'])} to {number(worst['to'])}"


def _pairs(lines: Sequence[dict[str, Any]]) -> Table:
    records = [
        {
            "pair": " and ".join(line["columns"]),
            "beyond noise": line["real"],
            "strength": line["strength"],
            "95 % interval": between(line["interval"]),
            "chance reaches": line["control"],
            "adjusted p": line["p_value"],
            "index with higher orders": line["index"],
        }
        for line in lines
    ]
    return table("Pairs of columns that stood out in a screening, measured on other rows", records)


def _bins(columns: Sequence[dict[str, Any]]) -> Table:
    records = [
        {
            "column": column["column"],
            "bin": line["label"],
            "mean contribution": markup.signed(line["mean"]),
            "95 % interval": between(line["interval"], markup.signed),
            "rows": line["rows"],
            "explanations that beat random": "—" if line["supported"] is None else percent(line["supported"]),
        }
        for column in columns
        for line in column["bins"]
    ]
    said = f" toward {columns[0]['toward']}, by {columns[0]['method']}" if columns else ""
    return table(f"Contributions by bin, from explanations of single rows{said}", records)


def render(effects: Effects, name: str) -> str:
    """Return a page of effects: one file that asks the network for nothing.

    Args:
        effects: what was measured.
        name: name of the model or the table, for the heading.
    """
    from salience.report.page import assets, template

    facts = [("rows", effects.rows), ("evaluations of the model", effects.forwards), ("seed", effects.seed)]
    settings = [{"fact": key, "value": f"{value:,}"} for key, value in facts]
    settings.append({"fact": "seconds", "value": number(effects.seconds)})
    return template("effects.html.j2").render(
        title=f"How each column moves {answer_of(effects.target, effects.quantity)}",
        subtitle=name,
        e=view(effects.to_json()),
        settings=table("How it was measured", settings),
        **assets(),
    )


def save(effects: Effects, path: Path | str, name: str = "") -> Path:
    """Write effects; the suffix chooses the form: ``.html`` or ``.json``.

    Raises:
        ConfigError: the suffix is neither.
    """
    path = Path(path)
    forms = {".html": lambda: render(effects, name), ".json": lambda: dumps(effects.to_json()) + "\n"}
    form = forms.get(path.suffix.lower())
    if form is None:
        raise ConfigError(f"Effects cannot be saved as {path.name!r}", "", nearest(path.suffix, forms))
    return atomic_write_text(path, form())
