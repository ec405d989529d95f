"""Ask whether explanations tell what the model answered, with a small student in place of people.

The student guesses the model's answer from an explanation in which the names of the classes are masked. It has learned
from other explanations only: it is cross-validated, and rows with the same input are never on both sides. So a
representation scores well if its words, and the side that it gives them, carry the answer. It is a proxy: a student
reads no grammar and knows no language, and people bring knowledge of the world.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from salience.core.errors import ConfigError
from salience.core.stats import generator, holm, mean_interval, sign_flip_test
from salience.explain.words.representations import Shown

FOLDS = 10


@dataclass(frozen=True)
class Simulation:
    """Guesses of a student for several representations of the same explanations.

    Attributes:
        hits: for each representation, whether each row was guessed right.
        chance: share of the most frequent answer, what always guessing it would reach.
        rows: one record a representation: accuracy with its 95 % bootstrap interval over rows, mean number of words
            of the input that are shown, rows.
        pairs: one record a pair: difference of accuracy with its interval, p of a paired sign-flip test, and p after
            Holm over all pairs.
    """

    hits: dict[str, Bool[np.ndarray, " row"]]
    chance: float
    rows: tuple[dict[str, Any], ...]
    pairs: tuple[dict[str, Any], ...]


def simulate(
    representations: Mapping[str, Sequence[Shown]],
    answers: Sequence[str],
    inputs: Sequence[Any],
    *,
    student: str = "naive_bayes",
    sides: bool = True,
    folds: int = FOLDS,
    seed: int = 0,
) -> Simulation:
    """Let a student guess the model's answers from each representation.

    Args:
        representations: for each name one :class:`Shown` a row, with the names of classes masked.
        answers: the answer of the model for each row.
        inputs: what was explained, a row each; equal ones stay in one fold. Anything with an equality, such as text.
        student: ``"naive_bayes"`` (multinomial, Laplace smoothing) or ``"logistic_regression"`` (L2), on a bag of the
            shown words, each with its weight.
        sides: whether a word for the answer and the same word against it are two words.
        folds: parts of the cross-validation, at most one an input.
        seed: seed of the folds and intervals.

    Raises:
        ConfigError: an unknown student, numbers of rows that differ, fewer than two answers or inputs.
    """
    lengths = {name: len(shown) for name, shown in representations.items()}
    wrong = {name: count for name, count in lengths.items() if count != len(answers)}
    if wrong or len(inputs) != len(answers):
        raise ConfigError(
            "Each representation needs one entry a row", f"{wrong} for {len(answers)} answers.", ""
        )
    if student not in STUDENTS:
        raise ConfigError(f"Unknown student {student!r}", "", f"Give one of {', '.join(STUDENTS)}.")
    fold = _folds(inputs, folds, seed)
    if len(set(answers)) < 2 or fold.max(initial=0) < 1:
        raise ConfigError(
            "There is nothing to guess",
            f"{len(set(answers))} answers, {len(set(fold))} inputs.",
            "Give more rows.",
        )
    truth = np.array([str(answer) for answer in answers])
    hits = {
        name: _guesses([_bag(s, sides) for s in shown], truth, fold, student) == truth
        for name, shown in representations.items()
    }
    _, counts = np.unique(truth, return_counts=True)
    rows = [_row(name, hits[name], shown, seed) for name, shown in representations.items()]
    return Simulation(hits, float(counts.max() / len(truth)), tuple(rows), tuple(paired(hits, seed=seed)))


def _folds(inputs: Sequence[Any], folds: int, seed: int) -> Int[np.ndarray, " row"]:
    """Return the fold of each row: inputs in random order, dealt out one by one."""
    number = {text: i for i, text in enumerate(dict.fromkeys(inputs))}
    dealt = generator(seed, "folds").permutation(len(number)) % max(min(folds, len(number)), 1)
    return np.array([dealt[number[text]] for text in inputs], dtype=int)


def _bag(shown: Shown, sides: bool) -> dict[str, float]:
    bag: dict[str, float] = {}
    for part in shown.parts:
        key = f"{part.sign:+d} {part.word}" if sides else part.word
        bag[key] = bag.get(key, 0.0) + part.weight
    return bag


def _guesses(bags: list[dict[str, float]], truth: np.ndarray, fold: np.ndarray, student: str) -> np.ndarray:
    columns = {word: i for i, word in enumerate(dict.fromkeys(word for bag in bags for word in bag))}
    counts = np.zeros((len(bags), len(columns)))
    for row, bag in enumerate(bags):
        counts[row, [columns[word] for word in bag]] = list(bag.values())
    classes, answer = np.unique(truth, return_inverse=True)
    guesses = np.empty(len(truth), dtype=int)
    for number in np.unique(fold):
        held, seen = fold == number, fold != number
        known = counts[seen].any(axis=0)  # a word that was never seen says nothing
        guesses[held] = _STUDENTS[student](
            counts[seen][:, known], answer[seen], counts[held][:, known], len(classes)
        )
    return classes[guesses]


Guess = Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]


def _naive_bayes(seen: np.ndarray, answer: np.ndarray, held: np.ndarray, classes: int) -> np.ndarray:
    member = np.eye(classes)[answer]
    words = member.T @ seen + 1.0
    prior = np.log(np.maximum(member.sum(axis=0), 1e-300))  # a class that was never seen is not guessed
    return (held @ np.log(words / words.sum(axis=1, keepdims=True)).T + prior).argmax(axis=1)


def _logistic_regression(seen: np.ndarray, answer: np.ndarray, held: np.ndarray, classes: int) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(answer)) < 2 or not seen.size:
        return np.full(len(held), np.bincount(answer, minlength=classes).argmax())
    return LogisticRegression(max_iter=1000).fit(seen, answer).predict(held)


_STUDENTS: dict[str, Guess] = {"naive_bayes": _naive_bayes, "logistic_regression": _logistic_regression}
STUDENTS = tuple(_STUDENTS)


def _row(name: str, hits: np.ndarray, shown: Sequence[Shown], seed: int) -> dict[str, Any]:
    low, high = mean_interval(hits, seed=seed)
    return {
        "name": name,
        "accuracy": float(hits.mean()),
        "low": low,
        "high": high,
        "shown_words": float(np.mean([len(s.parts) for s in shown])),
        "rows": len(hits),
    }


def paired(hits: Mapping[str, np.ndarray], *, seed: int = 0) -> list[dict[str, Any]]:
    """Return the difference of every pair of hit rates over the same rows, tested; see :class:`Simulation`."""
    records = []
    for a, b in combinations(hits, 2):
        difference = hits[a].astype(float) - hits[b].astype(float)
        low, high = mean_interval(difference, seed=seed)
        p = sign_flip_test(difference, seed=seed)
        records.append(
            {"a": a, "b": b, "difference": float(difference.mean()), "low": low, "high": high, "p": p}
        )
    adjusted = holm(np.array([record["p"] for record in records]))
    return [{**record, "p_holm": float(p)} for record, p in zip(records, adjusted, strict=True)]
