from dataclasses import replace

import sample

from salience.report.summary import points, strongest


def answers(report):
    return {point.question: point for point in points(report)}


def test_the_five_questions_are_answered_with_numbers():
    said = answers(sample.clothing())
    assert said["What does it predict?"].answer == (
        "It predicts “Recommended IND” (No or Yes) from 5 columns (2 texts, 2 numbers and 1 category) of clothing-reviews. "
        "It learned from 16,440 rows and was tested on 4,697 others."
    )
    how = said["How well?"]
    assert how.lead == "AUROC 0.957"
    assert how.answer.endswith("A trivial answer (majority) scores 0.500.")
    assert "71\u00a0% (95\u00a0% interval 67\u00a0% to 75\u00a0%)" in said["What does it look at?"].answer
    trust = said["Can its explanations be trusted?"]
    assert (trust.verdict, trust.lead, trust.link) == ("pass", "Yes, with care", "finding-7")
    assert "1.62 (95\u00a0% interval 1.44 to 1.81) log-odds" in trust.answer
    weak = said["Where is it weak?"]
    assert (weak.verdict, weak.lead) == ("fail", "3 weak points")
    assert weak.answer.startswith("Rating alone scores AUROC 0.970")
    assert weak.answer.endswith("1 more finding below.")


def test_without_the_performance_finding_the_scores_are_put_in_words():
    report = replace(sample.clothing(), findings=())
    assert answers(report)["How well?"].answer == (
        "AUROC 0.957 (95\u00a0% interval 0.951 to 0.963) on 4,697 test rows. In comparison, always answering the majority scores 0.500 "
        "and the strongest baseline, logistic regression, 0.948 (0.942 to 0.954). The model is ahead of it; the intervals overlap."
    )


def test_lower_is_better_for_a_regression():
    report = sample.regression()
    assert strongest(report, "rmse") == "gradient boosting"
    said = answers(report)["How well?"].answer
    assert said.startswith("RMSE 48,322 (95\u00a0% interval 47,000 to 49,800) on 20 test rows.")
    assert said.endswith("The model is not ahead of it.")


def test_nothing_is_claimed_where_nothing_was_measured():
    said = answers(sample.minimal())
    assert {p.verdict for q, p in said.items() if q != "What does it predict?"} == {"not measured"}
    assert said["What does it predict?"].answer == "The run does not say what it predicts."


def test_no_weakness_is_not_the_same_as_no_check():
    good = [f for f in sample.findings() if f.verdict == "pass"]
    report = replace(sample.clothing(), findings=good)
    weak = answers(report)["Where is it weak?"]
    assert (weak.verdict, weak.lead) == ("pass", "Nothing found")
    assert "No weakness was found by 4 checks." in weak.answer
