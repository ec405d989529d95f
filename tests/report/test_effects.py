import json
import re
import subprocess
import sys

import pytest

from salience.core.errors import ConfigError
from salience.explain.engine import explain
from salience.explain.tables import Settings, effects
from salience.report import effect_charts
from salience.report.effects import save, view
from salience.report.report import Report
from tables_models import model, table

LOOK = Settings(rows=300, steps=6, followed=40, pairs=4, pair_rows=150, pair_steps=3)


@pytest.fixture(scope="module")
def found():
    frame = table(300).assign(k=lambda f: f.k.where(f.k < 55, 40_000.0))
    frame = frame.rename(columns={"b": "<b>&"})
    made, rows = model(lambda f: 3 * f.a + f.c * f.d + f.g.map({"u": 0, "v": 1, "w": -1}), frame)
    told = explain(made, rows.head(40), method="leave_one_out")
    return effects(made, rows, settings=LOOK, explanations=told)


def test_view_has_a_picture_a_column_and_a_pair_beyond_noise(found):
    shown = view(found.to_json())
    assert [f.title for f in shown.curves] == [c.column for c in found.curves]
    assert [f.title for f in shown.pairs] in (["c and d"], ["d and c"])
    assert len(shown.overview.table.rows) == len(found.curves)
    captions = [t.caption.partition(":")[0] for t in shown.tables]
    assert len(captions) == 3 and captions[0] == "Directions of number columns"
    assert "Contributions by bin" in captions[2]
    assert view({}) is None


def test_report_holds_the_section_in_all_forms(found):
    report = Report("A table", effects=found.to_json())
    page, text = report.to_html(), report.to_markdown()
    assert page.count('id="effects"') == 1 and 'href="#effects"' in page
    assert "## How each column moves the prediction" in text
    assert "the higher, the higher the predicted “y”" in text
    assert "<b>&" not in page and "&lt;b&gt;&amp;" in page
    assert Report.from_json(json.loads(json.dumps(report.to_json()))).effects == report.effects


def test_report_without_effects_has_no_section():
    report = Report("A table")
    assert 'id="effects"' not in report.to_html()
    assert "How each column" not in report.to_markdown()
    old = report.to_json()
    del old["effects"]  # as reports of before were saved
    assert Report.from_json(old).effects == {}


def test_page_of_its_own(found, tmp_path):
    page = save(found, tmp_path / "effects.html", "a model").read_text(encoding="utf-8")
    assert "<h1>How each column moves the predicted “y”</h1>" in page
    assert not re.search(r'(src|href)="https?:', page)
    assert not re.search(r"\bnan\b", page, flags=re.IGNORECASE)
    data = json.loads(save(found, tmp_path / "effects.json").read_text(encoding="utf-8"))
    assert data == json.loads(json.dumps(found.to_json()))
    with pytest.raises(ConfigError, match=r"effects\.pdf"):
        save(found, tmp_path / "effects.pdf")


def test_band_holds_the_curve_and_counts_add_up(found):
    line = next(c for c in found.to_json()["curves"] if c["column"] == "a")
    drawing = effect_charts.curve("a", "what it does", line)
    band = [
        tuple(map(float, p.split(","))) for p in re.search(r'polygon points="([^"]+)"', drawing)[1].split()
    ]
    middle = [
        tuple(map(float, p.split(","))) for p in re.search(r'polyline points="([^"]+)"', drawing)[1].split()
    ]
    half = len(middle)
    assert len(band) == 2 * half
    for (x, y), (_, low), (_, high) in zip(middle, band[:half], reversed(band[half:]), strict=True):
        assert high <= y <= low and 0 <= x <= 1000  # pixels grow downwards
    rows = [int(n.replace(",", "")) for n in re.findall(r"([\d,]+) rows?</title>", drawing)]
    assert sum(rows) == line["rows"]


def test_one_wide_step_makes_points_stand_evenly():
    assert effect_charts.positions([0.0, 1.0, 2.0, 99_999.0]) == ([0, 1 / 3, 2 / 3, 1], True)
    assert effect_charts.positions([0.0, 1.0, 3.0, 4.0]) == ([0, 0.25, 0.75, 1.0], False)
    assert effect_charts.positions([0.0, 1.0]) == ([0.0, 1.0], False)


def test_heat_map_has_a_tile_a_pair_of_points_and_marks_empty_ones(found):
    pair = dict(found.to_json()["interactions"][0])
    drawing = effect_charts.heat_map("c and d", "together", pair)
    across, down = pair["labels"]
    assert drawing.count("<rect") == len(across) * len(down)
    pair["counts"] = [[0] * len(row) for row in pair["counts"]]
    empty = effect_charts.heat_map("c and d", "together", pair)
    assert empty.count("no row near it") == len(across) * len(down) and "tint t0" in empty


def test_reading_effects_needs_no_torch():
    asked = "import sys, salience.report.effects, salience.explain.tables; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
