"""The selection of a model that selects, then predicts: which words its answer was computed from."""

from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from salience.core.errors import ConfigError, UnsupportedError, nearest
from salience.explain.attribution import Attribution
from salience.explain.maps import unit_weights
from salience.explain.model import WhiteBox
from salience.explain.state import frozen
from salience.explain.target import Target, score

CARD = {
    "key": "rationale",
    "kind": "explainer",
    "title": "Rationale of the model itself",
    "entry": "Rationale",
    "summary": "Shows which words a select-then-predict model read. No other word of the text reached the part that answers.",
    "paper": "Rationalizing Neural Predictions (Lei, Barzilay, Jaakkola, EMNLP 2016)",
    "year": 2016,
    "url": "https://arxiv.org/abs/1606.04155",
    "source": "paper",
    "faithful": "The selection that the prediction was computed from, in evaluation: 1 for a word that is read, 0 for one that is not, a number between for one that is read in part.",
    "deviates": "It does not say why the words were selected: the selector has read the whole text.",
    "needs": "white_box",
    "complete": False,
    "signed": False,
    "exact_linear": False,
    "uses_target": False,
    "kinds": ["text"],
    "tasks": ["classification", "regression"],
    "cost": "two forward passes a row",
    "defaults": {"value": "selected"},
    "selects": True,
}
VALUES = ("selected", "probability")


class Rationale:
    """Attribute by the model's own selection. Units of columns that are read whole, such as numbers, get NaN.

    Args:
        value: ``"selected"`` for how much of a word is read, ``"probability"`` for the selector's probability of
            reading it, of models that have one.
    """

    def __init__(self, value: str = "selected") -> None:
        if value not in VALUES:
            raise ConfigError(f"Unknown value {value!r}", "", nearest(value, VALUES), code="SAL-C004")
        self.value = value

    def attribute(
        self,
        model: WhiteBox,
        frame: pd.DataFrame,
        targets: list[Target],
        *,
        seed: int = 0,
        memory_mb: int | float = 256,
    ) -> list[Attribution]:
        """Return one attribution a row; evidence holds ``"<encoder>/<name>"`` (token): selection and probability.

        Raises:
            UnsupportedError: the model reads all of its input, or its selection has no probabilities.
        """
        if not len(frame):
            return []
        begin = perf_counter()
        with frozen(model), torch.no_grad():
            batch = model.collate(model.prepare(frame))
            tokens, found = model.embed(batch), self._found(model, batch)
            weights = {name: parts[self.value] for name, parts in found.items()}
            values = unit_weights(model, frame, tokens, weights, mean=True)
            outputs = score(model.finish(model.forward_tokens(tokens)).double(), targets).tolist()
        seconds = (perf_counter() - begin) / len(frame)
        evidence = [_evidence(found, tokens, i) for i in range(len(frame))]
        return [
            Attribution(v, output, None, "none", None, 2, seconds, shown)
            for v, output, shown in zip(values, outputs, evidence, strict=True)
        ]

    def _found(self, model: Any, batch: Any) -> dict[str, dict[str, Tensor]]:
        found = model.rationale(batch) if hasattr(model, "rationale") else {}
        if not found:
            raise UnsupportedError(
                "This model selects nothing: it reads all of its input",
                type(model).__name__,
                "Train with model.text=rationale_hardkuma, rationale_reinforce or fresh, or use another method.",
            )
        if any(self.value not in parts for parts in found.values()):
            raise UnsupportedError(
                "The selection of this model has no probabilities",
                f"value={self.value!r}.",
                "Use value='selected'.",
            )
        return found


def _evidence(found: dict[str, dict[str, Tensor]], tokens: dict[str, Any], row: int) -> dict[str, np.ndarray]:
    return {
        f"{name}/{key}": values[row][tokens[name].mask[row]].float().cpu().numpy()
        for name, parts in found.items()
        for key, values in parts.items()
    }
