"""The searches: what the authors' program finds, to the position and to the second decimal; and what the paper means."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salience.core.errors import ConfigError
from salience.explain.words.searches import (
    Threshold,
    binary_filters,
    compare,
    convolution_search,
    span_filters,
    span_search,
    total_order,
)
from salience.explain.words.summary import summarize

CASES = json.loads((Path(__file__).parent / "fixtures" / "searches.json").read_text())
FINITE = [case for case in CASES if np.isfinite(case["values"]).all()]
SEARCHES = {"convolution": convolution_search, "span": span_search}
MARKERS = {"<s>": "", "</s>": "", "<pad>": "", "Ġ": " "}


def official(search, case):
    return search(
        case["values"],
        length=case["length"],
        sign=case["sign"],
        threshold=Threshold(*case["metric"]),
        mode="official",
    )


def percentages(groups):
    return [str(round(100 * group.coverage, 2)) for group in groups]


# -- the program ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SEARCHES)
def test_official_index_lists_and_percentages(name):
    found = 0
    for case in CASES:
        expected, groups = case["official"][name], official(SEARCHES[name], case)
        if "error" in expected or expected["indices"] == [[None]]:
            assert groups == ()
            continue
        kept = [i for i, value in enumerate(case["values"]) if value != 0]
        assert [list(g.indices) for g in groups] == [[kept[i] for i in one] for one in expected["indices"]]
        strongest = sorted(groups, key=lambda group: -group.coverage)
        if not math.isnan(groups[0].coverage):  # without positive values the program names no share
            assert percentages(strongest) == expected["percentages"]
        found += len(groups)
    assert found > 100


def test_official_total_order():
    for case in FINITE:
        found = percentages(total_order(case["values"], mode="official"))
        assert [share.lower() for share in found] == [share.lower() for share in case["official"]["total"]]


def test_official_compare():
    cases = [case for case in FINITE if "compare" in case["official"]]
    found = [compare(official(convolution_search, c), official(span_search, c)) for c in cases]
    assert [percentages(groups) for groups in found] == [c["official"]["compare"] for c in cases]
    assert sum(map(len, found)) > 20


def spoken(tokens):
    text = " ".join(tokens)
    for marker, written in MARKERS.items():
        text = text.replace(marker, written)
    return text


def test_official_summary():
    several = 0
    for case in FINITE:
        if "summary" in case["official"]:
            groups = official(summarize, case)
            texts = [spoken(case["tokens"][i] for i in group.indices) for group in groups]
            assert [[text, rank == 0] for rank, text in enumerate(texts)] == case["official"]["summary"]
            several += len(groups) > 1
    assert several >= 3


def test_official_drops_zeros_and_so_joins_what_is_apart():
    values = [0.1, 0.9, 0.0, 0.8, 0.0, 0.7, 0.1, 0.1, 0.1]
    assert (1, 3, 5) in [
        g.indices for g in span_search(values, mode="official", threshold=Threshold("mean", 0.6))
    ]
    assert (1, 3, 5) not in [g.indices for g in span_search(values, threshold=Threshold("mean", 0.6))]


# -- the paper -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "count"), [(4, 6), (5, 20), (6, 50), (7, 112)])
def test_number_of_binary_filters(length, count):
    filters = binary_filters(length)
    assert filters.shape == (count, length)
    assert len({tuple(row) for row in filters}) == count
    assert set(filters.sum(axis=1)) == set(range(2, length - 1))


def test_span_filters():
    assert span_filters(5).tolist() == [[0, 1, 1, 1, 0], [1, 1, 1, 1, 1]]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(-10, 10), max_size=25), st.sampled_from([1, -1]), st.floats(-1, 1))
def test_paper_search_is_the_brute_force_search(values, sign, level):
    """All placements of all filters, one by one, with the sign test on the shown words alone."""
    scaled = sign * np.array(values)
    largest = np.abs(scaled).max(initial=0.0)
    expected = set()
    if largest:
        scaled = scaled / largest
        tau = level * scaled.std()
        for row in binary_filters(5):
            shown = np.flatnonzero(row)
            for start in range(-4, len(values)):
                places = start + shown
                if places[0] < 0 or places[-1] >= len(values) or (scaled[places] < 0).any():
                    continue
                if abs(scaled[places].mean() - tau) < 1e-12:
                    return  # a tie is decided by rounding
                if scaled[places].mean() > tau:
                    expected.add(tuple(places.tolist()))
    found = convolution_search(values, sign=sign, threshold=Threshold("quantile", level))
    assert {group.indices for group in found} == expected


def test_first_and_last_words_are_found():
    values = [3.0, 3.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.5, 2.5, 2.5]
    found = {group.indices for group in span_search(values, threshold=Threshold("quantile", 1))}
    assert {(0, 1, 2), (8, 9, 10)} <= found
    assert (0, 1, 2) not in {g.indices for g in span_search(values, mode="official")}


def test_evidence_against_is_found():
    values = [0.0, -1.0, -2.0, -1.5, 0.5, 0.1, -0.1]
    best = convolution_search(values, sign=-1, threshold=Threshold("quantile", 1))[0]
    assert best.indices == (1, 2, 3)
    assert best.coverage == pytest.approx(4.5 / 4.6)
    assert convolution_search(values, sign=-1, mode="official") == ()


def test_masked_words_keep_their_place():
    values = [9.0, 1.0, 1.0, 9.0, 1.0, 1.0, 9.0]
    mask = np.array([True, False, False, True, False, False, True])
    groups = convolution_search(values, mask=mask, threshold=Threshold("quantile", -1))
    assert groups
    assert not any(mask[list(group.indices)].any() for group in groups)
    assert (2, 4) in {group.indices for group in groups}
    assert span_search(values, mask=mask, threshold=Threshold("quantile", -1)) == ()


def test_coverage_is_that_of_exactly_the_words_found():
    values = [1.0, 5.0, -3.0, 4.0, 0.5]
    groups = convolution_search(values, threshold=Threshold("quantile", 1))
    group = next(g for g in groups if g.indices == (1, 3))
    assert group.coverage == pytest.approx(9 / 10.5)


def test_summary_joins_neighbours_and_puts_the_strongest_first():
    values = np.zeros(40)
    values[[5, 6, 7]], values[[20, 22]], values[30] = 2.0, 1.5, 0.4
    groups = summarize(values)
    assert groups[0].indices == (5, 6, 7)
    assert groups[0].coverage == pytest.approx(6 / 9.4)


@pytest.mark.parametrize("mode", ["paper", "official"])
@pytest.mark.parametrize(
    "values",
    [[], [0.0], [1.0], [-1.0] * 7, [0.0] * 9, [math.nan] * 6, [math.nan, 1.0, math.inf, 2.0, 1.0, 1.0, 1.0]],
)
def test_awkward_maps_have_an_answer(values, mode):
    for search in (convolution_search, span_search, summarize):
        assert isinstance(search(values, mode=mode), tuple)
    assert len(total_order(values, mode=mode)) <= len(values)


def test_a_fully_masked_text_has_no_groups():
    mask = np.ones(6, dtype=bool)
    assert convolution_search(np.ones(6), mask=mask) == span_search(np.ones(6), mask=mask) == ()
    assert summarize(np.ones(6), mask=mask) == ()


@pytest.mark.parametrize(
    "options",
    [{"mode": "other"}, {"sign": 2}, {"threshold": ("median", 1)}, {"length": 3}, {"length": 99}],
)
def test_wrong_options_are_refused(options):
    with pytest.raises(ConfigError):
        convolution_search([1.0, 2.0], **options)


def test_five_thousand_words():
    values = np.random.default_rng(0).normal(size=5000)
    groups = convolution_search(values, threshold=Threshold("quantile", 2.5))
    assert groups
    assert len({group.indices for group in groups}) == len(groups)


def test_a_value_that_is_lost_beside_a_huge_one_keeps_its_sign():
    values = [-1.0, 1e-300, -1.0, 1e99]
    found = convolution_search(values, sign=-1, threshold=Threshold("quantile", -1))
    assert not any(1 in group.indices for group in found)
    assert not any(1 in group.indices for group in summarize(values, sign=-1))
