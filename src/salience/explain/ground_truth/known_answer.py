"""Hand-set networks that provably read one known region, so that a sound explainer must find it and nothing else.

A trained network need not use all of a region that it could use, nor only that; a network whose weights are written down
can be made to. Every network here is a :class:`~salience.models.table_model.TableModel` that runs through the same code as
trained ones. What lies outside the region has a weight, a gate or a mask of exactly zero, and a value that is not zero.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from salience.core.stats import generator
from salience.core.unit import Unit
from salience.data.schema import Column, Schema
from salience.explain import engine
from salience.explain.ground_truth.localisation import Localisation, localise
from salience.models.fusions.concat import Concat
from salience.models.heads.classification import ClassificationHead
from salience.models.image_encoder import GRID, ImageEncoder
from salience.models.slots import Encoder, Tokens
from salience.models.table_model import ModelConfig, Part, TableModel
from salience.models.word_encoder import WordEncoder

CLASSES = ["no", "yes"]
SIZE = 16  # pixels a side of the pictures
CELLS = ((1, 2), (1, 3), (2, 2), (2, 3))  # of the grid that the networks of pictures read: row, column
SPEAKING = {
    "fine": 1.0,
    "great": 1.5,
    "dull": -1.0,
    "broken": -1.5,
}  # the words that the networks of texts read
SILENT = ("the", "lamp", "on", "my", "desk", "is", "and", "very", ".", ",")
NUMBERS = ("height", "weight", "age", "speed", "depth")
READ = ("weight", "depth")  # the columns that the network of a table reads


@dataclass(frozen=True)
class KnownAnswer:
    """Hold a network, rows, and which units it reads.

    Attributes:
        name: what the network is.
        model: the network.
        frame: canonical rows.
        inside: from a row and its units to the share of each that the network reads, 0 or 1.
        linear: whether its log-odds are linear in what the units add.
    """

    name: str
    model: TableModel
    frame: pd.DataFrame
    inside: Callable[[dict[str, Any], Sequence[Unit]], Float[np.ndarray, " unit"]]
    linear: bool


def networks(rows: int = 8, seed: int = 0) -> list[KnownAnswer]:
    """Return a linear and a convolutional reader of pictures, a recurrent and an attending one of texts, and one of a table.

    Args:
        rows: rows of each.
        seed: seed of rows and of weights.
    """
    pictures = (image_network(kind, rows, seed) for kind in ("linear", "convolution"))
    texts = (text_network(kind, rows, seed) for kind in ("recurrent", "attention"))
    return [*pictures, *texts, table_network(rows, seed)]


def score(subject: KnownAnswer, method: str, *, seed: int = 0) -> list[Localisation]:
    """Explain every row of a known answer and say how much falls inside what the network reads."""
    found = engine.explain(subject.model, subject.frame, method=method, seed=seed, faithfulness=False)
    return [localise(np.array(e.values), subject.inside(e.inputs, e.units)) for e in found]


class _HandSet(TableModel):
    """Join one encoder to a head that reads its row vector as evidence for the second class."""

    def __init__(self, schema: Schema, name: str, encoder: Encoder) -> None:
        nn.Module.__init__(self)  # no part of it is looked up in the registry
        self.schema, self.groups = schema, {name: (encoder.kind, encoder.columns)}
        self.encoders = nn.ModuleDict({name: encoder})
        self.fusion, self.head = (
            Concat({name: encoder.dim}, {}),
            ClassificationHead(encoder.dim, len(CLASSES)),
        )
        with torch.no_grad():
            self.head.layers[-1].weight.copy_(torch.tensor([[-0.5], [0.5]]).expand(-1, encoder.dim))
            self.head.layers[-1].bias.zero_()
        self.eval()


def _schema(*inputs: tuple[str, str, Any]) -> Schema:
    columns = [Column(name, kind, "input", baseline=neutral) for name, kind, neutral in inputs]
    return Schema((*columns, Column("label", "category", "target")), "classification", CLASSES)


# pictures


class _RegionImage(ImageEncoder):
    """Read the pixels of a mask, by a weighted sum or by a convolution whose reach stays inside."""

    dim = 1

    def __init__(self, mask: Bool[np.ndarray, "height width"], kind: str, seed: int) -> None:
        super().__init__(["picture"], SIZE, 0.0, False)
        self.mask, self.linear, self.seed = torch.from_numpy(mask).float(), kind == "linear", seed

    def build_network(self) -> nn.Module:
        """Return a filter with fixed weights: of one pixel, or of 3 × 3 with a rectifier."""
        reach = 1 if self.linear else 3
        network = nn.Conv2d(3, 4, reach, padding=reach // 2, bias=False)
        weights = generator(self.seed, "kernel").normal(0.2, 0.5, tuple(network.weight.shape))
        with torch.no_grad():
            network.weight.copy_(torch.from_numpy(weights))
        return network

    def encode(self, tokens: Tokens) -> tuple[Tokens, Float[Tensor, "batch dim"]]:
        """Return the sum of the filtered pixels that see nothing outside the mask."""
        found = self.network(self.image(tokens))
        if self.linear:
            return tokens, (found * self.mask).sum(dim=(1, 2, 3)).unsqueeze(1) / self.mask.sum()
        inner = -nn.functional.max_pool2d(-self.mask[None], 3, 1, 1)  # one pixel less on every side
        return tokens, (torch.relu(found) * inner).sum(dim=(1, 2, 3)).unsqueeze(1) / self.mask.sum()


def image_network(kind: str, rows: int = 8, seed: int = 0) -> KnownAnswer:
    """Return a network that reads four of the sixteen regions of a picture.

    Args:
        kind: ``"linear"`` or ``"convolution"``.
        rows: number of pictures, of random pixels.
        seed: seed of pictures and weights.
    """
    cells = np.zeros((GRID, GRID), dtype=bool)
    cells[tuple(np.transpose(CELLS))] = True
    encoder = _RegionImage(cells.repeat(SIZE // GRID, 0).repeat(SIZE // GRID, 1), kind, seed)
    encoder.restore({"mean": [0.5] * 3, "std": [0.25] * 3})
    rng = generator(seed, "pictures")
    pictures = [rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8) for _ in range(rows)]
    frame = pd.DataFrame({"picture": pd.Series(pictures, dtype=object)})
    model = _HandSet(_schema(("picture", "image", None)), "image_0", encoder)
    inside = cells.ravel().astype(float)
    return KnownAnswer(f"{kind}, picture", model, frame, lambda row, units: inside, kind == "linear")


# texts


class _Gated(nn.Module):
    """Read the tokens whose first number, the gate, is above zero; their second number is what they say."""

    def __init__(self, attends: bool) -> None:
        super().__init__()
        self.attends = attends

    def forward(
        self, x: Float[Tensor, "batch token dim"], mask: Bool[Tensor, "batch token"]
    ) -> tuple[Float[Tensor, "batch token dim"], Float[Tensor, "batch 1"]]:
        """Return the tokens, and one number a row."""
        gate, said = torch.relu(x[..., 0]) * mask, x[..., 1]
        if self.attends:
            return x, (self.weights(gate, said) * said).sum(1, keepdim=True)
        state = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        for step in range(x.shape[1]):  # a closed gate hands the state on unchanged
            state = state + gate[:, step] * torch.tanh(said[:, step] - 0.1 * state)
        return x, state.unsqueeze(1)

    @staticmethod
    def weights(
        gate: Float[Tensor, "batch token"], said: Float[Tensor, "batch token"]
    ) -> Float[Tensor, "batch token"]:
        """Return attention that a closed gate gets none of; what no token gets goes to nothing at all."""
        strength = gate * torch.exp(said.abs())
        return strength / (1 + strength.sum(1, keepdim=True))

    def attention(
        self, x: Float[Tensor, "batch token dim"], mask: Bool[Tensor, "batch token"]
    ) -> dict[str, Tensor]:
        """Return the weights; none of a recurrent network."""
        return {"source2token": self.weights(torch.relu(x[..., 0]) * mask, x[..., 1])} if self.attends else {}


class _RegionText(WordEncoder):
    """Read the words of :data:`SPEAKING`."""

    dim = 1

    def __init__(self, attends: bool) -> None:
        super().__init__(["text"])
        self.attends = attends

    def build_network(self, dim_in: int) -> nn.Module:
        """Return the gated network."""
        return _Gated(self.attends)


def text_network(kind: str, rows: int = 8, seed: int = 0) -> KnownAnswer:
    """Return a network that reads four words; all other words have a value, but a closed gate.

    Args:
        kind: ``"recurrent"`` or ``"attention"``.
        rows: number of texts, of six to fourteen words, at least one of them read.
        seed: seed of texts and values.
    """
    encoder, rng = _RegionText(kind == "attention"), generator(seed, "texts")
    encoder.restore({"words": [*SPEAKING, *SILENT], "embedding_dim": 2})
    index = np.array(encoder.vocabulary.encode([*SPEAKING, *SILENT]))
    values = [[1.0, v] for v in SPEAKING.values()] + [[0.0, v] for v in rng.normal(0, 2, len(SILENT))]
    with torch.no_grad():
        encoder.embedding.weight.zero_()
        encoder.embedding.weight[index] = torch.tensor(values, dtype=torch.float32)
    model = _HandSet(_schema(("text", "text", "")), "text", encoder)
    frame = pd.DataFrame({"text": [_text(rng) for _ in range(rows)]}, dtype=object)
    return KnownAnswer(f"{kind}, text", model, frame, _speaking, False)


def _text(rng: np.random.Generator) -> str:
    words = [*rng.choice(SILENT, rng.integers(4, 10)), *rng.choice(list(SPEAKING), rng.integers(1, 5))]
    return " ".join(rng.permutation(words))


def _speaking(row: dict[str, Any], units: Sequence[Unit]) -> Float[np.ndarray, " unit"]:
    return np.array([unit.label in SPEAKING for unit in units], dtype=float)


# tables


def table_network(rows: int = 8, seed: int = 0) -> KnownAnswer:
    """Return a network of five numbers that reads two of them, together, through a hidden layer.

    Args:
        rows: number of rows.
        seed: seed of rows and weights.
    """
    rng = generator(seed, "numbers")
    frame = pd.DataFrame(rng.normal(0, 1, (max(rows, 64), len(NUMBERS))), columns=list(NUMBERS))
    schema = _schema(*((name, "number", 0.0) for name in NUMBERS)).fitted(frame)
    config = ModelConfig(number=Part("piecewise_linear", {"dim": 4, "n_bins": 8}), hidden=(16,), dropout=0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TableModel(schema, config)
        model.fit_parts(frame, np.zeros(len(frame), dtype=int), torch.Generator().manual_seed(seed))
    read = torch.tensor([name in READ for name in NUMBERS]).repeat_interleave(4)
    with torch.no_grad():
        model.head.layers[0].weight.mul_(4 * read)
    return KnownAnswer("hidden layer, table", model.eval(), frame.head(rows), _read_columns, False)


def _read_columns(row: dict[str, Any], units: Sequence[Unit]) -> Float[np.ndarray, " unit"]:
    return np.array([unit.column in READ for unit in units], dtype=float)
