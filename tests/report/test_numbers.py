import math

import pytest

from salience.report import numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.95712, "0.957"), (0.9999, "1.00"), (1.6249, "1.62"), (9.999, "10.0"), (74.23, "74.2"), (123.4, "123"), (48321.5, "48,322"),
        (-0.151, "−0.151"), (0.0, "0"), (0.000021, "2.1e−05"), (12000, "12,000"), (math.nan, "not defined"), (math.inf, "not defined"),
        (None, "not defined"), (True, "not defined"),
    ],
)  # fmt: skip
def test_number(value, text):
    assert numbers.number(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.71, "71\u00a0%"), (0.045, "4.5\u00a0%"), (0.9962, "99.6\u00a0%"), (1.0, "100\u00a0%"), (0.0, "0\u00a0%"), (None, "not defined")],
)  # fmt: skip
def test_percent(share, text):
    assert numbers.percent(share) == text


def test_an_interval_with_an_undefined_end_is_left_out():
    assert numbers.with_interval(0.5, (0.4, 0.6)) == "0.500 (95\u00a0% interval 0.400 to 0.600)"
    assert numbers.with_interval(0.5, (0.4, math.nan)) == "0.500"
    assert numbers.with_interval(0.5, None) == "0.500"


def test_cells():
    assert [numbers.cell(v) for v in (None, math.nan, True, 3, 0.5, ["a", 2], {"k": 1}, "x")] == ["—", "—", "yes", "3", "0.500", "a, 2", "k: 1", "x"]  # fmt: skip


def test_words_around_numbers():
    assert numbers.join([]) == ""
    assert numbers.join(["a"]) == "a"
    assert numbers.join(["a", "b", "c"], "or") == "a, b or c"
    assert numbers.plural(1, "class", "classes") == "1 class"
    assert numbers.plural(2000, "row") == "2,000 rows"
    assert numbers.shorten("a  long\nline of text", 10) == "a long li…"
