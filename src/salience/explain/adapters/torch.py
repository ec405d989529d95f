"""A plain torch module, seen as a model of rows: token ids, numbers or images."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from salience.data.schema import Column
from salience.explain.adapters.base import Adapted, schema_of
from salience.explain.adapters.continuous import ContinuousModel, FeatureInput, ImageInput
from salience.explain.adapters.raw import Raw
from salience.explain.adapters.reading import Reading, cutter, join
from salience.explain.adapters.tokens import TokenModel, with_gradients


class TokenInput:
    """Say how the text of a row becomes token ids [batch, length].

    Args:
        encode: a vocabulary (word → id; words and punctuation marks are cut by :func:`salience.data.words.cut`), or a
            function from a text to ``(id, start, stop)`` for each token, with character offsets.
        pad_id: token that fills short rows, on the right.
        neutral_id: token that takes the place of a removed word, and of words that a vocabulary does not hold; best
            one that the module knows as a mask or an unknown word. The pad token if not given: then the removed
            word is also hidden from modules that mask padding.
        max_length: tokens of a row at most; longer texts are cut, and words beyond are no units.
        column: name of the text column.
    """

    def __init__(
        self,
        encode: Mapping[str, int] | Callable[[str], Sequence[tuple[int, int, int]]],
        *,
        pad_id: int = 0,
        neutral_id: int | None = None,
        max_length: int | None = None,
        column: str = "text",
    ) -> None:
        self.pad_id, self.columns = pad_id, [column]
        self.neutral_id = pad_id if neutral_id is None else neutral_id
        self._cut, self._max = cutter(encode, self.neutral_id), max_length

    def read(self, texts: tuple[str, ...]) -> Reading:
        """Return the tokens of a text; of one without tokens a neutral one, since modules need something to read."""
        pieces = self._cut(texts[0])[: self._max]
        return join(self.columns[0], texts[0], pieces or [(self.neutral_id, 0, 0)])

    def trial(self) -> Reading:
        """Return two tokens that are not padding, in turn."""
        first, second = [i for i in range(3) if i != self.pad_id][:2]
        return Reading(np.array([first, second] * 8), np.arange(16), ())

    def model(self, module: nn.Module, forward: Any, raw: Raw, target: str | None) -> Adapted:
        """Return the module as a model: a white box where one embedding looks up all tokens."""
        schema = schema_of([Column(self.columns[0], "text", "input", baseline="")], target, raw.classes)
        call = forward or (lambda module, ids, mask: module(ids))
        return with_gradients(TokenModel(module, self, call, raw, schema))


def from_torch(
    module: nn.Module,
    reads: TokenInput | FeatureInput | ImageInput,
    *,
    classes: Sequence[str] | None = None,
    target: str | None = None,
    answers: str = "logits",
    forward: Callable[..., Any] | None = None,
) -> Adapted:
    """Return a torch module as a model that can be explained.

    Args:
        module: the module; it is called in evaluation mode and left as it was.
        reads: what it reads: :class:`TokenInput`, :class:`FeatureInput` or :class:`ImageInput`.
        classes: names of the classes, in the order of the outputs; None for a module that predicts a number. A
            module with one output for two classes gives that of the second.
        target: name of what is predicted, for people.
        answers: ``"logits"``, or ``"probabilities"``, of which the clipped logarithm is taken.
        forward: how the module is called, if not as ``module(input)``: for tokens ``forward(module, ids, mask)``,
            with a mask that is True at tokens and False at padding.

    Returns:
        A white box where gradients have a place to start, else a black box.

    Raises:
        ConfigError: the module cannot be called, or answers in another shape (SAL-M003).
    """
    names = None if classes is None else [str(name) for name in classes]
    raw = Raw(names, answers, type(module).__name__)
    if isinstance(reads, TokenInput):
        return reads.model(module, forward, raw, target)
    schema = schema_of(reads.columns, target, names)
    return ContinuousModel(module, reads, forward or (lambda module, x: module(x)), raw, schema)
