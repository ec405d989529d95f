"""The slots of a table model: encoder, fusion, head, and the tokens that pass between them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from salience.core.unit import Unit
from salience.nn.dropout import Dropout
from salience.nn.embeddings.nlinear import NLinear

TrainFirst = Callable[[str, dict[str, Any]], nn.Module]


@dataclass(frozen=True)
class Tokens:
    """Carry a batch of token sequences and say which unit each token belongs to.

    Attributes:
        values: one vector a token.
        mask: True where a token is real, False at padding.
        unit: index of the token's unit among the encoder's units of that row; −1 for none.
        kept: how much of each token a model that selects reads, in [0, 1]; None where all tokens are read.
    """

    values: Float[Tensor, "batch token dim"]
    mask: Bool[Tensor, "batch token"]
    unit: Int[Tensor, "batch token"]
    kept: Float[Tensor, "batch token"] | None = None

    def with_values(self, values: Float[Tensor, "batch token dim"]) -> "Tokens":
        """Return the same tokens with other vectors."""
        return replace(self, values=values)

    def take(self, rows: Int[Tensor, " line"]) -> "Tokens":
        """Return the tokens of some rows, in this order, repeated as often as they are named."""
        kept = None if self.kept is None else self.kept[rows]
        return Tokens(self.values[rows], self.mask[rows], self.unit[rows], kept)

    @staticmethod
    def joined(parts: Sequence["Tokens"]) -> "Tokens":
        """Return the rows of batches of equal width, one batch after the other."""
        kept = None if parts[0].kept is None else torch.cat([p.kept for p in parts])
        return Tokens(*(torch.cat([getattr(p, n) for p in parts]) for n in ("values", "mask", "unit")), kept)


class Encoder(nn.Module, ABC):
    """Turn raw cells into tokens and one vector a row.

    A text or image encoder serves the columns it is given as one sequence; a number or category encoder
    serves all columns of its kind, one token a column. Whatever is learned from data before training
    (vocabulary, bins) is learned in :meth:`fit`, from training rows only, and kept in :meth:`state`.

    Args:
        columns: names of the columns that it serves.

    An encoder with ``selects`` chooses which tokens it reads; only such a one is asked for :meth:`rationale`,
    :meth:`auxiliary_loss` and :meth:`diagnostics`.
    """

    kind: str
    dim: int
    selects = False

    def __init__(self, columns: list[str]) -> None:
        super().__init__()
        self.columns = list(columns)

    @abstractmethod
    def fit(self, frame: pd.DataFrame, target: np.ndarray, generator: torch.Generator) -> None:
        """Learn from training rows and build the parameters.

        Args:
            frame: canonical cells.
            target: what is to be predicted, for encoders that look at it (bins chosen by a tree).
            generator: source of random choices.
        """

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return what :meth:`fit` learned and is not a tensor, as JSON-ready data."""

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> None:
        """Rebuild from :meth:`state`; tensors are loaded afterwards."""

    @abstractmethod
    def prepare(self, frame: pd.DataFrame) -> list[Any]:
        """Return one compact example a row, computed once for a data set."""

    def length(self, example: Any) -> int:
        """Return the number of tokens of an example, for batches of like length."""
        return 1

    @abstractmethod
    def collate(self, examples: list[Any]) -> dict[str, Tensor]:
        """Join examples to tensors."""

    @abstractmethod
    def embed(self, batch: dict[str, Tensor]) -> Tokens:
        """Return the continuous input, where gradient methods start."""

    @abstractmethod
    def baseline(self, batch: dict[str, Tensor]) -> Tokens:
        """Return the neutral input of the same shape as :meth:`embed`."""

    def column_dims(self) -> list[int]:
        """Return how many places of the row vector each column takes, in order; all for one without a token a column."""
        size = getattr(self, "token_dim", self.dim)
        return [size] * (self.dim // size)

    @property
    def monotone(self) -> bool:
        """Whether each place of a column's part of the row vector depends on its cell alone and never falls when the
        cell rises, whatever the weights; what a learned vector of a missing cell gives has no place in that order.
        """
        return False

    @abstractmethod
    def encode(self, tokens: Tokens) -> tuple[Tokens, Float[Tensor, "batch dim"]]:
        """Return tokens in context, and one vector a row."""

    @abstractmethod
    def units(self, row: dict[str, Any]) -> tuple[Unit, ...]:
        """Return the units of a raw row, in the order that ``Tokens.unit`` counts them."""

    def attention(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return attention maps for explanation, by name; none by default."""
        return {}

    def rationale(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return which tokens a model that selects reads, (batch, token) by name; none by default."""
        return {}

    def auxiliary_loss(self, row_losses: Float[Tensor, " batch"]) -> Float[Tensor, " batch"] | None:
        """Return what training adds to the loss of each row of the batch that was embedded last; none by default.

        Args:
            row_losses: the task's loss of each row, without gradient.
        """
        return None

    def diagnostics(self, batch: dict[str, Tensor]) -> dict[str, Float[Tensor, " batch"]]:
        """Return numbers to watch in training, one a row, averaged over the validation rows; none by default.

        ``penalty`` says by which share a row makes the validation score worse, so that weights that break what was
        asked of the encoder are not kept as the best.
        """
        return {}

    def pretrain(self, train: TrainFirst) -> None:
        """Train what must be trained before the rest, on the same rows; nothing by default.

        Args:
            train: trains another encoder of the same columns, with a head for the same target: from its registered
                key and arguments to a :class:`~salience.models.table_model.TableModel` with its best weights.
        """


class Fusion(nn.Module, ABC):
    """Join the encoders' outputs to one vector a row, or to one a row and member.

    Args:
        dims: size of each encoder's row vector.
        token_dims: size of each encoder's tokens, of encoders with one token a column.
        columns: given to a fusion with ``knows_columns`` alone: what each encoder's ``column_dims()`` returns.

    Attributes:
        dim: size of the vector.
        members: how many models share this fusion's weights and answer side by side; with more than one, the vector
            is ``(batch, member, dim)`` and the head has one output layer a member.
        head_hidden: sizes of the head's hidden layers where none are asked for; a backbone that is a network of its
            own has none behind it.
        attends: whether it shows attention weights of encoders' tokens, see :mod:`salience.nn.watch`.
        knows_columns: whether it asks which places of the row vectors belong to one column.
    """

    dim: int
    members: int = 1
    head_hidden: tuple[int, ...] = (128,)
    attends = False
    knows_columns = False

    @abstractmethod
    def forward(
        self, vectors: dict[str, Float[Tensor, "batch _"]], tokens: dict[str, Tokens]
    ) -> Float[Tensor, "batch *member dim"]:
        """Return one vector a row, or one a row and member."""

    def bind(self, encoders: dict[str, Encoder], head: "Head") -> None:
        """Look at the parts of the model once all are built, for a fusion that depends on them; nothing by default."""


class Head(nn.Module, ABC):
    """Turn the row vector into the answer of a task.

    Outputs of a fusion with members have an axis more. The loss is the mean of the members' losses, each a model for
    itself; :meth:`join` makes of their outputs the one answer that is calibrated, explained and shown.
    """

    task: str

    @abstractmethod
    def forward(self, vector: Float[Tensor, "batch *member dim"]) -> Float[Tensor, "batch *member output"]:
        """Return raw outputs: logits, or the standardised target."""

    @abstractmethod
    def loss(self, output: Float[Tensor, "batch *member output"], target: Tensor) -> Float[Tensor, ""]:
        """Return the mean loss of a batch, over members too."""

    @abstractmethod
    def row_losses(
        self, output: Float[Tensor, "batch *member output"], target: Tensor
    ) -> Float[Tensor, " batch"]:
        """Return each row's share: their sum over :meth:`weight` is :meth:`loss`."""

    def weight(self, target: Tensor) -> float:
        """Return what the mean loss of these rows is divided by: rows, or the sum of their weights."""
        return float(len(target))

    def join(self, output: Float[Tensor, "batch *member output"]) -> Float[Tensor, "batch output"]:
        """Return the members' common answer: their mean; one model's output is returned as it is."""
        return output.mean(dim=1) if output.ndim == 3 else output

    @abstractmethod
    def finish(self, output: Float[Tensor, "batch output"]) -> Float[Tensor, "batch output"]:
        """Return joined outputs as users see them: calibrated logits, or the target in its own units."""


class MLP(nn.Sequential):
    """Stack ``Linear → ReLU → Dropout`` blocks and a last linear layer.

    Args:
        dim_in: size of the input.
        dim_out: size of the output.
        hidden: sizes of the hidden layers; none makes it one linear layer.
        dropout: share of hidden activations that is dropped in training, in [0, 1).
        members: with more than one, the input is ``(batch, member, dim_in)``; hidden layers are shared, and each
            member has a last layer of its own.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        hidden: tuple[int, ...] = (),
        dropout: float = 0.0,
        members: int = 1,
    ) -> None:
        layers: list[nn.Module] = []
        for size in hidden:
            layers += [nn.Linear(dim_in, size), nn.ReLU(), Dropout(dropout)]
            dim_in = size
        last = nn.Linear(dim_in, dim_out) if members == 1 else NLinear(members, dim_in, dim_out, bias=True)
        super().__init__(*layers, last)
