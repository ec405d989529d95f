"""The data, models and explanations of the reproduction of saliency map verbalization."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from salience.api import Predictor
from salience.core.stats import generator
from salience.explain.engine import explain
from salience.explain.explanation import Explanation
from salience.reproduce.finished import once
from salience.reproduce.sentences import present
from salience.reproduce.sentences import read as read_sentences
from salience.testing.toy import LinearToy, toy_frame
from salience.testing.words import of_kind

METHOD = "integrated_gradients"
CHEAP = "gradient_x_input"  # for the thousand explanations that are read back; sentences do not ask where numbers come from
TRAIN_WORDS, TEST_WORDS = 120, 99  # longest review; the paper explains texts of fewer than 100 tokens
ADULT = ("age", "workclass", "fnlwgt", "education", "education_num", "marital", "occupation", "relationship", "race", "sex", "gain", "loss", "hours", "country", "income")  # fmt: skip
TOLD_TRAIN = 600  # rows that train the models of what is read back
TOPICS = ("World", "Sports", "Business", "Sci/Tech")
QUESTIONS = ("description", "entity", "abbreviation", "person", "location", "number")
TEXT_SETS = {"imdb": "sentiment", "ag_news": "topic", "trec": "asked for"}  # set → column that is predicted
Frames = tuple[pd.DataFrame, pd.DataFrame]  # training and test rows


# -- text ----------------------------------------------------------------------------------------------


def frames(root: Path, name: str) -> Frames:
    """Return training and test rows of a text set: a column ``text`` and the one that is predicted.

    Raises:
        DataError: a file is absent.
    """
    return {"imdb": _imdb, "ag_news": _ag_news, "trec": _trec}[name](root / name)


def _imdb(folder: Path) -> Frames:
    train, test = (_reviews(folder / f"{part}.jsonl.gz") for part in ("train", "test"))
    return _short(train, TRAIN_WORDS), _short(test, TEST_WORDS)


def _reviews(path: Path) -> pd.DataFrame:
    with gzip.open(present(path), "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    texts = [" ".join(row["text"].replace("<br />", " ").split()) for row in rows]
    return pd.DataFrame(
        {"text": texts, "sentiment": [("negative", "positive")[row["label"]] for row in rows]}
    )


def _short(frame: pd.DataFrame, words: int) -> pd.DataFrame:
    return frame[frame["text"].str.split().str.len() <= words]


def _ag_news(folder: Path) -> Frames:
    train = [(text, TOPICS[int(label)]) for label, text in _lines(folder / "train_subset.csv.gz")]
    test = [
        (f"{title} {text}", TOPICS[int(label) - 1]) for label, title, text in _lines(folder / "test.csv.gz")
    ]
    return tuple(pd.DataFrame(rows, columns=["text", "topic"]) for rows in (train, test))


def _lines(path: Path) -> list[list[str]]:
    with gzip.open(present(path), "rt", encoding="utf-8", newline="") as file:
        return list(csv.reader(io.StringIO(file.read().replace("\\", " "))))


def _trec(folder: Path) -> Frames:
    found = [read_sentences(folder / f"TREC.{part}.all", "latin-1") for part in ("train", "test")]
    names = {f"class {i}": name for i, name in enumerate(QUESTIONS)}
    return tuple(f.assign(label=f["label"].map(names)).rename(columns={"label": "asked for"}) for f in found)


# -- models and explanations ---------------------------------------------------------------------------


def explained(root: Path, name: str, plan: dict[str, Any], seed: int, folder: Path) -> dict[str, Any]:
    """Train a classifier on a text set and explain test rows; done once, then kept.

    Args:
        root: folder of the sets.
        name: one of `TEXT_SETS`.
        plan: ``train`` (rows, None for all), ``epochs`` (None for the preset's), ``rows`` to explain.
        seed: seed of rows and training.
        folder: where results are kept.

    Returns:
        ``accuracy`` on at most 2,000 test rows, ``classes``, ``explanations`` as JSON, ``seconds`` of training.
    """
    settings = [name, seed, plan["train"], plan["epochs"], plan["rows"], METHOD, TRAIN_WORDS, TEST_WORDS]
    return once(folder / name, settings, lambda _: _explained(root, name, plan, seed))


def _explained(root: Path, name: str, plan: dict[str, Any], seed: int) -> dict[str, Any]:
    train, test = frames(root, name)
    rng = generator(seed, name)
    if plan["train"] and plan["train"] < len(train):
        train = train.iloc[np.sort(rng.permutation(len(train))[: plan["train"]])]
    test = test.iloc[rng.permutation(len(test))[:2000]].reset_index(drop=True)
    predictor = _predictor(TEXT_SETS[name], {"text": "text"}, plan, seed).fit(train.reset_index(drop=True))
    found = predictor.explain(test.iloc[: plan["rows"]], method=METHOD)
    return {
        "accuracy": predictor.evaluate(test)["accuracy"]["value"],
        "classes": predictor.schema.classes,
        "seconds": predictor.history.seconds,
        "explanations": [e.to_json() for e in found],
    }


def _predictor(target: str, kinds: dict[str, str], plan: dict[str, Any], seed: int) -> Predictor:
    epochs = [f"training.epochs={plan['epochs']}"] if plan["epochs"] else []
    return Predictor(target, preset="fast", kinds=kinds, seed=seed, overrides=epochs)


def restored(found: dict[str, Any]) -> list[Explanation]:
    """Return the explanations of :func:`explained`."""
    return [Explanation.from_json(data) for data in found["explanations"]]


# -- explanations to be read back ------------------------------------------------------------------------


def of_each_kind(root: Path, rows: int, seed: int) -> dict[str, Callable[[], list[Explanation]]]:
    """Return for each kind of unit a function that makes explanations of it.

    Text: reviews and a model of their sentiment. Numbers and categories: a model of income on all columns of a table of
    people, of which the units of one kind are kept. Images: a model of handwritten digits. Mixed: the hand-set model of
    :mod:`salience.testing.toy` on rows with texts, a picture, numbers and a category, with three tasks. Models are
    trained for one epoch; every tenth explanation also has its truth measured, so that this is read back as well.
    """
    table: list[list[Explanation]] = []

    def adult(kind: str) -> list[Explanation]:
        if not table:
            table.append(_adult(root, rows, seed))
        return [of_kind(e, kind) for e in table[0]]

    return {
        "text": lambda: _texts(root, rows, seed),
        "number": lambda: adult("number"),
        "category": lambda: adult("category"),
        "image": lambda: _digits(rows, seed),
        "mixed": lambda: _mixed(rows, seed),
    }


SHORT = {"epochs": 1}


def _told(model: Any, frame: pd.DataFrame, seed: int, method: str = CHEAP) -> list[Explanation]:
    """Explain rows; the truth of every tenth is measured."""
    measured = np.arange(len(frame)) % 10 == 0
    parts = [
        explain(model, frame[measured == m], method=method, seed=seed, faithfulness=bool(m))
        for m in (True, False)
    ]
    return [e for part in parts for e in part]


def _texts(root: Path, rows: int, seed: int) -> list[Explanation]:
    train, test = frames(root, "imdb")
    predictor = _predictor("sentiment", {"text": "text"}, SHORT, seed).fit(
        train.sample(min(TOLD_TRAIN, len(train)), random_state=seed)
    )
    chosen = test.sample(min(rows, len(test)), random_state=seed)
    return _told(predictor.model, predictor.schema.parse(chosen, target=False), seed)


def _adult(root: Path, rows: int, seed: int) -> list[Explanation]:
    table = pd.read_csv(
        present(root / "adult" / "adult-train.csv.gz"),
        header=None,
        names=list(ADULT),
        skipinitialspace=True,
        na_values="?",
    )
    table = table.sample(TOLD_TRAIN + rows, random_state=seed).reset_index(drop=True)
    predictor = _predictor("income", {}, SHORT, seed).fit(table.iloc[:TOLD_TRAIN])
    return _told(predictor.model, predictor.schema.parse(table.iloc[TOLD_TRAIN:], target=False), seed)


def _digits(rows: int, seed: int) -> list[Explanation]:
    from PIL import Image
    from sklearn.datasets import load_digits

    data = load_digits()
    pictures = [Image.fromarray((page * 15).astype(np.uint8)).convert("RGB") for page in data.images]
    table = pd.DataFrame({"picture": pictures, "digit": [f"digit {label}" for label in data.target]})
    table = table.sample(min(TOLD_TRAIN + rows, len(table)), random_state=seed).reset_index(drop=True)
    predictor = _predictor("digit", {"picture": "image"}, SHORT, seed).fit(table.iloc[:TOLD_TRAIN])
    return _told(predictor.model, predictor.schema.parse(table.iloc[TOLD_TRAIN:], target=False), seed)


def _mixed(rows: int, seed: int) -> list[Explanation]:
    tasks = ("binary", "multiclass", "regression")
    found: list[Explanation] = []
    for number, task in enumerate(tasks):
        count = len(range(number, rows, len(tasks)))
        model = LinearToy(task, "nonlinear", image=True)
        found += _told(model, toy_frame(count, seed + number, task, image=True), seed)
    return found
