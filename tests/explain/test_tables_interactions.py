import numpy as np
import pytest

from salience.explain.tables import Settings, effects
from salience.explain.tables.ask import Asker
from salience.explain.tables.axis import make_axis
from salience.explain.tables.interactions import Cells, make_cells, measure, screen, surfaces
from salience.explain.target import Target
from tables_models import model, table

VALUE = Target(0, "y", "value")


def pair(function, a="c", b="d", frame=None, steps=8):
    """Return the lines of a pair of columns, measured on a table."""
    made, rows = model(function, table() if frame is None else frame)
    columns = {c.name: c for c in made.schema.inputs}
    asker = Asker(made, VALUE)
    axes = [make_axis(rows, columns[name], [], steps) for name in (a, b)]
    return make_cells(asker, rows, *axes, spread=1.0), axes, rows


def once(rows):
    return np.ones((1, len(rows)))


def test_product_of_two_columns_is_known():
    cells, axes, rows = pair(lambda f: f.c * f.d + 3 * f.c - f.d**2)
    effect, strength = surfaces(cells, once(rows), once(rows))
    c, d = (np.asarray(axis.points) for axis in axes)
    twist = np.diff(np.diff(effect[0], axis=0), axis=1)  # free of what each column does alone
    filled = cells.counts() > 0
    np.testing.assert_allclose(twist[filled], np.outer(np.diff(c), np.diff(d))[filled], atol=1e-9)
    assert strength[0] == pytest.approx(rows.c.std() * rows.d.std(), rel=0.1)


def test_additive_model_has_no_interaction_at_all():
    cells, _, rows = pair(lambda f: np.exp(f.c) + f.d**3)
    assert surfaces(cells, once(rows), once(rows))[1][0] == 0.0


def test_weights_are_repeated_rows():
    frame = table(40)
    cells, _, rows = pair(lambda f: f.c * f.d * f.a, frame=frame, steps=2)
    weights = np.random.default_rng(0).multinomial(40, np.full(40, 1 / 40), 1).astype(float)
    again = np.repeat(np.arange(40), weights[0].astype(int))
    repeated = rows.iloc[again].reset_index(drop=True)
    lines = [np.flatnonzero(cells.row == row) for row in again]
    picked = np.concatenate(lines)
    other = Cells(
        np.repeat(np.arange(40), [len(part) for part in lines]),
        cells.first[picked],
        cells.second[picked],
        cells.shape,
        (cells.shares[0][again], cells.shares[1][again]),
        cells.delta[picked],
    )
    ours, theirs = (
        surfaces(cells, weights, once(rows))[1][0],
        surfaces(other, once(repeated), once(repeated))[1][0],
    )
    assert ours == pytest.approx(theirs, rel=1e-12)


def test_screening_index_is_zero_without_and_known_with_interaction():
    frame = table(2000)
    made, rows = model(lambda f: f.c * f.d + f.a, frame)
    asker = Asker(made, VALUE)
    found = screen(asker, rows, list("abcd"), most=6, spread=1.0, seed=0)
    assert [(a, b) for a, b, _ in found] == [("c", "d")]
    assert found[0][2] == pytest.approx(
        1.0, rel=0.15
    )  # ¼ E[(c − c')²(d − d')²] is the product of the variances


def test_category_and_number_interact():
    frame = table()
    turn = {"u": 1.0, "v": -1.0, "w": 0.0}
    cells, _, rows = pair(lambda f: f.c * f.g.map(turn), b="g")
    effect, _ = surfaces(cells, once(rows), once(rows))
    slopes = effect[0, -1] - effect[0, 0]
    width = rows.c.max() - rows.c.min()
    assert sorted(np.round((slopes - slopes.mean()) / width, 2)) == pytest.approx([-1, 0, 1], abs=0.05)
    assert len(frame) == len(rows)


def test_only_the_pair_beyond_noise_is_told():
    made, rows = model(lambda f: f.a + f.c * f.d + np.sign(f.a * f.b * f.c) * 0.2, table())
    found = effects(made, rows, settings=Settings(rows=600, followed=20, steps=4))
    assert [set(p.columns) for p in found.interactions if p.real] == [{"c", "d"}]
    best = found.interactions[0]
    assert best.interval[0] < best.strength < best.interval[1] and best.control < best.interval[0]
    assert "What “d” does depends on “c”" in str(found) or "What “c” does depends on “d”" in str(found)


def test_noise_is_not_told():
    """Second differences of random sign: most pairs are above zero, none beyond the control."""
    rng = np.random.default_rng(0)
    flips = dict(zip(table().a, rng.choice([-1.0, 1.0], 600), strict=True))
    made, rows = model(lambda f: f.c * f.d * f.a.map(flips).fillna(0.0), table())
    columns = {c.name: c for c in made.schema.inputs}
    asker = Asker(made, VALUE)
    axes = {name: make_axis(rows, columns[name], [], 4) for name in "cd"}
    found = measure(asker, rows, axes, [("c", "d", 1.0)], spread=1.0, seed=0)[0]
    assert found.strength > 0 and not found.real and found.p_value > 0.05


def test_three_columns_alone_and_one():
    made, rows = model(lambda f: f.a, table()[["a"]])
    assert effects(made, rows).interactions == ()
    made, rows = model(lambda f: 0 * f.a, table()[["a", "c"]])
    assert effects(made, rows).interactions == ()
