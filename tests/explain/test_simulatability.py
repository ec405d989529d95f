"""The student in place of people, on representations whose accuracy is known."""

import numpy as np
import pytest

from salience.core.errors import ConfigError
from salience.core.stats import generator
from salience.explain.words.representations import Part, Shown
from salience.explain.words.simulatability import STUDENTS, paired, simulate

ROWS = 80


def words(*names, sign=1):
    return Shown(" ".join(names), tuple(Part(name, sign) for name in names))


@pytest.fixture(scope="module")
def answers():
    return [str(a) for a in generator(0, "answers").choice(["down", "up"], ROWS)]


@pytest.fixture(scope="module")
def telling(answers):
    return [words("great" if answer == "up" else "awful", "plot") for answer in answers]


@pytest.fixture(scope="module")
def silent():
    rng = generator(1, "silent")
    return [words(*rng.choice(["plot", "film", "actor"], 2)) for _ in range(ROWS)]


@pytest.mark.parametrize("student", STUDENTS)
def test_telling_words_are_learned_and_silent_ones_are_not(answers, telling, silent, student):
    found = simulate({"telling": telling, "silent": silent}, answers, range(ROWS), student=student)
    telling_row, silent_row = found.rows
    assert (telling_row["accuracy"], telling_row["low"], telling_row["high"]) == (1.0, 1.0, 1.0)
    assert silent_row["low"] < found.chance < silent_row["high"] + 0.1
    (pair,) = found.pairs
    assert pair["difference"] == pytest.approx(1 - silent_row["accuracy"])
    assert pair["p"] <= pair["p_holm"] < 0.01
    assert telling_row["shown_words"] == 2


def test_only_other_explanations_are_seen(answers):
    alone = [
        words(f"word{i}") for i in range(ROWS)
    ]  # a word of its own for each row tells nothing of the others
    found = simulate({"alone": alone}, answers, range(ROWS))
    assert found.rows[0]["accuracy"] <= found.chance + 0.05


def test_equal_inputs_stay_together(answers):
    pairs = [f"text {i // 2}" for i in range(ROWS)]
    doubled = [answers[i // 2] for i in range(ROWS)]
    alike = [words(f"word{i // 2}") for i in range(ROWS)]
    apart = simulate({"alike": alike}, doubled, range(ROWS)).rows[0]["accuracy"]
    together = simulate({"alike": alike}, doubled, pairs).rows[0]["accuracy"]
    assert apart > 0.9
    assert together < 0.7


def test_sides_can_tell_what_words_do_not(answers):
    sided = [words("plot", sign=1 if answer == "up" else -1) for answer in answers]
    assert simulate({"a": sided}, answers, range(ROWS)).rows[0]["accuracy"] == 1
    assert simulate({"a": sided}, answers, range(ROWS), sides=False).rows[0]["accuracy"] < 0.7


def test_empty_explanations_leave_the_most_frequent_answer(answers):
    found = simulate({"nothing": [Shown("", ())] * ROWS}, answers, range(ROWS))
    assert found.rows[0]["accuracy"] == pytest.approx(found.chance, abs=0.15)
    one = ["up"] * (ROWS - 1) + ["down"]
    assert simulate({"a": [words("plot")] * ROWS}, one, range(ROWS)).rows[0]["accuracy"] == (ROWS - 1) / ROWS


def test_the_same_seed_gives_the_same_result(answers, telling, silent):
    one, again = (simulate({"a": telling, "b": silent}, answers, range(ROWS), seed=3) for _ in range(2))
    assert (one.rows, one.pairs) == (again.rows, again.pairs)


def test_pairs_are_adjusted_for_their_number():
    rng = np.random.default_rng(0)
    hits = {name: rng.random(200) < share for name, share in (("a", 0.9), ("b", 0.6), ("c", 0.58))}
    found = {(r["a"], r["b"]): r for r in paired(hits)}
    assert len(found) == 3
    assert all(r["p"] <= r["p_holm"] <= 1 for r in found.values())
    assert found["a", "b"]["p_holm"] < 0.05 < found["b", "c"]["p_holm"]
    assert paired({"a": hits["a"]}) == []


@pytest.mark.parametrize(
    "change",
    [{"student": "oracle"}, {"answers": ["up"] * ROWS}, {"answers": ["up"]}, {"inputs": ["same"] * ROWS}, {"inputs": []}],
    ids=["student", "one answer", "rows", "one input", "no input"],
)  # fmt: skip
def test_what_cannot_be_simulated_is_refused(answers, telling, change):
    arguments = {"answers": answers, "inputs": range(ROWS), **change}
    with pytest.raises(ConfigError):
        simulate({"a": telling}, **arguments)
