"""Label reassignment, joint effective regions, and changes of texts and tables."""

import numpy as np
import pandas as pd
import pytest

from salience.core.errors import ConfigError, DataError, UnsupportedError
from salience.data.kinds import KINDS
from salience.data.schema import infer
from salience.explain import ground_truth as gt
from salience.testing.toy import toy_frame, toy_schema

TEXT = "A dog and the cat saw an owl. The end, that is all."


def texts(rows=400, seed=0):
    rng = np.random.default_rng(seed)
    cells = [
        " ".join(rng.choice(["the", "a", "dog", "ran", "over", "hill"], 8)) + " the end" for _ in range(rows)
    ]
    return pd.DataFrame({"text": cells, "label": rng.choice(["no", "yes"], rows)})


def articles(kept=0.5, mixed=0.0):
    return gt.Design.binary(
        gt.SetArticles("text", "a", mixed), gt.SetArticles("text", "the", mixed), kept=kept
    )


def altered(frame, design, **options):
    return gt.alter(frame, infer(frame, "label", kinds={"text": "text"}), design, **options)


# labels and the choice of manipulation


def test_labels_are_kept_as_often_as_the_design_says():
    frame = texts(4000)
    for kept in (0.5, 0.8, 1.0):
        found = altered(frame, articles(kept))
        share = (found.label == found.origin).mean()
        assert share == pytest.approx(kept, abs=0.03)
        assert found.design.best_original == kept


def test_three_classes_follow_their_matrices():
    frame = toy_frame(3000, 0, "multiclass")
    labels = ((0.6, 0.3, 0.1), (0.2, 0.5, 0.3), (0.0, 0.4, 0.6))
    choice = ((1.0, 0.0), (0.25, 0.75), (0.0, 1.0))
    design = gt.Design((gt.Untouched(), gt.ShiftColumn("age", 100.0, 40.0)), choice, labels)
    found = gt.alter(frame, toy_schema("multiclass"), design, seed=3)
    for old in range(3):
        shares = np.bincount(found.label[found.origin == old], minlength=3) / (found.origin == old).sum()
        assert np.abs(shares - labels[old]).max() < 0.05
    for new in range(3):
        mine = found.manipulation[found.label == new]
        assert (mine == 1).mean() == pytest.approx(choice[new][1], abs=0.05)
    shifted = (found.frame["age"] - found.before["age"]).to_numpy()
    assert np.array_equal(shifted, 100.0 * found.manipulation)
    assert design.best_original == 0.6


def test_bayes_accuracies_by_counting_every_case():
    design = gt.Design(
        (gt.Untouched(), gt.ShiftColumn("x", 1.0, 0.0)), ((0.9, 0.1), (0.2, 0.8)), ((0.7, 0.3), (0.4, 0.6))
    )
    priors = (0.25, 0.75)
    cases = {
        (i, j, k): priors[i] * design.labels[i][j] * design.choice[j][k]
        for i in (0, 1)
        for j in (0, 1)
        for k in (0, 1)
    }

    def best(seen):
        groups = {}
        for case, probability in cases.items():
            groups.setdefault(tuple(case[s] for s in seen), [0.0, 0.0])[case[1]] += probability
        return sum(max(pair) for pair in groups.values())

    found = design.best_accuracies(priors)
    assert found["original"] == pytest.approx(best([0]))
    assert found["manipulation"] == pytest.approx(best([2]))
    assert found["both"] == pytest.approx(best([0, 2]))
    certain = articles().best_accuracies((0.3, 0.7))
    assert certain == pytest.approx({"original": 0.5, "manipulation": 1.0, "both": 1.0})


def test_splits_have_draws_of_their_own_and_seeds_repeat():
    frame = texts(200)
    one, same, other, seeded = (
        altered(frame, articles(), seed=seed, split=split)
        for seed, split in ((0, "train"), (0, "train"), (0, "test"), (1, "train"))
    )
    assert one.frame.equals(same.frame)
    for different in (other, seeded):
        assert 0.35 < (one.label == different.label).mean() < 0.65


