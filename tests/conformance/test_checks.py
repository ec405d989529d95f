"""Every audit check obeys the rules, and every rule catches a check that breaks exactly it."""

import itertools
from dataclasses import replace

import pytest

from salience.core.errors import UnsupportedError
from salience.core.finding import Control, Finding
from salience.core.registry import Card, cards, load
from salience.testing import checks as rules

KEYS = [card.key for card in cards("check")]


def card_of(key):
    return next(card for card in cards("check") if card.key == key)


def test_the_first_set_is_registered():
    expected = [
        "calibration",
        "cost",
        "duplicates",
        "faithfulness",
        "leakage",
        "performance",
        "perturbation",
        "slices",
    ]
    assert set(expected) <= set(KEYS)


@pytest.mark.parametrize("rule", rules.CHECKS, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("key", KEYS)
def test_check_obeys(key, rule):
    rule(card_of(key), load("check", key))


# -- one deliberately broken check for each rule ---------------------------------------------------------------


def good(context):
    """Return the share of test rows in the last class, from a seeded sample: a check that obeys every rule."""
    truth = context.truth("test")
    share = float((truth == truth.max()).mean())
    return [
        Finding(
            "toy", "How frequent is the last class?", f"Its share is {100 * share:.1f} %.", "info", share, "share",
            (share - 0.01, share + 0.01), Control("guessing", 0.5), rows=len(truth),
        )
    ]  # fmt: skip


def altered(**changes):
    return lambda context: [replace(finding, **changes) for finding in good(context)]


def never_refuses(context):
    try:
        return good(context)
    except UnsupportedError:
        return [
            Finding(
                "toy", "How?", "It is 0.500.", "info", 0.5, "share", (0.4, 0.6), Control("none", 0.0), rows=1
            )
        ]


def writes_rows(context):
    findings = good(context)
    context.frames["test"].iloc[0, 0] = "changed"
    return findings


def drifting(counter=itertools.count()):  # noqa: B008 (the shared counter is what makes the check irreproducible)
    return lambda context: [replace(good(context)[0], control=Control("guessing", float(next(counter))))]


BROKEN = {
    rules.check_answers_with_findings: altered(answer="no sentence 0.5"),
    rules.check_value_has_unit_and_interval: altered(interval=(-2.0, -1.0)),
    rules.check_control_is_present: altered(control=None),
    rules.check_answer_states_the_value: altered(answer="It is very frequent."),
    rules.check_round_trips_through_json: altered(tables={"t": [{"x": float("nan")}]}),
    rules.check_same_seed_same_finding: drifting(),
    rules.check_refuses_with_a_reason: never_refuses,
    rules.check_leaves_rows_and_model_alone: writes_rows,
}
TOY = Card(
    "toy", {"key": "toy", "kind": "check", "title": "Toy", "entry": "run", "tasks": ["classification"]}
)


def broken_rules(run):
    failed = []
    for rule in rules.CHECKS:
        try:
            rule(TOY, run)
        except AssertionError:
            failed.append(rule)
    return failed


def test_a_good_check_breaks_no_rule():
    assert broken_rules(good) == []


@pytest.mark.parametrize("rule", rules.CHECKS, ids=lambda rule: rule.__name__)
def test_rule_catches_the_check_that_breaks_it(rule):
    failed = broken_rules(BROKEN[rule])
    assert rule in failed
    allowed = (
        {rule, rules.check_answer_states_the_value} if rule is rules.check_answers_with_findings else {rule}
    )
    assert set(failed) <= allowed
