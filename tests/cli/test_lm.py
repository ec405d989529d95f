"""``salience lm`` on a few hundred words."""

import json
import re

import pytest
import torch

from salience.cli import main as cli

TEXT = "the cat sat on the mat. a dog ran to the house! " * 60
TINY = ["--context", "32", "--set", "training.batch_size=8", "--set",
        "model_args={dim: 16, num_layers: 2, num_heads: 2, glu_dim: 24}"]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with corpus.txt, held.txt and a trained model in ``model``."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "corpus.txt").write_text(TEXT)
    (folder / "held.txt").write_text(TEXT[:600])
    arguments = ["lm", "train", folder / "corpus.txt", "--out", folder / "model", "--steps", "4", *TINY]
    assert cli.main([str(argument) for argument in arguments]) == 0
    return folder


def run(capsys, *arguments, code=0):
    capsys.readouterr()
    assert cli.main([str(argument) for argument in arguments]) == code
    captured = capsys.readouterr()
    return captured.out if code == 0 else captured.err


def run_json(capsys, *arguments):
    return json.loads(run(capsys, *arguments, "--json"))


def test_train_says_what_came_out_and_how_to_use_it(capsys, place, tmp_path):
    arguments = ["lm", "train", place / "corpus.txt", "--out", tmp_path / "a", "--steps", "4", *TINY]
    out = run(
        capsys, *arguments, "--set", "training.evaluate_steps=2", "--set", "training.learning_rate=1e-3"
    )
    assert "bits a byte, held out" in out
    assert "Kept: round 2" in out
    assert f"salience lm generate {tmp_path / 'a'} PROMPT" in out.replace("\n", "")
    arguments[4] = tmp_path / "b"
    data = run_json(capsys, *arguments, "--model", "transformer", "--tokenizer", "bpe", "--vocab-size", "270",
                    "--pack", "documents", "--validation", place / "held.txt", "--seed", "3")  # fmt: skip
    assert data["source"] == "corpus.txt"
    assert len(data["history"]["epochs"]) >= 1
    config = json.loads((tmp_path / "b" / "config.json").read_text())["options"]
    assert (config["model"], config["tokenizer"], config["pack"], config["seed"], config["vocab_size"]) == (
        "transformer", "bpe", "documents", 3, 270)  # fmt: skip


def test_a_finished_folder_is_not_overwritten(capsys, place):
    before = (place / "model" / "model.safetensors").stat().st_mtime_ns
    said = run(capsys, "lm", "train", place / "corpus.txt", "--out", place / "model", code=2)
    assert "holds a finished model already" in said
    assert (place / "model" / "model.safetensors").stat().st_mtime_ns == before


def test_separators_and_columns_reach_the_corpus(capsys, tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(f"line number {i} of some" for i in range(40)))
    lines = "\n".join(json.dumps({"words": f"document {i} with words", "n": i}) for i in range(40))
    (tmp_path / "a.jsonl").write_text(lines)
    for name, option, value in (("a.txt", "--separator", r"\n"), ("a.jsonl", "--column", "words")):
        out = tmp_path / f"model of {name}"
        run(capsys, "lm", "train", tmp_path / name, "--out", out, "--steps", "1", option, value, *TINY)
        assert run_json(capsys, "lm", "evaluate", out, tmp_path / name)["documents"] == 40
    assert (
        run_json(capsys, "lm", "evaluate", out, tmp_path / "a.txt", "--separator", "number")["documents"]
        == 41
    )


def test_evaluate_shows_controls_and_intervals(capsys, place):
    data = run_json(capsys, "lm", "evaluate", place / "model", place / "held.txt")
    low, high = data["bits_per_byte"]["interval"]
    assert low <= data["bits_per_byte"]["value"] <= high
    assert set(data["baselines"]) == {"unigram", "zlib"}
    out = run(capsys, "lm", "evaluate", place / "model", place / "held.txt")
    assert all(
        word in out
        for word in ("bits a byte ↓", "this model", "unigram", "zlib", "601 tokens", "whole document")
    )
    narrow = run(
        capsys, "lm", "evaluate", place / "model", place / "held.txt", "--window", "8", "--stride", "4"
    )
    assert "5 to 8 tokens before each token" in narrow


