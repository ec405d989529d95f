"""Every registered explainer passes every check, and each check catches a method that is broken in that way."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from salience.core import registry
from salience.explain.attribution import Attribution
from salience.explain.methods.gradient_x_input import GradientXInput
from salience.explain.methods.integrated_gradients import CARD as COMPLETE_CARD
from salience.explain.methods.integrated_gradients import IntegratedGradients
from salience.explain.target import resolve
from salience.testing.explainers import CHECKS, built, check_explainer, checks_for

torch.set_num_threads(1)
CARDS = {card.key: card for card in registry.cards("explainer")}
CASES = [(key, name) for key, card in CARDS.items() for name in checks_for(card.fields)]


def test_the_first_set_is_registered():
    assert {"integrated_gradients", "gradient_x_input", "occlusion", "attention", "random"} <= set(CARDS)


@pytest.mark.parametrize(("key", "name"), CASES, ids=[f"{k}-{n}" for k, n in CASES])
def test_explainer_passes(key, name):
    CHECKS[name](built(CARDS[key]), CARDS[key].fields)


class Broken(IntegratedGradients):
    """Integrated gradients, spoilt by a function of the result."""

    def attribute(self, model, frame, targets, *, seed=0, memory_mb=256):
        found = super().attribute(model, frame, targets, seed=seed, memory_mb=memory_mb)
        return [self.spoil(a, model, frame) for a in found]


class Doubles(GradientXInput):
    """Not exact on a linear model."""

    def attribute(self, model, frame, targets, *, seed=0, memory_mb=256):
        found = super().attribute(model, frame, targets, seed=seed, memory_mb=memory_mb)
        return [replace(a, values=2 * a.values) for a in found]


class SeesNoZero(Broken):
    def spoil(self, a, model, frame):
        return replace(a, values=a.values if a.values.any() else np.full_like(a.values, 1e-6))


class DependsOnBatch(GradientXInput):
    def attribute(self, model, frame, targets, *, seed=0, memory_mb=256):
        found = super().attribute(model, frame, targets, seed=seed, memory_mb=memory_mb)
        return [replace(a, values=a.values * len(frame)) for a in found]


class StatesAnotherGap(Broken):
    def spoil(self, a, model, frame):
        return replace(a, completeness_gap=a.completeness_gap + 1)


class IgnoresTarget(IntegratedGradients):
    def attribute(self, model, frame, targets, *, seed=0, memory_mb=256):
        asked = len(targets) and targets[0].quantity == "log-odds" and targets[0].against is None
        if asked and frame["review"].iloc[0] != "awful poor bad":
            targets = resolve(model.schema, "predicted", model.outputs(frame))
        found = super().attribute(model, frame, targets, seed=seed, memory_mb=memory_mb)
        return [replace(a, forwards=a.forwards + 1) for a in found]


class SkipsPictures(Broken):
    def spoil(self, a, model, frame):
        if "image" not in model.groups or frame["review"].eq("").all():
            return a
        values = a.values.copy()
        values[:16] = np.nan
        return replace(a, values=values)


class HidesItsCost(Broken):
    def spoil(self, a, model, frame):
        return replace(a, forwards=1)


class LeavesEvaluationMode(IntegratedGradients):
    def attribute(self, model, frame, targets, *, seed=0, memory_mb=256):
        model.eval()
        return super().attribute(model, frame, targets, seed=seed, memory_mb=memory_mb)


class DrawsFromNowhere(Broken):
    noise = np.random.default_rng()

    def spoil(self, a, model, frame):
        return replace(a, values=a.values + 1e-9 * a.values * self.noise.random(len(a.values)))


class NeedsRows(IntegratedGradients):
    def attribute(self, model, frame, targets, *, seed=0, memory_mb=256):
        if not len(frame):
            return [Attribution(np.zeros(0), 0.0, 0.0, "none", 0.0, 1, 1.0)]
        return super().attribute(model, frame, targets, seed=seed, memory_mb=memory_mb)


class NeedsUnits(Broken):
    def spoil(self, a, model, frame):
        whole = (
            frame["review"].str.len().gt(0).any() or not frame["title"].eq("").all() or "photo" not in frame
        )
        return a if whole or frame["age"].isna().any() else replace(a, values=np.full_like(a.values, np.inf))


class LosesTheSign(Broken):
    def spoil(self, a, model, frame):
        against = len(frame) == 1 and frame["review"].iloc[0] == "awful poor bad"
        return replace(a, values=np.abs(a.values)) if against else a


class HidesNan(Broken):
    def spoil(self, a, model, frame):
        return replace(a, values=np.nan_to_num(a.values))


class DependsOnMemory(IntegratedGradients):
    def attribute(self, model, frame, targets, *, seed=0, memory_mb=256):
        found = super().attribute(model, frame, targets, seed=seed, memory_mb=memory_mb)
        scale = 1 if memory_mb > 1 else 2
        return [replace(a, values=scale * a.values) for a in found]


class SpendsTooMuch(Broken):
    max_forwards = 10

    def spoil(self, a, model, frame):
        return replace(a, forwards=a.forwards + 100)


BROKEN = {
    "linear": (Doubles, {"complete": False}),
    "zero": (SeesNoZero, {}),
    "batch": (DependsOnBatch, {"complete": False}),
    "complete": (StatesAnotherGap, {}),
    "target": (IgnoresTarget, {}),
    "kinds": (SkipsPictures, {}),
    "cost": (HidesItsCost, {}),
    "state": (LeavesEvaluationMode, {}),
    "seed": (DrawsFromNowhere, {}),
    "empty": (NeedsRows, {}),
    "neutral": (NeedsUnits, {}),
    "negative": (LosesTheSign, {}),
    "nan": (HidesNan, {}),
    "memory": (DependsOnMemory, {}),
    "long": (SpendsTooMuch, {}),
}


def test_every_check_has_a_broken_toy():
    assert set(BROKEN) == set(CHECKS)


@pytest.mark.parametrize("name", BROKEN)
def test_broken_toy_fails_exactly_one_check(name):
    broken, card = BROKEN[name]
    assert list(check_explainer(broken(), {**COMPLETE_CARD, **card})) == [name]
