"""Tables in the documentation are those of the records that the commands wrote."""

import json
from pathlib import Path

ROOT = Path(__file__).parent.parent
RECORD = ROOT / "benchmarks" / "reproduce_explainers.json"
PAGE = ROOT / "docs" / "how-to" / "compare-explainers.md"


def measured(record):
    """Return the measured part of the page on explainers, from the record of ``salience reproduce explainers``."""
    parts = []
    for name, table in record["tables"].items():
        scores, legend, costs, *_ = table.split("\n\n")
        head = f"### {name}: a model that is right on {record['accuracy'][name]:.1f} % of its test rows"
        parts.append("\n\n".join([head, scores, legend, costs]))
    return "\n\n".join(parts) + "\n"


def test_the_page_on_explainers_shows_its_record():
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    assert measured(record) in PAGE.read_text(encoding="utf-8")
    methods = {row["method"] for row in record["rows"]}
    assert len(methods) >= 10
    assert len({row["metric"] for row in record["rows"]}) >= 5


def test_the_page_on_ground_truth_shows_its_record():
    path = ROOT / "benchmarks" / "reproduce_attribution_ground_truth.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "how-to" / "ground-truth.md").read_text(encoding="utf-8")
    shown = {key: text for key, text in record["summary"].items() if key not in ("paper", "left out")}
    assert len(shown) >= 9
    assert all(f"- **{key}**: {text}" in page for key, text in shown.items())
    assert len({(row["experiment"], row["setting"]) for row in record["rows"]}) >= 50