def test_splits_of_a_table_do_not_share_rows():
    frame = texts(100)
    parts = gt.altered_splits(frame, infer(frame, "label", kinds={"text": "text"}), articles())
    indices = [set(part.frame.index) for part in parts.values()]
    assert {name: len(part.frame) for name, part in parts.items()} == {
        "train": 60,
        "validation": 20,
        "test": 20,
    }
    assert set.union(*indices) == set(frame.index)


def test_switched_rows_get_what_the_other_label_asks():
    found = altered(texts(50), articles())
    switched = found.switched()
    assert np.array_equal(switched.label, 1 - found.label)
    assert switched.frame["label"].tolist() != found.frame["label"].tolist()
    for text, label in zip(switched.frame["text"], switched.label, strict=True):
        words = set(text.split()) & {"a", "the"}
        assert words == {("a", "the")[label]}


def test_the_given_frame_stays_and_the_index_is_kept():
    frame = texts(30).set_index(pd.Index(range(100, 130)))
    before = frame.copy()
    found = altered(frame, articles())
    assert frame.equals(before)
    assert found.frame.index.tolist() == list(range(100, 130))


def test_rows_that_cannot_carry_the_change_are_left_out_and_counted():
    frame = pd.concat(
        [texts(20), pd.DataFrame({"text": ["no article here"] * 5, "label": "no"})], ignore_index=True
    )
    found = altered(frame, articles())
    assert (len(found.frame), found.left_out) == (20, 5)
    with pytest.raises(DataError, match="No row can carry"):
        altered(frame.tail(5).assign(label=["no", "yes"] * 2 + ["no"]), articles())


@pytest.mark.parametrize(
    "choice, labels",
    [
        (((0.5, 0.4), (0, 1)), ((1, 0), (0, 1))),
        (((1, 0), (0, 1)), ((1, 0),)),
        (((1,), (1,)), ((1, 0), (0, 1))),
        (((1.5, -0.5), (0, 1)), ((1, 0), (0, 1))),
    ],
)
def test_matrices_that_do_not_fit_are_refused(choice, labels):
    with pytest.raises(ConfigError):
        gt.Design((gt.Untouched(), gt.Untouched()), choice, labels)


def test_designs_that_do_not_fit_the_table_are_refused():
    with pytest.raises(ConfigError, match="does not fit"):
        gt.alter(toy_frame(10, 0, "multiclass"), toy_schema("multiclass"), articles())
    with pytest.raises(ConfigError, match="does not fit"):
        altered(texts(10), articles(), split="other")
    with pytest.raises(UnsupportedError):
        gt.alter(toy_frame(10, 0, "regression"), toy_schema("regression"), articles())
    with pytest.raises(ConfigError, match="kept"):
        articles(kept=0.4)


# texts


def test_articles_are_replaced_with_their_capitals_and_nothing_else():
    found = gt.SetArticles("text", "the").apply({"text": TEXT, "n": 1}, np.random.default_rng(0))
    assert found == {"text": "The dog and the cat saw the owl. The end, that is all.", "n": 1}
    found = gt.SetArticles("text", "a").apply({"text": TEXT}, np.random.default_rng(0))
    assert found["text"] == "A dog and a cat saw a owl. A end, that is all."


def test_the_region_of_articles_is_their_characters():
    design = articles()
    units = KINDS["text"].units("text", TEXT)
    inside = design.inside({"text": TEXT}, units)
    assert [unit.label for unit, share in zip(units, inside, strict=True) if share == 1] == [
        "A",
        "the",
        "an",
        "The",
    ]
    assert set(inside) == {0.0, 1.0}
    mask = design.areas({"text": TEXT})["text"]
    assert "".join(np.array(list(TEXT))[mask]) == "AtheanThe"


def test_mixed_articles_are_the_other_one_half_as_often():
    rng = np.random.default_rng(0)
    text = gt.SetArticles("text", "a", mixed=0.5).apply({"text": "the " * 4000}, rng)["text"].split()
    assert text.count("the") / len(text) == pytest.approx(0.25, abs=0.02)


