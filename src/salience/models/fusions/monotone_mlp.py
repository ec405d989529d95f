"""Fusion: a perceptron that is monotone in chosen number columns, by the signs of its weights.

**Claim.** With ``increasing=["a"]``, the log-odds of the second of two classes, or the predicted number, never fall when the
cell of ``a`` rises and all other cells stay; with ``decreasing`` they never rise. It holds for every row, seen or not, and
for every value of the weights, so also in the midst of training.

**Proof.** Follow one constrained column; s is 1 where it is increasing, −1 where decreasing.

1. Its places in the row vector are non-decreasing functions of its cell, and of no other cell; no other place depends on it.
   This is what an encoder with ``monotone`` promises, and other encoders are refused: scaled numbers (a positive factor, or
   a quantile transform), plain ramps of bins (slope 1 / width or 0), thermometers (steps up).
2. The free branch reads the row vector with constrained places set to zero. It does not depend on the column.
3. The first monotone layer adds ``s·|v|`` times each of these places to something that does not depend on the column. Each of its
   sums is non-decreasing in the cell if s is 1, non-increasing if it is −1.
4. Each activation is non-decreasing (see :class:`~salience.nn.blocks.monotone.Mixture`), and each further layer takes sums
   with weights ``|v| ≥ 0``. Both keep the direction. Dropout multiplies by numbers that are not negative.
5. The head's hidden layers have weights ``|v|`` and ReLU: the direction is kept. Its last layer has weights ``|v|`` for a number
   and for the second class, ``−|v|`` for the first class; so the number, or the difference of the logits, keeps it too.
   A temperature or a standard deviation is positive. ∎

The claim is about real numbers; floating-point sums may differ in the last digits. A missing cell has no place in the order:
what it gives is learned freely. :func:`salience.models.monotone.prove` verifies the conditions on a model's actual weights.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from salience.core.errors import ConfigError, NotFittedError, UnsupportedError, nearest
from salience.models.backbone import Columns, perceptron, side_by_side
from salience.models.slots import Encoder, Fusion, Head, Tokens
from salience.nn.blocks.monotone import Mixture, MonotoneLinear, NonNegative
from salience.nn.dropout import Dropout

CARD = {
    "key": "monotone_mlp",
    "kind": "fusion",
    "title": "Perceptron that is monotone in chosen columns",
    "entry": "MonotoneMLP",
    "summary": "Columns named in increasing or decreasing move the answer one way only, in every row; proved from the signs of the weights.",
    "paper": "Constrained Monotonic Neural Networks (Runje, Shankaranarayana, ICML 2023)",
    "year": 2023,
    "url": "https://arxiv.org/abs/2205.11775",
    "faithful": "Weights by absolute value, signs by the asked direction; convex, concave and saturated units side by side.",
    "deviates": "The other columns first pass a free perceptron (the paper's second architecture); shares of the activations are ours; the head is constrained too.",
    "tasks": ["classification", "regression"],
    "cost": "O(inputs × width + layers × width²) a row",
    "defaults": {"widths": [256, 128], "free_widths": [256], "dropout": 0.1},
    "tiny": {"widths": [10, 5], "free_widths": [6], "dropout": 0.0},
}
TASKS = ("classification", "regression")


class MonotoneMLP(Fusion):
    """Join columns so that the answer is monotone in some of them; the module's text has the proof.

    Args:
        dims: size of each encoder's row vector, by name.
        token_dims: not used.
        columns: places of the row vector that each column takes, by encoder.
        increasing: number columns with which the answer may only rise.
        decreasing: number columns with which it may only fall.
        widths: sizes of the monotone layers.
        free_widths: sizes of the free branch's layers; none lets the other columns into the first monotone layer as they are.
        dropout: share of activations dropped in training, in [0, 1).

    Attributes:
        sign: 1, −1 or 0 (free) for each place of the row vector.
        places: positions of the constrained ones.
    """

    sign: Tensor
    places: Tensor
    head_hidden = ()
    knows_columns = True

    def __init__(
        self,
        dims: dict[str, int],
        token_dims: dict[str, int],
        columns: Columns,
        increasing: Sequence[str] = (),
        decreasing: Sequence[str] = (),
        widths: Sequence[int] = (256, 128),
        free_widths: Sequence[int] = (256,),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        both = sorted(set(increasing) & set(decreasing))
        if both:
            raise ConfigError(f"{both[0]!r} cannot be increasing and decreasing", "", "Keep one of the two.")
        self.directions = {**dict.fromkeys(increasing, 1), **dict.fromkeys(decreasing, -1)}
        self.layout, self.dim = columns, widths[-1]
        size = sum(dims.values())
        self.register_buffer("sign", torch.zeros(size), persistent=False)
        self.register_buffer("places", torch.zeros(0, dtype=torch.long), persistent=False)
        self.branch = perceptron([size, *free_widths], dropout)
        self.free = nn.Linear([size, *free_widths][-1], widths[0])
        self.first: MonotoneLinear | None = None
        self.layers = nn.ModuleList(MonotoneLinear(a, b) for a, b in pairwise(widths))
        self.activations = nn.ModuleList(Mixture(width) for width in widths)
        self.dropout = Dropout(dropout)

    def bind(self, encoders: dict[str, Encoder], head: Head) -> None:
        """Build the layer of the constrained columns' places, and constrain the head; nothing if no direction is asked for.

        Raises:
            ConfigError: there is no such column.
            UnsupportedError: the column is no number, its encoder is not monotone, or the task has no order of answers.
        """
        if not self.directions:
            return
        self._check(encoders, head)
        parts = [
            torch.full((size,), float(self.directions.get(column, 0)))
            for name, encoder in encoders.items()
            for column, size in zip(_owners(encoder, self.layout[name]), self.layout[name], strict=True)
        ]
        self.sign.copy_(torch.cat(parts))
        self.places = self.sign.nonzero().squeeze(1)
        own = self.sign[self.places]
        self.first = MonotoneLinear(len(own), self.free.out_features, own, bias=False)
        _constrain(head)

    def _check(self, encoders: dict[str, Encoder], head: Head) -> None:
        known = {column: encoder for encoder in encoders.values() for column in encoder.columns}
        for column in self.directions:
            if column not in known:
                raise ConfigError(
                    f"There is no column {column!r} to constrain", "", nearest(column, known), code="SAL-C001"
                )
            if known[column].kind != "number":
                raise UnsupportedError(
                    f"The column {column!r} has no order",
                    f"It is a {known[column].kind}.",
                    "Constrain numbers.",
                )
            if not known[column].monotone:
                raise UnsupportedError(
                    "This encoder of numbers does not keep their order",
                    f"{type(known[column]).__name__}, for the column {column!r}.",
                    "Use model.number=plain_numbers, or plain ramps: model.number=Q or model.number=T.",
                )
        outputs = _linear(head)[-1].out_features
        if head.task not in TASKS or (head.task == "classification" and outputs != 2):
            raise UnsupportedError(
                "A direction needs two classes or one number",
                f"The task is {head.task} with {outputs} outputs.",
                "Take the directions away, or predict one class against the others.",
            )

    def forward(self, vectors: dict[str, Tensor], tokens: dict[str, Tokens]) -> Float[Tensor, "batch dim"]:
        """Return the last monotone layer's activations.

        Raises:
            NotFittedError: directions were asked for, but it was not told which places are theirs.
        """
        if self.directions and self.first is None:
            raise NotFittedError(
                "The monotone fusion does not know its columns", "", "Call bind(encoders, head) first."
            )
        x = side_by_side(vectors)
        summed = self.free(self.branch(x * (self.sign == 0)))
        if self.first is not None:
            summed = summed + self.first(x[:, self.places])
        for activation, layer in zip(self.activations, [*self.layers, None], strict=True):
            x = self.dropout(activation(summed))
            summed = x if layer is None else layer(x)
        return x


def _owners(encoder: Encoder, sizes: list[int]) -> list[str]:
    """Return the column that each part of a row vector belongs to; none where parts are not columns."""
    return encoder.columns if len(encoder.columns) == len(sizes) else [""] * len(sizes)


def _linear(head: Head) -> list[nn.Linear]:
    return [layer for layer in head.modules() if isinstance(layer, nn.Linear)]


def _constrain(head: Head) -> None:
    """Give the head's weights their signs: positive, but for the logit of the first of two classes."""
    *hidden, last = _linear(head)
    for layer in hidden:
        parametrize.register_parametrization(layer, "weight", NonNegative())
    signs = torch.tensor([-1.0, 1.0] if head.task == "classification" else [1.0])
    parametrize.register_parametrization(last, "weight", NonNegative(signs))
