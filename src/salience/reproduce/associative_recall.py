"""Associative recall at a distance: pairs of a key and a value, filler, then the keys again; which value belongs?

The task of multi-query associative recall (Arora et al., Zoology, 2023), with filler between pairs and questions, so that
accuracy can be told apart by distance. Everything is generated; a guess among the values is right once in sixteen.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from salience.core.io import dumps
from salience.core.stats import generator
from salience.data.corpora.blocks import IGNORED

KEYS, VALUES, FILLERS = 16, 16, 8
VOCABULARY = KEYS + VALUES + FILLERS
CHANCE = 1 / VALUES


@dataclass(frozen=True)
class Task:
    """Say what sequences look like.

    Attributes:
        pairs: keys with a value, all asked for.
        distance: most filler between pairs and questions in training.
    """

    pairs: int = 4
    distance: int = 32

    @property
    def length(self) -> int:
        """Tokens of a training sequence: pairs, filler, questions with their answers."""
        return 4 * self.pairs + self.distance


class Rows(list):
    """Sequences with their lengths and a digest, as the training loop asks."""

    def __init__(self, tokens: np.ndarray, digest: str) -> None:
        super().__init__(tokens)
        self.lengths, self.digest = np.full(len(tokens), tokens.shape[1]), digest


def sequences(
    task: Task, distances: np.ndarray, before: np.ndarray, length: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return tokens and targets, int64 (count, length); a target is a value after a question, else ignored.

    Args:
        task: numbers of pairs.
        distances: filler between pairs and questions, one number a sequence.
        before: filler before the pairs, one number a sequence, so that places vary; what is left follows.
        length: tokens of a sequence.
        rng: source of randomness.
    """
    count, pairs = len(distances), task.pairs
    tokens = rng.integers(KEYS + VALUES, VOCABULARY, (count, length))
    targets = np.full((count, length), IGNORED, np.int64)
    keys = np.argsort(rng.random((count, KEYS)), axis=1)[:, :pairs]
    values = rng.integers(KEYS, KEYS + VALUES, (count, pairs))
    order = np.argsort(rng.random((count, pairs)), axis=1)
    rows = np.arange(count)[:, None]
    told = before[:, None] + 2 * np.arange(pairs)
    asked = told + 2 * pairs + distances[:, None]
    answers = np.take_along_axis(values, order, axis=1)
    tokens[rows, told], tokens[rows, told + 1] = keys, values
    tokens[rows, asked], tokens[rows, asked + 1] = np.take_along_axis(keys, order, axis=1), answers
    targets[rows, asked] = answers
    return tokens, targets


def train(
    key: str, size: dict[str, Any], recipe: dict[str, Any], task: Task, seed: int, folder: Any = None
) -> tuple[Any, Any]:
    """Train a language model on fresh sequences, each seen once; the last weights are kept.

    Args:
        key: ``"transnormer"`` or ``"transformer"``.
        size: settings of the model.
        recipe: options of training, with ``steps`` and ``batch_size``.
        task: what sequences look like.
        seed: seed of weights and sequences.
        folder: where checkpoints go; none for none.

    Returns:
        The model and how training went.
    """
    import torch

    from salience.core.registry import load
    from salience.training.language import LanguageTask
    from salience.training.loop import Trainer, TrainingConfig

    rng = generator(seed, "recall")
    count = recipe["steps"] * recipe["batch_size"]
    distances = rng.integers(0, task.distance + 1, count)
    before = rng.integers(0, task.distance - distances + 1)
    tokens, targets = sequences(task, distances, before, task.length, rng)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = load("language_model", key).preset("tiny", **{**size, "vocab_size": VOCABULARY})
    rows = Rows(tokens, dumps([key, size, recipe, task.pairs, task.distance, seed], indent=None))
    config = TrainingConfig(**recipe, evaluate_steps=recipe["steps"])
    trainer = Trainer(LanguageTask(model, -1), config, seed=seed, folder=folder)
    # scored once, after the last step: the last weights stay, none are chosen by a score
    history = trainer.fit(rows, targets, lambda _: {"end": 0.0}, "end")
    return model, history


def accuracy(model: Any, task: Task, distance: int, seed: int, count: int = 128) -> np.ndarray:
    """Return the share of questions of each new sequence that are answered rightly, float64 (count,)."""
    import torch

    rng = generator(seed, "recall test", str(distance))
    length = 4 * task.pairs + distance
    tokens, targets = sequences(task, np.full(count, distance), np.zeros(count, int), length, rng)
    asked = targets != IGNORED
    shares = []
    with torch.no_grad():
        for start in range(0, count, 32):
            part = slice(start, start + 32)
            said = model(torch.from_numpy(tokens[part])).argmax(-1).numpy()
            shares.append(((said == targets[part]) & asked[part]).sum(axis=1) / task.pairs)
    return np.concatenate(shares)
