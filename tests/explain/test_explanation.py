import json
import math
import re
from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from salience.core.errors import ConfigError
from salience.explain import markup
from salience.explain.engine import explain
from salience.explain.explanation import Explanation
from salience.testing.toy import LinearToy, toy_frame
from salience.testing.words import random_explanation

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def explanation():
    frame = toy_frame(1, 41, image=True)
    frame.loc[0, "review"] = "great <b>dress</b> & \"soft\" 'fits'"
    return explain(LinearToy(image=True), frame, target="yes")[0]


def test_json_round_trip(explanation):
    data = json.loads(json.dumps(explanation.to_json()))
    again = Explanation.from_json(data)
    assert again.to_json() == data
    assert again.values == explanation.values
    assert again.faithfulness == explanation.faithfulness
    assert str(again.words()) == str(explanation.words())


@pytest.mark.parametrize("seed", range(20))
def test_json_round_trip_of_odd_explanations(seed):
    data = json.loads(json.dumps(random_explanation(seed).to_json(), allow_nan=False))
    assert Explanation.from_json(data).to_json() == data


def test_unknown_fields_of_a_later_version_are_ignored(explanation):
    data = {**explanation.to_json(), "from_the_future": 1}
    assert Explanation.from_json(data).to_json() == explanation.to_json()


def test_a_restored_picture_can_be_explained_again(explanation):
    again = Explanation.from_json(explanation.to_json())
    model = LinearToy(image=True)
    assert len(model.units(again.inputs)) == len(explanation.units)


def test_evidence_survives():
    first = explain(LinearToy(), toy_frame(1, 42), method="attention", faithfulness=False)[0]
    again = Explanation.from_json(json.loads(json.dumps(first.to_json())))
    assert again.evidence["text/source2token"] == pytest.approx(first.evidence["text/source2token"])


def test_top_and_frame(explanation):
    top = explanation.top(3)
    sizes = [abs(value) for _, value in top]
    assert sizes == sorted((abs(v) for v in explanation.values), reverse=True)[:3]
    frame = explanation.to_frame()
    assert list(frame.columns) == ["row", "position", "column", "kind", "unit", "value", "share"]
    assert frame["share"].sum() == pytest.approx(1.0)
    assert len(frame) == len(explanation.units)


def test_values_that_are_not_numbers_are_left_out_of_top(explanation):
    holes = replace(explanation, values=(math.nan,) * len(explanation.values))
    assert holes.top(3) == []
    assert "not measured" in holes.to_html()
    assert str(holes)


def test_it_is_immutable_and_checks_its_length(explanation):
    with pytest.raises(FrozenInstanceError):
        explanation.seed = 1
    with pytest.raises(ConfigError, match="one value a unit"):
        replace(explanation, values=(1.0,))


def test_html_is_whole_and_escaped(explanation):
    html = explanation.to_html()
    assert "<b>" not in html.replace("</b>", "")
    assert "&lt;" in html
    assert not re.search(r"(src|href)=\"(?!data:image/png;base64,)", html)
    assert "http" not in html
    text = re.sub(r"<[^>]*>", "", re.sub(r"<style>.*?</style>", "", html, flags=re.S))
    for word in ("dress", "great", "soft"):
        assert word in text
    assert html.count("<mark") >= 3
    assert html.count("<rect") >= 3
    assert explanation._repr_html_() == html


def test_html_tags_are_balanced():
    from html.parser import HTMLParser

    class Balance(HTMLParser):
        def __init__(self):
            super().__init__()
            self.open = []

        def handle_starttag(self, tag, attrs):
            self.open.append(tag)

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

        def handle_startendtag(self, tag, attrs):
            pass

    for seed in range(40):
        parser = Balance()
        parser.feed(random_explanation(seed).to_html())
        assert parser.open == []


def test_the_text_itself_is_unchanged_by_marks():
    from html import unescape

    explanation = random_explanation(0, [1.0, -2.0, 0.0], "He said “no” <tag> & more,  with  spaces")
    units = [u for u in explanation.units if u.column == "title"]
    html = markup.text_html(explanation.inputs["title"], units, [1.0] * len(units), 1.0)
    assert unescape(re.sub(r"<[^>]*>", "", html)) == explanation.inputs["title"]


def test_sign_shows_without_colour(explanation):
    html = explanation.to_html(style=False)
    assert "sal-p" in html
    assert "sal-n" in html
    assert "dashed" in markup.STYLE
    assert "speaks against yes" in html


def _luminance(colour):
    parts = [(c / 255 / 12.92 if c / 255 <= 0.03928 else ((c / 255 + 0.055) / 1.055) ** 2.4) for c in colour]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def _contrast(a, b):
    light, dark = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(
    ("mode", "page", "ink"),
    [("light", (255, 255, 255), (26, 26, 26)), ("dark", (18, 20, 24), (232, 232, 232))],
)
@pytest.mark.parametrize("sign", ["positive", "negative"])
def test_text_on_the_strongest_tint_can_be_read(mode, page, ink, sign):
    colour = [int(markup.COLOURS[mode][sign][i : i + 2], 16) for i in (1, 3, 5)]
    tint = [markup.TINT / 100 * c + (1 - markup.TINT / 100) * p for c, p in zip(colour, page, strict=True)]
    assert _contrast(tint, ink) >= 4.5
    assert _contrast(colour, page) >= 3.0  # the lines


def test_text_for_the_terminal(explanation):
    text = str(explanation)
    assert str(explanation.words()) in text
    assert re.search(r"[+−]\d", text)
    assert "completeness gap" in text


def test_a_terminal_cannot_be_commanded():
    explanation = random_explanation(0, [1.0], "red\x1b[31m word\u202e")
    assert "\x1b" not in str(explanation)
    assert "\u202e" not in str(explanation)


def test_save(tmp_path, explanation):
    saved = json.loads(explanation.save(tmp_path / "one.json").read_text(encoding="utf-8"))
    assert Explanation.from_json(saved).values == explanation.values
    page = explanation.save(tmp_path / "one.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    with pytest.raises(ConfigError, match=r"End in \.json, \.html or \.png"):
        explanation.save(tmp_path / "one.txt")
