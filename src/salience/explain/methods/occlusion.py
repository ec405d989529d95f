"""Occlusion: take one unit away at a time and see how the answer falls."""

from collections.abc import Iterator
from time import perf_counter
from typing import Any

import pandas as pd

from salience.explain.attribution import Attribution
from salience.explain.model import BlackBox
from salience.explain.rows import evaluate, records
from salience.explain.state import frozen
from salience.explain.target import Target, score

CARD = {
    "key": "occlusion",
    "kind": "explainer",
    "title": "Occlusion of units",
    "entry": "Occlusion",
    "summary": "Removes one word, region or cell at a time; its value is how far the answer falls. Needs no gradient.",
    "paper": "Visualizing and Understanding Convolutional Networks (Zeiler, Fergus, ECCV 2014)",
    "year": 2014,
    "url": "https://arxiv.org/abs/1311.2901",
    "source": "paper, section 4.2",
    "faithful": "One part hidden at a time, the drop of the explained output.",
    "deviates": "Parts are units (words, cells, regions) rather than a sliding grey square.",
    "needs": "black_box",
    "complete": False,
    "signed": True,
    "exact_linear": True,
    "uses_target": True,
    "kinds": ["text", "image", "number", "category"],
    "tasks": ["classification", "regression"],
    "cost": "one forward pass a unit, packed over rows and units",
    "defaults": {},
}


class Occlusion:
    """Attribute by leaving one unit out."""

    def attribute(
        self,
        model: BlackBox,
        frame: pd.DataFrame,
        targets: list[Target],
        *,
        seed: int = 0,
        memory_mb: int | float = 256,
    ) -> list[Attribution]:
        """Return one attribution a row; see :mod:`salience.explain.model` for what the model must offer."""
        begin = perf_counter()
        rows = records(model, frame)
        units = [model.units(row) for row in rows]
        counts = [len(found) + 2 for found in units]  # whole, empty, and one without each unit
        every = [target for target, count in zip(targets, counts, strict=True) for _ in range(count)]
        with frozen(model):
            scores = evaluate(
                model,
                _variants(model, rows, units),
                memory_mb,
                lambda outputs, first: score(outputs, every[first : first + len(outputs)]),
            )
        start, result = 0, []
        seconds = (perf_counter() - begin) / max(sum(counts), 1)
        for count in counts:
            whole, empty = scores[start], scores[start + 1]
            values = whole - scores[start + 2 : start + count]
            result.append(
                Attribution(
                    values,
                    float(whole),
                    float(empty),
                    "the row without the unit",
                    None,
                    count,
                    seconds * count,
                )
            )
            start += count
        return result


def _variants(model: BlackBox, rows: list[dict[str, Any]], units: list[Any]) -> Iterator[dict[str, Any]]:
    for row, found in zip(rows, units, strict=True):
        yield row
        yield model.remove(row, found)
        for unit in found:
            yield model.remove(row, (unit,))
