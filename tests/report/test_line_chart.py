import xml.etree.ElementTree as ET

import pytest

from salience.report.line_chart import line_chart
from salience.report.tables import figure

HOSTILE = '<script>alert("x")</script>'
RECORDS = [
    {"line": name, "epoch": epoch, "value": value, "low": value - 1, "high": value + 1}
    for name, values in (("real labels", (9.0, 5.0, 3.0)), (HOSTILE, (1.0, 1.5, 2.0)))
    for epoch, value in zip((0, 0.5, 1.0), values, strict=True)
]


def drawn(markup):
    return ET.fromstring(markup)


def test_points_lie_at_their_values_and_lines_join_them():
    root = drawn(line_chart("t", "d", RECORDS, "epoch", reference=1.0))
    dots = [c for c in root.iter("circle") if c.get("class") == "accent" and c.get("r") == "4"]
    x = [float(c.get("cx")[:-1]) for c in dots]
    y = [float(c.get("cy")) for c in dots]
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.02)
    assert (y[1] - y[0]) / (y[2] - y[1]) == pytest.approx(2, rel=1e-3)  # 9 → 5 → 3, larger values above
    joins = [e for e in root.iter("line") if e.get("class") == "curve accent"]
    assert [(float(e.get("y1")), float(e.get("y2"))) for e in joins] == [(y[0], y[1]), (y[1], y[2])]
    dashed = next(e for e in root.iter("line") if e.get("class") == "reference")
    others = [c for c in root.iter("circle") if c.get("class") == "other" and c.get("r") == "4"]
    assert float(dashed.get("y1")) == float(others[0].get("cy"))


def test_names_are_text():
    root = drawn(line_chart(HOSTILE, "d", RECORDS, "epoch"))
    assert root.find("title").text == HOSTILE
    assert root.find(".//script") is None


def test_intervals_that_are_not_known_are_left_out():
    records = [{**r, "low": None, "high": None} for r in RECORDS]
    root = drawn(line_chart("t", "d", records, "epoch"))
    assert not [e for e in root.iter("line") if e.get("class") == "interval"]
    assert len([c for c in root.iter("circle") if c.get("r") == "4"]) == 6


def test_one_point_and_none_are_drawn():
    drawn(line_chart("t", "d", RECORDS[:1], "epoch"))
    drawn(line_chart("t", "d", [{**RECORDS[0], "value": None}], "epoch"))


@pytest.mark.parametrize("axis", ["epoch", "step"])
def test_a_table_over_time_gets_the_picture(axis):
    records = [{**{axis if k == "epoch" else k: v for k, v in r.items()}, "reference": 1} for r in RECORDS]
    found = figure("m-coherence", records, "m-coherence")
    assert found.kind == "lines"
    assert "dashed line is at 1" in found.description
    assert 'class="reference"' in found.svg
