"""The reproduction of saliency map verbalization on made-up data: its arithmetic, its data, its parts."""

import csv
import gzip
import json
import math

import numpy as np
import pytest
import torch

from salience.core.errors import ConfigError, DataError
from salience.core.stats import generator
from salience.data.kinds import KINDS
from salience.explain.explanation import Explanation
from salience.explain.words.endpoints import ChatEndpoint, EndpointError, Reply
from salience.explain.words.evaluation import measure
from salience.reproduce import smv, smv_sets
from salience.testing.chat_server import ChatServer

ROWS = 70
GOOD, BAD, FILL = (
    ("great", "fine", "lovely"),
    ("awful", "dull", "poor"),
    ("plot", "film", "scene", "the", "a", ","),
)
PLAN = {"sets": ("imdb", "ag_news", "trec"), "train": 50, "epochs": 1, "rows": 12, "told": 6, "asked": 12}


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setenv("SALIENCE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(smv_sets, "TOLD_TRAIN", 40)
    monkeypatch.setattr(smv, "STUDENTS", ("naive_bayes",))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def texts(labels, choices):
    rng = generator(0, "texts")
    return [" ".join([*rng.choice(FILL, 5), rng.choice(choices[label])]) for label in labels]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    labels = [i % 2 for i in range(ROWS)]
    reviews = texts(labels, (BAD, GOOD))
    (root / "imdb").mkdir()
    for part in ("train", "test"):
        lines = [json.dumps({"id": i, "label": n, "text": f"{t}<br />"}) for i, (n, t) in enumerate(zip(labels, reviews, strict=True))]  # fmt: skip
        with gzip.open(root / "imdb" / f"{part}.jsonl.gz", "wt") as file:
            file.write("\n".join([*lines, json.dumps({"label": 1, "text": "long " * 200})]))
    (root / "ag_news").mkdir()
    topics = [i % 4 for i in range(ROWS)]
    news = texts(topics, (("war",), ("goal",), ("bank",), ("robot",)))
    for part, rows in (
        ("train_subset", [[n, t] for n, t in zip(topics, news, strict=True)]),
        ("test", [[n + 1, "title", f"{t}\\more"] for n, t in zip(topics, news, strict=True)]),
    ):
        with gzip.open(root / "ag_news" / f"{part}.csv.gz", "wt", newline="") as file:
            csv.writer(file).writerows(rows)
    (root / "trec").mkdir()
    kinds = [i % 6 for i in range(ROWS)]
    asked = texts(kinds, [(word,) for word in ("how", "what", "short", "who", "where", "many")])
    for part in ("train", "test"):
        lines = [f"{n} {t} ?" for n, t in zip(kinds, asked, strict=True)]
        (root / "trec" / f"TREC.{part}.all").write_text("\n".join(lines), encoding="latin-1")
    (root / "adult").mkdir()
    rng = generator(1, "adult")
    with gzip.open(root / "adult" / "adult-train.csv.gz", "wt") as file:
        for i in range(ROWS):
            numbers = {"age", "fnlwgt", "education_num", "gain", "loss", "hours"}
            cells = [str(rng.integers(0, 90)) if c in numbers else str(rng.choice(["x", "y", "?"])) for c in smv_sets.ADULT[:-1]]  # fmt: skip
            file.write(", ".join([*cells, (">50K", "<=50K")[i % 2]]) + "\n")
    return root


def test_sets_are_read_as_they_are(data):
    train, test = smv_sets.frames(data, "imdb")
    assert len(train) == len(test) == ROWS  # the long review is left out
    assert train["sentiment"].tolist()[:2] == ["negative", "positive"]
    assert not train["text"].str.contains("<").any()
    train, test = smv_sets.frames(data, "ag_news")
    assert train["topic"].tolist() == test["topic"].tolist()
    assert test["text"][0].startswith("title ")
    assert not test["text"].str.contains("\\", regex=False).any()
    assert set(smv_sets.frames(data, "trec")[0]["asked for"]) == set(smv_sets.QUESTIONS)


@pytest.fixture(scope="module")
def found():
    """Explanations of a hand-set model that goes by one word."""
    labels = [i % 2 for i in range(24)]
    explanations = []
    for row, text in enumerate(texts(labels, (BAD, GOOD))):
        units = KINDS["text"].units("text", text)
        sign = 1 if labels[row] else -1
        values = [
            1.0 if u.label in GOOD + BAD else 0.01 * ((i * 7 + row) % 5 - 2) for i, u in enumerate(units)
        ]
        name = ("negative", "positive")[sign > 0]
        explanations.append(
            Explanation(
                units=units, values=tuple(values), inputs={"text": text}, kinds={"text": "text"}, row=row, method="made_up",
                target=name, quantity="log-odds", prediction=name, probability=0.9, output=1.0, baseline_output=0.0,
                baseline="nothing", target_column="sentiment",
            ).to_json()
        )  # fmt: skip
    return {
        "accuracy": 1.0,
        "classes": ["negative", "positive"],
        "seconds": 0.5,
        "explanations": explanations,
    }


def test_the_whole_and_that_finished_work_is_kept(data, found, monkeypatch):
    monkeypatch.setattr(smv, "QUICK", {**PLAN, "sets": ("imdb",)})
    monkeypatch.setattr(smv_sets, "_explained", lambda *a: found)
    monkeypatch.setattr(smv, "of_each_kind", lambda *a: {"mixed": lambda: smv_sets._mixed(4, 0)})
    first = smv.run(data, quick=True)
    parts = [row["part"] for row in first["rows"]]
    assert [parts.count(p) for p in ("classifier", "coverage", "text", "instructed", "read back")] == [
        1,
        20,
        4,
        1,
        1,
    ]
    assert parts.count("student") == 2 * 6 + 8
    assert parts.count("pair") == 2 * 15
    coverage = [row for row in first["rows"] if row["part"] == "coverage"]
    assert [row["published"] for row in coverage] == [None] * 10 + list(smv.PUBLISHED["imdb", "study"])
    assert all(0 <= row["by_place"] <= 1 and row["low"] <= row["value"] <= row["high"] for row in coverage)
    notes = {row["name"]: row.get("note") for row in first["rows"] if row["part"] == "text"}
    assert notes == {"template": None, "study": None, "instructed": "not measured", "instructed, unchecked": "not measured"}  # fmt: skip
    template = next(row for row in first["rows"] if row["part"] == "text")
    assert [template[c] for c in ("sign", "rank", "value", "quote_precision", "hallucinations")] == [
        1,
        1,
        1,
        1,
        0,
    ]
    people = {row["name"]: row["people"] for row in first["rows"] if row["part"] == "student"}
    assert people["heat map"] == 0.9075
    assert people["instructed"] == 0.9406
    assert people["random explanation"] is None
    assert {"read back, mixed", "template, imdb", "student, imdb (chance 50 %)"} <= set(first["summary"])

    def refused(*arguments):
        raise AssertionError("trained again")

    monkeypatch.setattr(smv_sets, "_explained", refused)
    assert smv.run(data, quick=True) == first


def test_a_student_learns_from_explanations_of_a_model_that_goes_by_one_word(found):
    rows = smv.student_rows("imdb", found["classes"], smv_sets.restored(found), [])
    best = {row["name"]: row["accuracy"] for row in rows if row["part"] == "student" and row.get("sides")}
    told = [best[name] for name in ("heat map", "rationale", "template", "study")]
    assert best["heat map"] == 1.0
    assert min(told) > best["random explanation"]


def test_words_of_a_language_model_are_asked_for_once(found, tmp_path):
    def answer(question):
        told = next(word for word in GOOD + BAD if f"{word} (1.00)" in question)
        return f'"{told}" is the most important.' if told in GOOD else f'"{told}" (0.10) speaks against it.'

    with ChatServer(answer) as server:
        asked = smv.Remembered(ChatEndpoint(server.url, "m"), tmp_path / "answers.json")
        rows = smv.set_rows("imdb", found, asked, 12)
        assert len(server.requests) == 12
    kept = next(row for row in rows if row["part"] == "instructed")
    assert (kept["rows"], kept["value"], kept["note"]) == (12, 0.5, "score 6, sign 6")
    text = {row["name"]: row for row in rows if row["part"] == "text"}
    assert (text["instructed, unchecked"]["sign"], text["instructed, unchecked"]["rank"]) == (0.5, 1.0)
    assert text["instructed, unchecked"]["value"] == 0.0
    names = {row["name"] for row in rows if row["part"] == "student" and row["subset"] == "asked rows"}
    assert {"instructed", "instructed, unchecked", "template", "masked text alone"} <= names
    assert smv.set_rows("imdb", found, smv.Remembered(None, tmp_path / "answers.json"), 12) == rows


def test_rejected_answers_show_the_template(found, tmp_path):
    with ChatServer("No idea.") as server:
        rows = smv.set_rows(
            "imdb", found, smv.Remembered(ChatEndpoint(server.url, "m"), tmp_path / "a.json"), 12
        )
    text = {row["name"]: row for row in rows if row["part"] == "text"}
    assert (text["instructed"]["sign"], text["instructed"]["value"]) == (1.0, 1.0)
    assert math.isnan(text["instructed, unchecked"]["sign"])


@pytest.mark.slow
def test_a_classifier_is_trained_and_explained(data, tmp_path):
    result = smv_sets.explained(data, "ag_news", PLAN, 0, tmp_path)
    assert 0 <= result["accuracy"] <= 1
    assert sorted(result["classes"]) == sorted(smv_sets.TOPICS)
    explanations = smv_sets.restored(result)
    assert [len(e.units) > 0 and e.faithfulness is not None for e in explanations] == [True] * PLAN["rows"]


def test_nobody_is_asked_without_an_endpoint(tmp_path):
    with pytest.raises(EndpointError) as raised:
        smv.Remembered(None, tmp_path / "none.json").ask("why?")
    assert raised.value.reason == "not measured"
    with pytest.raises(ConfigError):
        smv.run(endpoint="http://127.0.0.1:1/v1")


@pytest.mark.parametrize("kind", ["text", "number", "category", "image", "mixed"])
def test_sentences_of_each_kind_are_read_back(data, kind):
    explanations = smv_sets.of_each_kind(data, 6, 0)[kind]()
    assert len(explanations) == 6
    kinds = {unit.kind for e in explanations for unit in e.units}
    assert kinds == ({kind} if kind != "mixed" else {"text", "number", "category", "image"})
    row = smv.read_back_row(kind, explanations)
    assert (row["value"], row["rows"]) == (1.0, 6)
    assert [row[name] for name in ("sign", "rank", "number", "share", "hallucinations")] == [1, 1, 1, 1, 0]
    assert sum(e.faithfulness is not None for e in explanations) >= 1


def test_false_sentences_are_found_out(found, monkeypatch):
    first, *others = smv_sets.restored(found)
    wrong = first.words()
    monkeypatch.setattr(type(first), "words", lambda self, **options: wrong)
    assert smv.read_back_row("text", [first])["value"] == 1.0
    assert smv.read_back_row("text", [first, *others])["value"] < 0.2


def test_coverage_rows_are_means(found):
    explanations = smv_sets.restored(found)
    measured = [measure(e.words(), e) for e in explanations]
    rows = smv.coverage_rows("other", "template", measured)
    assert rows[0]["value"] == pytest.approx(np.nanmean([m.coverage[0] for m in measured]))
    assert rows[0]["published"] is None
    assert smv.coverage_rows("imdb", "instructed", []) == []


def test_absent_data_are_named(tmp_path):
    with pytest.raises(DataError):
        smv_sets.frames(tmp_path, "imdb")


def test_a_reply_is_kept_as_it_was(tmp_path):
    class Once:
        def ask(self, prompt, *, seed=0):
            return Reply("words", False)

    smv.Remembered(Once(), tmp_path / "a.json").ask("why?", seed=1)
    assert smv.Remembered(None, tmp_path / "a.json").ask("why?", seed=1) == Reply("words", False)
