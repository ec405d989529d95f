"""Small sets and small networks for the experiment on coherence: a table, digits, pictures, questions."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from salience.core.stats import generator
from salience.reproduce.number_tables import load as load_table
from salience.reproduce.ravlt import read_images
from salience.reproduce.sentences import read as read_sentences

NAMES = ("churn", "digits", "cifar", "trec")
WORDS, LONGEST = 2000, 20  # words of the vocabulary, and of a question


@dataclass(frozen=True)
class Sample:
    """Hold training and test rows as tensors, and what makes a network for them.

    Attributes:
        x, test_x: inputs, a row a line.
        y, test_y: class indices.
        classes: number of classes.
        network: makes a fresh network.
    """

    x: Tensor
    y: Int[Tensor, " row"]
    test_x: Tensor
    test_y: Int[Tensor, " row"]
    classes: int
    network: Callable[[], nn.Module]


@lru_cache(maxsize=8)
def sample(name: str, root: Path, rows: int) -> Sample:
    """Return at most so many training rows of a set, and all its test rows, as many of every class as can be.

    With unequal classes every gradient has a large part that only follows their shares; that part says nothing about
    what is learned from the inputs, and labels that are shuffled keep it.

    Args:
        name: one of :data:`NAMES`.
        root: folder that holds ``churn``, ``cifar10`` and ``trec``; digits come with scikit-learn.
        rows: training rows.

    Raises:
        DataError: a file is absent.
    """
    load = {"churn": _churn, "digits": _digits, "cifar": _cifar, "trec": _trec}[name]
    x, y, test_x, test_y, network = load(root)
    train, test = balanced(y, rows), balanced(test_y, len(test_y))
    return Sample(x[train], y[train], test_x[test], test_y[test], int(y.max()) + 1, network)


def balanced(label: Int[Tensor, " row"], rows: int) -> Int[Tensor, " chosen"]:
    """Return at most so many rows, in random order, with equal classes as far as a class has that many rows.

    A class of fewer than a tenth of its part is kept whole, and does not make the others small.
    """
    order = torch.as_tensor(generator(0, "coherence rows").permutation(len(label)))
    counts = label.bincount()
    part = min(rows // len(counts), int(counts[counts > counts.max() / 10].min()))
    place = torch.stack([(label[order] == c).cumsum(0) for c in range(len(counts))])
    return order[place[label[order], torch.arange(len(order))] <= part]


Loaded = tuple[Tensor, Tensor, Tensor, Tensor, Callable[[], nn.Module]]


def perceptron(dim: int, classes: int, hidden: int = 128) -> nn.Module:
    """Return a network of two hidden layers."""
    sizes = (dim, hidden, hidden)
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, classes))


def _churn(root: Path) -> Loaded:
    table = load_table("churn", root)
    train = pd.concat([table.train, table.validation])
    target = table.schema.target.name
    wide = pd.get_dummies(pd.concat([train, table.test]).drop(columns=target)).to_numpy(dtype=float)
    mean, scale = wide[: len(train)].mean(0), wide[: len(train)].std(0)
    x = torch.tensor((wide - mean) / scale, dtype=torch.float32)
    y, test_y = (torch.tensor(f[target].to_numpy(), dtype=torch.long) for f in (train, table.test))
    return x[: len(train)], y, x[len(train) :], test_y, lambda: perceptron(x.shape[1], 2)


def _digits(root: Path) -> Loaded:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = generator(0, "coherence digits").permutation(len(labels))
    x = torch.tensor(pixels[order] / 16, dtype=torch.float32)
    y = torch.tensor(labels[order], dtype=torch.long)
    return x[:1200], y[:1200], x[1200:], y[1200:], lambda: perceptron(64, 10)


class PictureNetwork(nn.Module):
    """Three convolutions with group normalisation, so that an example's gradient is its own."""

    def __init__(self, classes: int, width: int = 16) -> None:
        super().__init__()
        sizes = (3, width, 2 * width, 2 * width)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in pairwise(sizes)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(4, size) for size in sizes[1:])
        self.head = nn.Linear(2 * width * 16, classes)

    def forward(self, x: Float[Tensor, "batch 3 32 32"]) -> Float[Tensor, "batch class"]:
        """Return logits."""
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.relu(norm(convolution(x)))
        return self.head(x.flatten(1))


def _cifar(root: Path) -> Loaded:
    from salience.explain.ground_truth.images import pixels_of

    parts: list[Tensor] = []
    names: list[str] = []
    for stem in ("cifar10_train10k", "cifar10_test2k"):
        frame = read_images(root / "cifar10" / f"{stem}.zip")
        names = names or sorted(frame["label"].unique())
        frame = frame.iloc[:: 4 if "train" in stem else 1]
        pixels = np.stack([pixels_of(cell) for cell in frame["photo"]])
        parts.append((torch.tensor(pixels, dtype=torch.float32).permute(0, 3, 1, 2) - 127.5) / 64)
        parts.append(torch.tensor([names.index(label) for label in frame["label"]]))
    return (*parts, lambda: PictureNetwork(10))


class QuestionNetwork(nn.Module):
    """Mean of word vectors, then a perceptron; word 0 is padding."""

    def __init__(self, classes: int, dim: int = 32) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, dim)
        self.layers = perceptron(dim, classes)

    def forward(self, x: Int[Tensor, "batch word"]) -> Float[Tensor, "batch class"]:
        """Return logits."""
        real = (x > 0).unsqueeze(-1).float()
        return self.layers((self.words(x) * real).sum(1) / real.sum(1).clamp_min(1))


def _trec(root: Path) -> Loaded:
    frames = [read_sentences(root / "trec" / f"TREC.{part}.all", "latin-1") for part in ("train", "test")]
    counts = pd.Series(" ".join(frames[0]["text"]).lower().split()).value_counts()
    number = {word: i + 2 for i, word in enumerate(counts.index[: WORDS - 2])}  # 1 is any other word
    names = sorted(frames[0]["label"].unique())
    parts: list[Tensor] = []
    for frame in frames:
        lines = [[number.get(w, 1) for w in text.lower().split()[:LONGEST]] for text in frame["text"]]
        parts.append(torch.tensor([line + [0] * (LONGEST - len(line)) for line in lines]))
        parts.append(torch.tensor([names.index(label) for label in frame["label"]]))
    return (*parts, lambda: QuestionNetwork(len(names)))
