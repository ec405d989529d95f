"""The check of coherence: it tells rows that share something from rows that do not, and refuses what it cannot measure."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from salience import Predictor
from salience.audit.checks import coherence as check
from salience.audit.checks.coherence import REAL, SHUFFLED, Point, beyond
from salience.audit.context import AuditContext
from salience.audit.engine import run_check
from salience.core.errors import UnsupportedError
from salience.core.registry import card
from salience.report.tables import figure
from salience.testing.toy import LinearToy, toy_frame
from salience.training.coherence import coherence, table_batches

PARTS = [
    "training.epochs=0", "threads=1", "model.number={name: plain_numbers, args: {scaling: standard}}",
    "model.fusion={name: mlp, args: {widths: [8], dropout: 0.0}}", "model.hidden=[]",
]  # fmt: skip


def table(rows=240, seed=0, noise=False, uneven=0.0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(rows, 4)), columns=list("abcd"))
    score = rng.normal(size=rows) if noise else frame.a + frame.b + 0.3 * rng.normal(size=rows)
    return frame.assign(y=np.where(score > uneven, "yes", "no"), z=100 + 7 * score)


def context(frame, target="y", parts=(), quick=True, seeds=1):
    drop = ["z" if target == "y" else "y"]
    predictor = Predictor(target, drop=drop, seeds=seeds, overrides=[*PARTS, *parts]).fit(frame)
    frames = {"train": frame, "test": frame.head(20)}
    return AuditContext(predictor.model, predictor.schema, frames, quick=quick)


@pytest.mark.parametrize("target", ["y", "z"])
def test_labels_that_follow_from_the_columns_pass(target):
    given = context(table(), target)
    (finding,) = check.run(given)
    assert finding.verdict == "pass"
    assert finding.value > 3 * max(finding.control.value, 1)
    assert finding.interval[0] > finding.control.value
    assert (finding.split, finding.rows) == ("train", 200)
    assert "1 would be every row for itself" in finding.answer
    assert "shuffled labels" in finding.answer and "early phase" in finding.answer


@pytest.mark.parametrize("labels", [True, False], ids=["multi-label", "multi-regression"])
def test_several_targets(labels):
    frame = table().drop(columns=["y", "z"])
    values = {name: frame[name] + 0.3 * frame.d for name in "ab"}
    targets = {f"t{name}": (v > 0.5).astype(int) if labels else v for name, v in values.items()}
    predictor = Predictor(["ta", "tb"], overrides=PARTS).fit(frame.assign(**targets))
    given = AuditContext(predictor.model, predictor.schema, {"train": frame.assign(**targets)}, quick=True)
    (finding,) = run_check(card("check", "coherence"), check.run, given)
    assert given.task == ("multi-label" if labels else "multi-regression")
    assert finding.verdict == "pass"


def test_labels_drawn_by_lot_do_not_pass():
    (finding,) = check.run(context(table(noise=True)))
    assert finding.verdict in ("fail", "info")
    assert "not beyond noise" in finding.answer
    assert finding.advice


def test_uneven_classes_are_no_coherence():
    """Where one class is rare, all rows agree on its share; that must not count, with shuffled labels either."""
    (finding,) = check.run(context(table(noise=True, uneven=1.3)))
    assert finding.control.value < 3
    assert finding.value < 6


def test_the_curves_are_a_picture():
    given = context(table())
    (finding,) = check.run(given)
    lines = finding.tables["m-coherence while training"]
    assert [x["line"] for x in lines] == [REAL] * 3 + [SHUFFLED] * 3
    epochs = [x["epoch"] for x in lines[:3]]
    assert epochs == sorted(epochs) and epochs[0] > 0  # fresh weights are not measured if quick
    assert epochs[-1] == pytest.approx(30 * 32 / 200)  # half of the steps if quick
    assert max(x["value"] for x in lines if x["line"] == REAL) == finding.value
    assert figure("m-coherence while training", lines).kind == "lines"
    assert {x["labels"] for x in finding.tables["what else was measured"]} == {REAL, SHUFFLED}


def test_the_first_point_is_the_coherence_of_fresh_weights_with_a_fitted_offset():
    given = context(table(96))
    model = given.model.train()
    frame, truth = given.inputs("train"), given.truth("train")
    found = check._measure(given, model, frame, truth)
    batches = list(table_batches(model, frame, target=truth))
    outputs = torch.cat([model(inputs).detach() for inputs, _ in batches])
    targets = torch.cat([target for _, target in batches])
    offset = check._offset(model, batches)
    residual = (outputs + offset).softmax(1)[:, 1] - targets
    assert abs(float(residual.mean())) < 1e-5  # the rows no longer agree on the share of a class
    plain = coherence(
        model, lambda m, b: m.head.row_losses(m(b[0]) + offset, b[1]), batches, method="per_example"
    )
    assert found.m_coherence == pytest.approx(plain.m_coherence, rel=1e-4)


def test_same_seed_same_finding_and_nothing_is_left_behind():
    given = context(table(160))
    before = {n: t.clone() for n, t in given.model.state_dict().items()}
    random = torch.get_rng_state()
    first = check.run(given)[0]
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(before[n], t) for n, t in given.model.state_dict().items())
    assert check.run(given)[0] == first
    assert check.run(replace(given, seed=1))[0].value != first.value


@pytest.mark.parametrize(
    "parts",
    [["model.fusion={name: resnet, args: {blocks: 1, width: 8}}"],
     ["model.fusion={name: tabm_mini, args: {blocks: 1, width: 8, members: 3}}"],
     ["model.number={name: piecewise_linear, args: {dim: 4, n_bins: 4, bins: tree}}"]],
    ids=["batch normalisation", "members", "tree bins"],
)  # fmt: skip
def test_other_backbones(parts):
    (finding,) = check.run(context(table(), parts=parts))
    assert finding.verdict == "pass"
    notes = {x["note"] for x in finding.tables["what else was measured"]}
    assert ("running statistics" in " ".join(notes)) == ("resnet" in parts[0])


def test_an_ensemble_is_measured_by_its_parts():
    alone, several = (check.run(context(table(), seeds=n))[0] for n in (1, 2))
    assert alone.value == several.value


def test_what_cannot_be_measured_is_refused():
    given = context(table(80))
    with pytest.raises(UnsupportedError, match="no train rows"):
        check.run(AuditContext(given.model, given.schema, {"test": table(20)}))
    with pytest.raises(UnsupportedError, match="at least 64"):
        check.run(context(table(60)))
    toy, frame = LinearToy("binary", "linear"), toy_frame(80, 0)
    (finding,) = run_check(
        card("check", "coherence"), check.run, AuditContext(toy, toy.schema, {"train": frame})
    )
    assert finding.verdict == "not measured" and "LinearToy" in finding.answer


def test_the_interval_of_a_difference():
    """With normal intervals it is that of independent values: half-widths add in squares."""
    real, control = _point(10.0, 8.0, 13.0), _point(2.0, 1.0, 6.0)
    low, high = beyond(real, control)
    assert low == pytest.approx(8 - np.hypot(2, 4))
    assert high == pytest.approx(8 + np.hypot(3, 1))


def _point(value, low, high):
    class Fixed(Point):
        interval = (low, high)

    class Found:
        m_coherence = value

    return Fixed(0.0, Found())
