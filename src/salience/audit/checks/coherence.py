"""Do rows teach each other something? Gradient coherence early in training, beside shuffled labels on the same rows."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from salience.audit.context import AuditContext
from salience.audit.make import make_finding
from salience.audit.phrases import between, number, percent
from salience.core.errors import UnsupportedError
from salience.core.finding import Control, Finding
from salience.core.stats import generator
from salience.models.ensemble import Ensemble
from salience.models.slots import Encoder
from salience.models.table_model import TableModel
from salience.training.batches import epoch_batches
from salience.training.coherence import Coherence, coherence, table_batches
from salience.training.schedule import decay_groups

CARD = {
    "key": "coherence",
    "kind": "check",
    "order": 78,
    "retrains": True,
    "title": "Gradient coherence",
    "entry": "run",
    "summary": "Trains the model's own architecture anew on a sample of training rows for some dozen steps, once with their "
    "labels and once with the labels shuffled, and measures on the way how far the gradients of single rows agree.",
    "question": "Do training rows teach each other something, more than rows with shuffled labels would?",
    "paper": "On the Generalization Mystery in Deep Learning (Chatterjee & Zielinski, 2022); m-coherence: Making Coherence "
    "Out of Nothing At All (2020)",
    "year": 2022,
    "url": "https://arxiv.org/abs/2203.10036",
    "source": "papers; there is no code of the authors",
    "faithful": "m-coherence ‖Σ g‖² / Σ ‖g‖² over the gradients of single rows, real beside shuffled labels.",
    "deviates": "Fresh weights and a sample of rows, since the early phase tells most and the trained model is past it. "
    "The output's offset is fitted before each measurement: else all rows would agree on the share of the largest class, "
    "with shuffled labels too. Intervals by bootstrap over 16 groups of rows; that of the difference by Zou and Donner (2008).",
    "tasks": ["classification", "regression", "multi-label", "multi-regression"],
    "cost": "two trainings of 60 steps of 32 rows, and twenty passes over at most 1,000 rows (400 images); 200 rows, "
    "half of the steps and six passes if quick",
    "pass": "the peak is beyond that of shuffled labels, and at least three times as high",
    "warn": "it is beyond, but not three times as high; where it is higher but not beyond noise, the finding is for information",
    "fail": "it is not beyond noise, and less than half as high again",
}
ROWS, IMAGES, QUICK_ROWS, FEWEST = 1000, 400, 200, 64
STEPS, BATCH, RATE = 60, 32, 3e-3
NEWTON = 50  # iterations for the offset
MEASURED = (0.0, 1 / 12, 1 / 5, 1 / 2, 1.0)  # shares of the steps; the fresh weights, then ever wider apart
QUICK_MEASURED = (1 / 6, 1 / 2, 1.0)
PASS, ABOVE = 3.0, 1.5
REAL, SHUFFLED = "real labels", "shuffled labels"


@dataclass(frozen=True)
class Point:
    """Coherence after some steps.

    Attributes:
        epoch: passes over the rows so far.
        found: what was measured there.
    """

    epoch: float
    found: Coherence

    @property
    def value(self) -> float:
        """m-coherence."""
        return self.found.m_coherence

    @property
    def interval(self) -> tuple[float, float]:
        """Interval of m-coherence, from that of its unbiased form; NaN where there is none."""
        low, high = self.found.interval or (np.nan, np.nan)
        rows = self.found.m
        return max(1 + (rows - 1) * low, 0.0), 1 + (rows - 1) * high


def run(context: AuditContext) -> list[Finding]:
    """Measure coherence on training rows with their own and with shuffled labels.

    Raises:
        UnsupportedError: there are no training rows, or fewer than 64; the model cannot be trained anew here; or single
            rows have no gradient of their own in it.
    """
    config = _config(context.model)
    frame, truth = _rows(context)
    shuffled = generator(context.seed, "coherence labels").permutation(truth)
    curves = {
        name: _curve(context, config, frame, target) for name, target in ((REAL, truth), (SHUFFLED, shuffled))
    }
    real, control = (max(points, key=lambda p: p.value) for points in curves.values())
    difference = beyond(real, control)
    verdict = _verdict(real, control, difference)
    return [
        make_finding(
            CARD,
            answer=_answer(real, control, difference),
            verdict=verdict,
            value=real.value,
            unit="m-coherence (rows)",
            interval=real.interval,
            control=Control(
                "the same rows with shuffled labels, at their peak", control.value, control.interval
            ),
            split="train",
            rows=len(frame),
            advice="" if verdict == "pass" else _advice(context),
            tables={"m-coherence while training": _lines(curves), "what else was measured": _details(curves)},
        )
    ]


def _config(model: Any) -> Any:
    """Return the names and arguments of the model's parts.

    Raises:
        UnsupportedError: it is no model of tables of ours, or parts of it need a training of their own.
    """
    if not isinstance(model, TableModel | Ensemble):
        raise UnsupportedError(
            "The model cannot be trained anew here",
            type(model).__name__,
            "Measure it with salience.training.coherence.coherence.",
        )
    needing = [n for n, encoder in model.encoders.items() if type(encoder).pretrain is not Encoder.pretrain]
    if needing:
        raise UnsupportedError(
            "A part of the model needs a training of its own first",
            f"Encoder {needing[0]!r}.",
            "Measure its second stage with salience.training.coherence.coherence.",
        )
    return model.config


def _rows(context: AuditContext) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a sample of training rows: canonical inputs, and targets."""
    most = IMAGES if any(column.kind == "image" for column in context.schema.inputs) else ROWS
    most = 3 * QUICK_ROWS if context.quick else most  # quick samples take a third
    chosen = context.sample("train", most, "coherence")
    if len(chosen) < FEWEST:
        raise UnsupportedError(
            "Too few training rows to tell coherence from chance",
            f"{len(chosen)} rows.",
            f"Give at least {FEWEST}.",
        )
    frame = context.inputs("train").iloc[chosen].reset_index(drop=True)
    return frame, context.truth("train")[chosen]


