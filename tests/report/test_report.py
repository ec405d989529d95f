import itertools
import json
import re
from dataclasses import FrozenInstanceError
from html.parser import HTMLParser

import pytest
import sample

from salience.core.errors import ConfigError, IntegrityError
from salience.core.io import dumps
from salience.report.report import Report

REPORTS = ["clothing", "minimal", "regression", "many_classes", "large"]
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Collect what the checks ask for, and that every element is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.shown = []
        self.ids, self.links, self.headings, self.stack, self.elements = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.elements.append((tag, found))
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found[k] for k in ("href", "src", "srcset", "action", "data") if k in found]
        self.headings += [int(tag[1])] if tag[0] == "h" and tag[1:].isdigit() else []
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.stack.pop()

    def handle_data(self, data):
        if self.stack and self.stack[-1] not in ("style", "script"):
            self.shown.append(data)

    def handle_endtag(self, tag):
        assert self.stack and self.stack[-1] == tag, f"</{tag}> closes {self.stack[-3:]}"
        self.stack.pop()


@pytest.fixture(params=REPORTS, scope="module")
def report(request):
    return getattr(sample, request.param)()


@pytest.fixture(scope="module")
def html(report):
    return report.to_html()


def test_the_page_is_well_formed_and_asks_for_nothing(html):
    text, page = html, Page(html)
    assert page.stack == []
    assert len(page.ids) == len(set(page.ids))
    for link in page.links:
        assert link.startswith(("#", "data:")), link
    for link in page.links:
        assert not link.startswith("#") or link[1:] in page.ids, link
    assert "@import" not in text
    assert "url(" not in text


def test_headings_never_skip_a_level(html):
    levels = Page(html).headings
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))


def test_no_undefined_number_is_printed(report, html):
    shown = " ".join(Page(html).shown)
    for text in (shown, report.to_markdown()):
        words = set(re.split(r"[^\w.−-]+", text))
        assert not words & {"nan", "NaN", "None", "inf", "-inf", "−inf", "undefined", "Undefined"}


def test_a_page_stays_small(html):
    assert len(html.encode()) < 2_000_000
    assert len(sample.clothing().to_html().encode()) < 400_000


def test_hostile_cells_stay_text():
    text = sample.clothing().to_html()
    page = Page(text)
    assert [tag for tag, _ in page.elements].count("script") == 2
    assert not any("onerror" in attributes for _, attributes in page.elements)
    assert not any(tag == "img" for tag, _ in page.elements)
    assert text.count("</style>") == 1


def test_the_policy_allows_only_this_style_and_script():
    page = Page(sample.clothing().to_html())
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"].startswith("'sha256-")
    assert "unsafe" not in rules["script-src"] + rules["style-src-elem"]
    assert rules["img-src"] == "data:"


def test_the_data_inside_the_page_can_be_read_back():
    text = sample.clothing().to_html()
    inside = text.split('id="report-data">')[1].split("</script>")[0]
    assert "<" not in inside
    data = json.loads(inside)
    assert data["metrics"]["test"]["auroc"]["value"] == 0.957
    assert data["run"]["schema"][1]["examples"][1] == sample.HOSTILE


def test_the_page_shows_every_part():
    text = sample.clothing().to_html()
    for finding in sample.findings():
        assert finding.question in text
    for anchor in (
        "summary",
        "performance",
        "examples",
        "importance",
        "findings",
        "data",
        "reproduce",
        "not-measured",
    ):
        assert f'<section id="{anchor}"' in text
    assert text.count('<article class="example"') == 12
    assert "b3dd4f34" in text
    assert "They describe the model, not the world" in text


def test_a_whole_matrix_is_drawn_and_a_list_of_pairs_is_not():
    text = sample.many_classes().to_html()
    assert text.count('class="chart matrix"') == 1
    assert text.count('class="tint') == 900
    assert "Most frequent confusions" in text


def test_images_are_embedded_and_missing_ones_are_said():
    report = sample.images(sample.picture())
    text = report.to_html()
    assert text.count("data:image/png;base64,") == 1
    assert text.count('<rect class="sal-p"') == 2
    assert "The image could not be read" in text
    assert "upper left" in text
    again = Report.from_json(
        json.loads(dumps(Report("Cats", report.run, explanations=report.explanations[:1]).to_json()))
    )
    assert again.to_html().count("data:image/png;base64,") == 1


def test_json_round_trip(report, html):
    stored = json.loads(dumps(report.to_json()))
    again = Report.from_json(stored)
    assert json.loads(dumps(again.to_json())) == stored
    assert again.to_html() == html
    assert again.to_markdown() == report.to_markdown()


@pytest.mark.parametrize("data", [{}, {"format": "salience-report", "version": 2}, [], None])
def test_other_data_are_refused(data):
    with pytest.raises(IntegrityError, match="not a report"):
        Report.from_json(data)


@pytest.mark.parametrize(
    ("name", "start"), [("r.html", "<!doctype html>"), ("r.md", "# Would"), ("R.JSON", "{")]
)
def test_save_chooses_the_form_by_suffix(tmp_path, name, start):
    path = sample.clothing().save(tmp_path / name)
    assert path.read_text(encoding="utf-8").startswith(start)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_load_reads_what_save_wrote(tmp_path):
    report = sample.clothing()
    assert Report.load(report.save(tmp_path / "r.json")).to_html() == report.to_html()


def test_an_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="htm"):
        sample.minimal().save(tmp_path / "report.htm")
    assert list(tmp_path.iterdir()) == []


def test_a_report_cannot_be_changed():
    run = {"rows": {"test": 5}}
    report = Report("t", run)
    run["rows"]["test"] = 6
    assert report.run["rows"]["test"] == 5
    with pytest.raises(FrozenInstanceError):
        report.title = "other"


def test_text_and_notebook_forms():
    report = sample.clothing()
    text = str(report)
    assert text.startswith("Would they recommend it?\nWhat does it predict?")
    assert text.endswith("Findings: 1 fail, 2 warn, 4 pass, 1 info, 1 not measured.")
    frame = Page(report._repr_html_())
    tag, attributes = frame.elements[0]
    assert tag == "iframe"
    assert attributes["srcdoc"] == report.to_html()
    assert attributes["sandbox"] == "allow-scripts"


def test_markdown_escapes_and_holds_the_same_content():
    text = sample.clothing().to_markdown()
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    for finding in sample.findings():
        assert f"### {finding.question}" in text
    assert text.count("### Example ") == 12
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.count("|") - line.count("\\|") >= 3
    assert "| logistic regression, test | 0.948 (0.942 to 0.954) |" in text


def test_markdown_tables_have_as_many_cells_in_every_line():
    blocks = [b for b in sample.clothing().to_markdown().split("\n\n") if "|---" in b]
    assert len(blocks) > 20
    for block in blocks:
        lines = [line.replace("\\|", "") for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) == 1
