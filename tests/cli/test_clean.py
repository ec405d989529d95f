"""``salience clean``: what it writes and says."""

import json
from html.parser import HTMLParser

import pandas as pd
import pytest

from salience.cli import main as cli
from salience.data.datasets.toy_reviews import load

HOSTILE = "<script>alert('id')</script>"


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    """Return a file of 60 different reviews, two copies and three broken ones."""
    texts = load(rows=200)["review"].drop_duplicates().tolist()[:60]
    texts = [f"{text} It was order number {number} of this year." for number, text in enumerate(texts)]
    texts += [texts[7], texts[7].upper(), "short", "\ufffd" * 70, "<b>only</b> &lt;i&gt;" + " & % $ #" * 20]
    path = tmp_path_factory.mktemp("clean") / "reviews.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def run(capsys, *arguments):
    capsys.readouterr()
    code = cli.main(["clean", *map(str, arguments)])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


def ids(path):
    return [json.loads(line)["id"] for line in path.read_text(encoding="utf-8").splitlines()]


def test_it_writes_corpus_dropped_and_report(capsys, reviews, tmp_path):
    said = json.loads(run(capsys, reviews, "--out", tmp_path, "--rounds", 0, "--json"))
    assert {name: path.rsplit("/", 1)[1] for name, path in said["files"].items()} == {
        "corpus": "corpus.jsonl", "dropped": "dropped.jsonl", "report": "report.html", "data": "report.json"
    }  # fmt: skip
    assert said["sizes"]["documents read"] == 65
    assert said["sizes"]["documents kept"] == len(ids(tmp_path / "corpus.jsonl"))
    assert set(said["dropped"]["documents"]) >= {"reviews.jsonl:61", "reviews.jsonl:62"}
    assert {k: said["dropped"][k] for k in ("too_short", "garbled", "few_letters")} == {
        "too_short": ["reviews.jsonl:63"], "garbled": ["reviews.jsonl:64"], "few_letters": ["reviews.jsonl:65"]
    }  # fmt: skip
    everything = ids(tmp_path / "corpus.jsonl") + ids(tmp_path / "dropped.jsonl")
    assert sorted(everything) == sorted(f"reviews.jsonl:{k}" for k in range(1, 66))
    written = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert written == {key: value for key, value in said.items() if key != "files"}


def test_a_trial_writes_nothing(capsys, reviews, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = run(capsys, reviews, "--dry-run", "--rounds", 0)
    assert list(tmp_path.iterdir()) == []
    assert "Nothing was written" in said
    assert "near copies" in said or "repeat one of" in said


def test_text_files_parquet_and_folders(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = [
        f"Paragraph number {n} tells of a {w} that nobody saw before today." for n, w in enumerate("abc")
    ]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("\n\n".join(texts[:2]), encoding="utf-8")
    pd.DataFrame({"body": texts[2:]}).to_parquet(tmp_path / "b.parquet")
    run(capsys, "in", "--separator", r"\n\n", "--rounds", 0, "--set", "min_characters=10")
    assert ids(tmp_path / "cleaned" / "in" / "corpus.jsonl") == ["a.txt:1", "a.txt:2"]
    run(capsys, "b.parquet", "--column", "body", "--rounds", 0, "--out", "out")
    assert ids(tmp_path / "out" / "corpus.jsonl") == ["b.parquet:1"]


class Tags(HTMLParser):
    """Collect the tags and the sources of a page."""

    def __init__(self):
        super().__init__()
        self.tags, self.asked = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.asked += [value for name, value in attrs if name in ("src", "href") and value[:1] not in "#d"]


def test_the_page_is_one_escaped_file(capsys, tmp_path):
    path = tmp_path / f"x{HOSTILE.replace('/', '')}.txt"
    text = f"A document with {HOSTILE} and <img src=x onerror=alert(1)> inside, long enough to be kept by the rules."
    path.write_text("\n---\n".join([text, text, "tiny"]), encoding="utf-8")
    run(capsys, path, "--separator", r"\n---\n", "--rounds", 0, "--out", tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    parser = Tags()
    parser.feed(page)
    assert parser.asked == []
    assert not {"script", "img", "b"} & set(parser.tags)
    assert "&lt;script&gt;" in page
    assert "near copies" in page
    assert "too_short" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--skip", "htm"], "Did you mean 'html'?"),
        (["--set", "similarty=0.5"], "Did you mean 'similarity'?"),
        (["--set", "judge.presett=small"], "presett"),
        (["--set", "similarity=7"], "similarity is out of range"),
        (["--column", "body"], "There is no column 'body'"),
    ],
)
def test_mistakes_are_told_before_the_work(capsys, reviews, tmp_path, arguments, message):
    capsys.readouterr()
    assert cli.main(["clean", str(reviews), "--out", str(tmp_path / "out"), *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert not (tmp_path / "out" / "corpus.jsonl").exists()


def test_the_judge_is_trained_and_shown(capsys, reviews, tmp_path):
    small = {"model_args": "{dim: 16, num_layers: 1, num_heads: 1, glu_dim: 16}", "context": 32, "threads": 1}
    options = [f"judge.{key}={value}" for key, value in small.items()]
    options += ["judge.training.steps=12", "judge.training.learning_rate=0.02", "spread=6", "min_bytes=20"]
    arguments = [part for option in options for part in ("--set", option)]
    said = json.loads(run(capsys, reviews, "--out", tmp_path, "--json", *arguments))
    (facts,) = said["rounds"]
    assert facts["judged"] == said["sizes"]["documents kept"] + facts["dropped"]
    assert sum(facts["distribution"]["documents"]) == facts["judged"]
    assert 0 < facts["5 %"] <= facts["median"] <= facts["95 %"] < 8
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Bits a byte of each document, round 1" in page
    assert f"limit {facts['high']:.1f}"[:9] in page