def _curve(context: AuditContext, config: Any, frame: pd.DataFrame, target: np.ndarray) -> list[Point]:
    """Train fresh weights for some steps, and measure before, between and after them."""
    with torch.random.fork_rng():
        torch.manual_seed(context.seed)
        model = TableModel(context.schema, config)
        model.fit_parts(frame, target, torch.Generator().manual_seed(context.seed))
        model.to(next(context.model.parameters()).device)
        return _trained(context, model, frame, target)


def _trained(
    context: AuditContext, model: TableModel, frame: pd.DataFrame, target: np.ndarray
) -> list[Point]:
    examples, steps = model.prepare(frame), STEPS // 2 if context.quick else STEPS
    lengths = np.array([model.length(example) for example in examples])
    optimizer = torch.optim.AdamW(decay_groups(model, 0.0), lr=RATE)
    marks = {round(share * steps) for share in (QUICK_MEASURED if context.quick else MEASURED)}
    points, done = [], 0
    while True:
        for rows in epoch_batches(lengths, BATCH, context.seed, done):
            if done in marks:
                points.append(Point(done * BATCH / len(frame), _measure(context, model, frame, target)))
            if done == steps:
                return points
            _step(model, optimizer, [examples[i] for i in rows], torch.as_tensor(target[rows]))
            done += 1


def _step(
    model: TableModel, optimizer: torch.optim.Optimizer, examples: list[Any], target: torch.Tensor
) -> None:
    model.train()
    inputs = model.collate(examples)
    target = target.to(next(model.parameters()).device)
    output = model(inputs)
    loss, extra = model.head.loss(output, target), model.auxiliary_loss(output, target)
    (loss if extra is None else loss + extra).backward()
    optimizer.step()
    optimizer.zero_grad()


def _measure(context: AuditContext, model: TableModel, frame: pd.DataFrame, target: np.ndarray) -> Coherence:
    """Return coherence at the present weights, the output's own offset fitted to all rows.

    Else what all rows share, that the answer as a whole is too high or too low, would count as coherence, with
    shuffled labels too: at the start where classes are uneven, and after every step that goes too far.
    """
    context.forwards += 2 * len(frame)
    batches = list(table_batches(model, frame, target=target, seed=context.seed))
    model.eval()
    offset = _offset(model, batches)

    def loss(module: TableModel, batch: tuple[Any, torch.Tensor]) -> torch.Tensor:
        return module.head.row_losses(module(batch[0]) + offset, batch[1])

    return coherence(model, loss, batches, seed=context.seed)


def _offset(
    model: TableModel, batches: list[tuple[Any, torch.Tensor]]
) -> Float[torch.Tensor, "*member output"]:
    """Return what is best added to all outputs; the loss is convex in it."""
    with torch.no_grad():
        outputs = torch.cat([model(inputs) for inputs, _ in batches])
    targets = torch.cat([target for _, target in batches])
    offset = torch.zeros_like(outputs[0], requires_grad=True)
    optimizer = torch.optim.LBFGS([offset], max_iter=NEWTON, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model.head.row_losses(outputs + offset, targets).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    return offset.detach()


def beyond(real: Point, control: Point) -> tuple[float, float]:
    """Return the interval of the difference of two independent values, from their own intervals (MOVER).

    Source: Zou & Donner, Statistics in Medicine 2008.
    """
    (low, high), (under, over) = real.interval, control.interval
    difference = real.value - control.value
    below = np.hypot(real.value - low, over - control.value)
    above = np.hypot(high - real.value, control.value - under)
    return float(difference - below), float(difference + above)


def _verdict(real: Point, control: Point, difference: tuple[float, float]) -> str:
    ratio = real.value / max(control.value, 1.0)
    if difference[0] > 0:
        return "pass" if ratio >= PASS else "warn"
    return "info" if ratio >= ABOVE else "fail"


def _answer(real: Point, control: Point, difference: tuple[float, float]) -> str:
    rows = real.found.m
    seen = "beyond noise" if difference[0] > 0 else "not beyond noise"
    return (
        f"Early in training, a small step along the gradient of one training row helps {number(real.value)} of {rows} rows on "
        f"average ({between(real.interval)}; 1 would be every row for itself). With the same rows and shuffled labels it is "
        f"{number(control.value)} at most ({between(control.interval)}): the difference is {seen} "
        f"({between(difference)}). Shuffled labels begin near 1, and in long trainings they rise above it too while they are "
        "memorised: the order of the two curves in the early phase is the reliable sign, not a value above 1."
    )


def _advice(context: AuditContext) -> str:
    kind = "numbers" if context.task == "regression" else "labels"
    return (
        f"Look at how the {kind} were made: much noise in them, columns that say little about them, or few rows all look "
        "like this. With more training rows the two curves part more clearly."
    )


def _lines(curves: dict[str, list[Point]]) -> list[dict[str, Any]]:
    return [
        {"line": name, "epoch": point.epoch, "value": point.value, "low": point.interval[0], "high": point.interval[1], "reference": 1.0}
        for name, points in curves.items()
        for point in points
    ]  # fmt: skip


def _details(curves: dict[str, list[Point]]) -> list[dict[str, Any]]:
    return [
        {
            "labels": name,
            "epoch": point.epoch,
            "agreement of two rows (unbiased α)": point.found.unbiased,
            "rows with a gradient left": percent(point.found.active_share),
            "note": "; ".join(note for note in (point.found.reason, *point.found.notes) if note),
        }
        for name, points in curves.items()
        for point in points
    ]
