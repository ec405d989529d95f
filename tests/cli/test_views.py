import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from salience.cli import views
from salience.core.finding import Finding
from salience.core.unit import Unit


def text(*parts, width=200):
    file = io.StringIO()
    console = Console(file=file, width=width, highlight=False)
    for part in parts:
        console.print(part)
    return file.getvalue()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.12345, "0.123"),
        (None, "–"),
        (float("nan"), "–"),
        (123456.0, "1.23e+05"),
        (0.00012, "0.00012"),
        (0.0, "0.000"),
    ],
)
def test_numbers(value, expected):
    assert views.number(value) == expected


def test_interval():
    assert views.with_interval({"value": 0.951, "interval": [0.944, 0.958]}) == "0.951 (0.944 to 0.958)"
    assert views.with_interval({"value": 0.5, "interval": None}) == "0.500"
    assert views.with_interval(None) == "–"


def test_cells_are_text_and_never_markup():
    shown = text(
        views.records_table("[red]t", [{"[b]a": "[bold]x[/bold]", "n": 0.5}, {"[b]a": None, "n": 2}])
    )
    assert "[bold]x[/bold]" in shown
    assert "[red]t" in shown
    assert "[b]a" in shown
    assert "0.500" in shown


def test_metrics_stand_beside_baselines():
    metrics = {
        "task": "classification",
        "test": {
            "auroc": {"value": 0.95, "interval": [0.94, 0.96]},
            "baselines": {"majority": {"auroc": {"value": 0.5, "interval": [0.5, 0.5]}}},
        },
    }
    lines = text(views.metrics_table(metrics)).splitlines()
    assert "AUROC ↑" in lines[1]
    assert lines[2].split() == ["this", "model", "0.950", "(0.940", "to", "0.960)"]
    assert lines[3].split() == ["majority", "0.500", "(0.500", "to", "0.500)"]


def test_findings_come_worst_first_with_advice():
    findings = [
        Finding("a", "?", "Good.", "pass", advice="Nothing."),
        Finding("b", "?", "Bad.", "fail", advice="Drop it."),
        Finding("c", "?", "Hm.", "warn"),
    ]
    lines = text(views.findings_table(findings)).splitlines()[2:]
    assert [line.split()[:2] for line in lines] == [["✗", "b"], ["!", "c"], ["✓", "a"]]
    assert "Bad. Drop it." in lines[0]
    assert "Nothing." not in lines[2]


def explanation(values):
    units = (
        Unit("review", "text", "soft", (4, 8)),
        Unit("review", "text", "thin", (13, 17)),
        Unit("age", "number", "age = 34"),
    )
    return SimpleNamespace(
        units=units, values=values, inputs={"review": "The soft but thin [one]", "age": 34}
    )


def test_units_are_marked_where_they_stand():
    review, age = views.highlighted(explanation((1.0, -0.6, 0.01)))
    marked = [
        (review.plain[span.start : span.end], str(span.style))
        for span in review.spans
        if "bold" in str(span.style)
    ]
    assert marked == [("soft", "reverse bold blue"), ("thin", "reverse bold underline dark_orange")]
    assert review.plain == "review: The soft but thin [one]"
    assert "age = 34" in age.plain
    assert not [span for span in age.spans if "bold" in str(span.style)]


def test_nothing_is_marked_where_nothing_matters():
    assert not any(
        "bold" in str(s.style) for line in views.highlighted(explanation((0.0,) * 3)) for s in line.spans
    )
