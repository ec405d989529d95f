"""Every registered metric passes every check, and each check catches a metric that is broken in that way."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from salience.core import registry
from salience.core.registry import Card
from salience.explain.metrics.comprehensiveness import CARD, Comprehensiveness
from salience.explain.scores import Scores
from salience.testing import metrics as rules
from salience.testing.cards import check_method

torch.set_num_threads(1)
CARDS = {card.key: card for card in registry.cards("metric")}
CASES = [(key, check) for key, card in CARDS.items() for check in rules.checks_for(card)]
# a search over all orders of long rows is slow; the definition is the same with fewer units
QUICK = {"naopc": {"exact": 6, "width": 3, "longest": 10}}


@pytest.mark.parametrize(("key", "check"), CASES, ids=[f"{k}-{c.__name__}" for k, c in CASES])
def test_metric_passes(key, check):
    entry = registry.load("metric", key)
    check(CARDS[key], lambda **options: entry(**{**QUICK.get(key, {}), **options}))


def test_the_metrics_of_the_specification_are_registered():
    wanted = "comprehensiveness sufficiency aopc deletion_auc insertion_auc naopc soft_comprehensiveness"
    wanted += " soft_sufficiency f_fidelity infidelity sensitivity_max faithfulness_correlation tau_loo completeness"
    wanted += " randomisation roar road complexity sparseness plausibility"
    assert set(wanted.split()) <= set(CARDS)


def test_a_metric_of_a_data_set_is_held_to_its_card_alone():
    assert [check.__name__ for check in rules.checks_for(CARDS["roar"])] == ["check_metric_fields_are_there"]
    assert all(result.passed for result in check_method("roar")[1])


@dataclass(frozen=True)
class Broken(Comprehensiveness):
    """Comprehensiveness, spoilt by a function of the result."""

    def scores(self, model, explanations, *, seed=0, memory_mb=256):
        found = super().scores(model, explanations, seed=seed, memory_mb=memory_mb)
        return self.spoil(found, model, explanations)


class NoConvention(Broken):
    def spoil(self, found, model, explanations):
        return replace(found, convention="")


class WrongWay(Broken):
    def spoil(self, found, model, explanations):
        return replace(found, values=-found.values)


class ReadsTheScale(Broken):
    def spoil(self, found, model, explanations):
        return replace(
            found, values=found.values + [1e-6 * np.nan_to_num(e.values).sum() for e in explanations]
        )


class DependsOnBatch(Broken):
    def spoil(self, found, model, explanations):
        return replace(found, values=found.values * (1 + 1e-3 * len(explanations)))


class DrawsFromNowhere(Broken):
    noise = np.random.default_rng()

    def spoil(self, found, model, explanations):
        return replace(found, values=found.values + 1e-10 * self.noise.random(len(found.values)))


class ScoresNothing(Broken):
    def spoil(self, found, model, explanations):
        return replace(found, values=np.nan_to_num(found.values))


class LeavesEvaluationMode(Broken):
    def spoil(self, found, model, explanations):
        model.eval()
        return found


class HidesItsCost(Broken):
    def spoil(self, found, model, explanations):
        return replace(found, forwards=found.forwards + 1)


BROKEN = {
    rules.check_metric_fields_are_there: (Comprehensiveness, {"better": "more"}),
    rules.check_scores_have_their_form: (NoConvention, {}),
    rules.check_truth_beats_random_beats_inverse: (WrongWay, {}),
    rules.check_scale_does_not_matter: (ReadsTheScale, {}),
    rules.check_batch_does_not_matter: (DependsOnBatch, {}),
    rules.check_seed_decides: (DrawsFromNowhere, {}),
    rules.check_nothing_to_measure_is_nan: (ScoresNothing, {}),
    rules.check_leaves_the_model_alone: (LeavesEvaluationMode, {}),
    rules.check_counts_what_the_model_evaluates: (HidesItsCost, {}),
}


def failed(card, entry):
    result = []
    for check in rules.CHECKS:
        try:
            check(card, entry)
        except AssertionError:
            result.append(check)
    return result


def test_every_check_has_a_broken_metric():
    assert set(BROKEN) == set(rules.CHECKS)


@pytest.mark.parametrize("check", BROKEN, ids=lambda check: check.__name__)
def test_broken_metric_fails_its_check(check):
    entry, fields = BROKEN[check]
    found = failed(Card("toy", {**CARD, **fields}), entry)
    # a metric that turns the wrong way is caught once; a card that says nothing is caught there and by what reads it
    assert check in found and len(found) <= 2


def test_scores_count_what_is_undefined():
    scores = Scores(np.array([1.0, np.nan, 3.0]), "c", 0, 0.0)
    assert scores.undefined == 1 and scores.mean == 2.0
    assert np.isnan(Scores(np.array([np.nan]), "c", 0, 0.0).mean)
