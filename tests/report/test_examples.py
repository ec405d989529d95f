import math

import pytest
import sample

from salience.report.examples import MAX_CHARACTERS, MAX_EXAMPLES, examples, statuses


@pytest.mark.parametrize(
    ("arguments", "groups"),
    [
        (("Yes", 0.9, "Yes"), ("correct",)), (("Yes", 0.6, "No"), ("wrong", "unsure")), (("1", 0.9, 1.0), ("correct",)),
        (("Yes", 0.9, None), ("unknown",)), ((10.0, None, 12.0, 3.0), ("close",)), ((10.0, None, 20.0, 3.0), ("off",)),
        ((10.0, None, None, 3.0), ("unknown",)), ((10.0, None, 20.0, None), ()),
    ],
)  # fmt: skip
def test_statuses(arguments, groups):
    assert statuses(*arguments) == groups


def test_marks_are_tied_to_their_units():
    explanation = sample.explanation(0)
    view = examples([explanation])[0]
    review = next(f for f in view.fields if f.column == "Review Text")
    assert review.html.count("<mark") == len(review.marked)
    labels = [explanation.units[k].label for k in review.marked]
    assert labels[:3] == ["love", "soft", "comfortable"]
    total = math.fsum(
        v for u, v in zip(explanation.units, explanation.values, strict=True) if u.column == "Review Text"
    )
    assert review.total == f"+{total:.2f}"


def test_sentences_name_units_and_truth_stands_apart():
    view = examples([sample.explanation(0)])[0]
    units = sample.explanation(0).units
    named = {units[k].label for _, ks in view.sentences for k in ks}
    assert {"love", "flattering"} <= named
    assert view.verdict == "supported"
    assert "removing random parts" in view.faithfulness[0]
    assert "95 % interval" in view.faithfulness[1]
    assert not any("random" in text for text, _ in view.sentences)


def test_an_unmeasured_explanation_says_so():
    view = examples([sample.explanation(8)])[0]
    assert view.verdict == "not measured"
    assert view.faithfulness == ("Whether this explanation is true was not measured.",)


def test_long_texts_and_many_rows_are_cut_and_counted():
    report = sample.large()
    views = examples(report.explanations)
    assert len(views) == MAX_EXAMPLES
    review = views[0].fields[1]
    assert len(review.text) == MAX_CHARACTERS
    assert review.cut == len(report.explanations[0].inputs["Review Text"]) - MAX_CHARACTERS


def test_units_without_a_value_stay_without():
    report = sample.regression()
    views = examples(report.explanations, {report.explanations[0].target_column: 48321.5})
    assert [v.statuses for v in views] == [("close",), ("off",), ("close",), ("unknown",)]
    chip = views[2].chips[1]
    assert (chip.column, chip.label, chip.value, chip.width) == ("Ocean", "near", "not measured", 0)


def test_the_units_table_is_complete():
    explanation = sample.explanation(0)
    rows = examples([explanation])[0].units.rows
    assert rows[0][0] == "love"
    assert rows[-1][0] == f"{len(explanation.units) - 25} other parts together"