def test_a_planted_word_stands_once_anywhere_and_is_the_region():
    plant = gt.PlantToken("text", "quartz")
    places = set()
    for seed in range(60):
        text = plant.apply({"text": "one two, three"}, np.random.default_rng(seed))["text"]
        words = text.replace(",", " ,").split()
        places.add(words.index("quartz"))
        assert words.count("quartz") == 1
        assert [w for w in words if w != "quartz"] == ["one", "two", ",", "three"]
        mask = plant.area({"text": text})["text"]
        assert "".join(np.array(list(text))[mask]) == "quartz"
    assert places == {0, 1, 2, 3, 4}
    assert plant.apply({"text": ""}, np.random.default_rng(0))["text"] == "quartz"
    assert not plant.fits({"text": "a Quartz watch"})


def test_wrong_words_are_refused():
    with pytest.raises(ConfigError):
        gt.PlantToken("text", "two words")
    with pytest.raises(ConfigError):
        gt.SetArticles("text", "this")


# tables


def test_a_shift_moves_one_column_by_its_spread():
    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0, np.nan], "y": [1.0, 1.0, 2.0, 2.0]})
    shift = gt.ShiftColumn.of(frame, "x", 3.0)
    assert shift.by == pytest.approx(3 * np.std([1, 2, 3]))
    assert shift.apply({"x": 1.0, "y": 5.0}, None) == {"x": pytest.approx(1 + shift.by), "y": 5.0}
    assert shift.apply({"x": np.nan, "y": 5.0}, None)["x"] == pytest.approx(2 + shift.by)
    with pytest.raises(DataError):
        gt.ShiftColumn.of(frame.assign(x=1.0), "x")


def test_an_interaction_is_told_by_both_columns_and_by_neither_alone():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "a": rng.normal(size=2000),
            "b": rng.integers(0, 100, 2000).astype(float),
            "c": rng.normal(size=2000),
        }
    )
    frame["label"] = np.where(rng.random(2000) < 0.5, "no", "yes")
    kinds = dict.fromkeys("abc", "number")
    found = gt.alter(frame, infer(frame, "label", kinds=kinds), gt.MatchSides.design(frame, "a", "b"))
    sides = found.frame[["a", "b"]] > frame[["a", "b"]].median()
    assert np.array_equal((sides["a"] == sides["b"]).to_numpy(), found.label == 1)
    for column in "ab":
        assert (sides[column] == (found.label == 1)).mean() == pytest.approx(0.5, abs=0.05)
    assert found.frame["c"].equals(found.before["c"])
    assert set(found.frame["b"]) <= set(frame["b"])
    units = tuple(unit for c in "abc" for unit in KINDS["number"].units(c, 1.0))
    assert found.region({"a": 1.0, "b": 1.0, "c": 1.0}, units).tolist() == [True, True, False]


def test_a_column_of_two_numbers_still_has_two_sides():
    frame = pd.DataFrame({"a": [0.0, 1.0, 1.0, 1.0], "b": [0.0, 0.0, 0.0, 1.0]})
    design = gt.MatchSides.design(frame, "a", "b")
    for index, manipulation in enumerate(design.manipulations):
        for a in (0.0, 1.0):
            found = manipulation.apply({"a": a, "b": 0.0}, np.random.default_rng(0))
            assert ((found["a"] > 0) == (found["b"] > 0)) == (index == 1)


def test_regions_of_several_columns_join():
    text = "the price"
    design = gt.Design.binary(gt.SetArticles("text", "a"), gt.ShiftColumn("x", 1.0, 0.0))
    row = {"text": text, "x": 1.0}
    units = KINDS["text"].units("text", text) + KINDS["number"].units("x", 1.0)
    assert design.inside(row, units).tolist() == [1.0, 0.0, 1.0]
    never = gt.Design(
        (*design.manipulations, gt.PlantToken("text", "price")), ((1, 0, 0), (0, 1, 0)), design.labels
    )
    assert never.inside(row, units).tolist() == [1.0, 0.0, 1.0]  # what cannot occur is no part of the region


def test_a_region_that_cuts_through_cells_counts_in_part():
    design = gt.Design.binary(gt.Untouched(), gt.StripedNoise("p", 0, 84))
    picture = np.zeros((64, 64, 3), np.uint8)
    units = KINDS["image"].units("p", picture)
    inside = design.inside({"p": picture}, units).reshape(4, 4)
    assert inside.tolist() == [[1.0] * 4, [0.5] * 4, [0.0] * 4, [0.0] * 4]