def test_generate_streams_and_repeats(capsys, place):
    arguments = ["lm", "generate", place / "model", "the cat", "--max-tokens", "25", "--seed", "4"]
    text = run_json(capsys, *arguments)["text"]
    shown = run(capsys, *arguments)
    assert len(shown) == len(text) + 1
    assert shown.endswith("\n")
    assert all(a == b for a, b in zip(shown, text, strict=False) if b.isprintable())
    assert run_json(capsys, *arguments[:-1], "5")["text"] != text
    greedy = ["lm", "generate", place / "model", "--temperature", "0", "--max-tokens", "9"]
    assert run_json(capsys, *greedy, "--seed", "1") == run_json(capsys, *greedy, "--seed", "2")
    stopped = run_json(capsys, *arguments, "--stop", text[3], "--top-k", "256", "--top-p", "1.0")["text"]
    assert stopped == text.split(text[3])[0]


def test_text_appears_as_it_is_written(capsys, place, monkeypatch):
    seen = []

    def stream(self, prompt, **options):
        for piece in ("one [bold] ", "two\x1b[31m", " " * 300 + "\n", "end"):
            seen.append(capsys.readouterr().out)
            yield piece

    monkeypatch.setattr("salience.language.LanguageModel.stream", stream)
    out = run(capsys, "lm", "generate", place / "model")
    assert seen == ["", "one [bold] ", "two [31m", " " * 300 + "\n"]
    assert out == "end\n"


def test_explain_in_words_and_as_a_page(capsys, place, tmp_path):
    arguments = ["lm", "explain", place / "model", "the cat sat on the"]
    assert "the cat sat on the" in run(capsys, *arguments)
    data = run_json(capsys, *arguments, "--target", "m", "--contrast", "c", "--units", "tokens")
    assert data["method"] == "integrated_gradients"
    assert len(data["values"]) == len("the cat sat on the")
    assert str(tmp_path / "why.html") in run(capsys, *arguments, "--out", tmp_path / "why.html").replace(
        "\n", ""
    )
    assert "<html" in (tmp_path / "why.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "nothing.txt", "--out", "x"], "SAL-D001"),
        (["train", "{place}/empty.txt", "--out", "x"], "SAL-D002"),
        (["train", "{place}/latin.txt", "--out", "x"], "byte 0xe9 at offset 3.*--encoding cp1252.*SAL-D008"),
        (["train", "{place}/corpus.txt", "--column", "a", "--out", "x"], "no columns"),
        (["train", "{place}/corpus.txt", "--model", "transnormr", "--out", "x"], "Did you mean 'transnormer'"),
        (["train", "{place}/corpus.txt", "--preset", "tinny", "--out", "x"], "Did you mean 'tiny'"),
        (["train", "{place}/corpus.txt", "--vocab-size", "9", "--tokenizer", "bpe", "--out", "x"], "SAL-C005"),
        (["evaluate", "{place}", "{place}/corpus.txt"], "not finished.*SAL-I004"),
        (["evaluate", "{place}/model", "{place}/nothing"], "SAL-D001"),
        (["generate", "{place}/model", "--top-p", "3"], "top_p=3.0.*SAL-C005"),
        (["explain", "{place}/model", "text", "--method", "integrated"], "integrated_gradients"),
    ],
)  # fmt: skip
def test_errors_are_one_line(capsys, place, tmp_path, monkeypatch, arguments, said):
    (place / "empty.txt").write_text("")
    (place / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    monkeypatch.chdir(tmp_path)
    line = run(capsys, "lm", *(a.replace("{place}", str(place)) for a in arguments), code=2)
    assert len(line.splitlines()) == 1
    assert re.search(said, line), line


@pytest.mark.parametrize("name", ["train", "evaluate", "generate", "explain"])
def test_help_teaches(capsys, name):
    out = run(capsys, "lm", name, "--help")
    assert "Default" in out
    assert "Usage: salience lm" in out
