import xml.etree.ElementTree as ET

import numpy as np
import pytest

from salience.report import svg

HOSTILE = '<script>alert("x")</script>'


def drawn(markup):
    return ET.fromstring(markup)  # also proves that the drawing is well formed


def test_row_chart_names_itself_and_escapes():
    chart = svg.row_chart(HOSTILE, "d & e", [svg.Row(HOSTILE, 0.5, (0.4, 0.6))], bars=True)
    root = drawn(chart)
    assert root.get("role") == "img"
    assert root.find("title").text == HOSTILE
    assert root.find("desc").text == "d & e"
    assert root.find(".//script") is None


def test_bars_start_at_zero_and_have_lengths_in_proportion():
    root = drawn(
        svg.row_chart("t", "d", [svg.Row("a", 0.2), svg.Row("b", 0.4), svg.Row("c", -0.1)], bars=True)
    )
    start, width = zip(
        *((float(r.get("x")[:-1]), float(r.get("width")[:-1])) for r in root.iter("rect")), strict=True
    )
    assert width[1] == pytest.approx(2 * width[0], abs=0.05)
    assert width[2] == pytest.approx(width[0] / 2, abs=0.05)
    assert start[0] == start[1] == pytest.approx(start[2] + width[2], abs=0.05)


def test_an_interval_lies_where_its_ends_are():
    root = drawn(
        svg.row_chart(
            "t", "d", [svg.Row("a", 2.0, (1.0, 3.0)), svg.Row("b", 1.0), svg.Row("c", 3.0)], bars=False
        )
    )
    dots = [float(c.get("cx")[:-1]) for c in root.iter("circle")]
    line = next(e for e in root.iter("line") if e.get("class") == "interval")
    assert float(line.get("x1")[:-1]) == pytest.approx(dots[1])
    assert float(line.get("x2")[:-1]) == pytest.approx(dots[2])


@pytest.mark.parametrize(
    "rows", [[], [svg.Row("a", None)], [svg.Row("a", float("nan"), (float("nan"), 1.0))], [svg.Row("a", 0.0)]]
)
@pytest.mark.parametrize("bars", [True, False])
def test_undefined_values_draw_nothing_wrong(rows, bars):
    chart = svg.row_chart("t", "d", rows, bars=bars, reference=None)
    drawn(chart)
    assert "nan" not in chart.lower().replace("nano", "")


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.45, 0.97), (-0.16, 0.04), (0, 115300), (1e-6, 3e-6), (-5, -4.999)]
)
def test_ticks_are_round_and_inside(low, high):
    ticks = np.array(svg.ticks(low, high))
    assert 2 <= len(ticks) <= 12
    assert (ticks >= low - 1e-9 * abs(low)).all()
    assert (ticks <= high + 1e-9 * abs(high)).all()
    mantissa = np.diff(ticks)[0] / 10 ** np.floor(np.log10(np.diff(ticks)[0]) + 1e-9)
    assert min(abs(mantissa - m) for m in (1, 2, 5, 10)) < 1e-3


def test_ticks_of_an_empty_range():
    assert svg.ticks(3.0, 3.0) == [3.0]


def test_reliability_points_lie_on_the_diagonal_when_calibrated():
    bins = [
        {"confidence": c, "observed": c, "low": c - 0.05, "high": c + 0.05, "rows": 10}
        for c in (0.1, 0.5, 0.9)
    ]
    root = drawn(svg.reliability("t", "d", bins))
    points = [(float(c.get("cx")[:-1]), float(c.get("cy"))) for c in root.iter("circle")]
    diagonal = next(e for e in root.iter("line") if e.get("class") == "reference")
    x1, x2 = (float(diagonal.get(k)[:-1]) for k in ("x1", "x2"))
    y1, y2 = (float(diagonal.get(k)) for k in ("y1", "y2"))
    for x, y in points:
        assert y == pytest.approx(y1 + (y2 - y1) * (x - x1) / (x2 - x1), abs=0.2)


def test_reliability_leaves_undefined_bins_out():
    bins = [{"confidence": 0.1, "observed": None, "low": None, "high": None, "rows": 0}, {"confidence": 0.9, "observed": 0.8, "low": None, "high": None, "rows": 4}]  # fmt: skip
    root = drawn(svg.reliability("t", "d", bins))
    assert len(list(root.iter("circle"))) == 1


def test_confusion_tints_by_share_of_the_line():
    counts = {("a", "a"): 99, ("a", "b"): 1, ("b", "b"): 0}
    root = drawn(svg.confusion("t", "d", ["a", "b"], counts))
    tints = [r.get("class") for r in root.iter("rect")]
    assert tints == ["tint t5 hit", "tint t1 miss", "tint t0 miss", "tint t0 hit"]
    assert "99" in [t.text for t in root.iter("text")]
