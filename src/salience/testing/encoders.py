"""What every encoder must do, checked on small tables of its kind.

``CHECKS`` are functions of the method's card and its class; each fails with a sentence that says what to mend.
An encoder is built from the ``tiny`` arguments of its card and fitted on :func:`example_rows`.
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load, save
from torch import Tensor

from salience.core.io import dumps
from salience.core.registry import Card
from salience.core.unit import Unit
from salience.data.kinds import KINDS
from salience.models.slots import Encoder, Tokens
from salience.testing.tensors import (
    assert_close,
    assert_equal,
    assert_every_parameter_learns,
    assert_finite,
    seeded,
    weighted_sum,
)

Build = Callable[..., Encoder]
COLUMNS = {
    "text": ["title", "review"],
    "image": ["photo"],
    "number": ["age", "price", "always"],
    "category": ["department", "size"],
}
TITLES = ["great dress", "poor top", "soft dress", "great", "warm soft top", "the poor dress", "top", "fit !"]
REVIEWS = [
    "soft and warm , great fit .", "thin fabric , poor fit", "the fabric is warm and soft ; it does fit !",
    "it is a great top .", "warm", "poor , thin and not warm at all .", "the fit is great", "soft soft fabric",
]  # fmt: skip


def example_rows(kind: str) -> pd.DataFrame:
    """Return eight ordinary rows of a kind, some cells missing where the kind has no empty form."""
    if kind == "text":
        return pd.DataFrame({"title": TITLES, "review": REVIEWS})
    if kind == "image":
        return pd.DataFrame({"photo": [_picture(seed) for seed in range(7)] + [None]})
    if kind == "number":
        price = [9.5, 20.0, np.nan, 31.25, 12.0, 18.0, 44.0, np.nan]
        return pd.DataFrame({"age": np.arange(30.0, 70, 5), "price": price, "always": np.full(8, 3.0)})
    departments = ["tops", "tops", "shoes", None, "shoes", "tops", "coats", "coats"]
    return pd.DataFrame(
        {"department": departments, "size": ["s", "m", "l", "s", "m", "l", None, "s"]}, dtype=object
    )


def _picture(seed: int, width: int = 8, height: int = 8) -> Any:
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def odd_rows(kind: str) -> pd.DataFrame:
    """Return rows that are legal and rare: empty, tiny, huge, never seen, missing."""
    cells: dict[str, list[Any]] = {
        "text": ["", " ", "a", "🙂", "\u200e", "unseen words " * 600],
        "image": [
            None,
            _picture(0, 1, 1),
            _picture(1, 300, 1),
            np.zeros((5, 3), np.uint8),
            _picture(2, 33, 21),
        ],
        "number": [np.nan, np.inf, -np.inf, 1e300, -1e300, 0.0, 5e-324],
        "category": [None, "never seen", "", "tops"],
    }[kind]
    values = np.array(cells, dtype=float) if kind == "number" else pd.Series(cells, dtype=object)
    return pd.DataFrame(dict.fromkeys(COLUMNS[kind], values))


def empty_rows(kind: str) -> pd.DataFrame:
    """Return four rows in which every cell is missing."""
    cell = {"text": "", "image": None, "number": np.nan, "category": None}[kind]
    values = np.full(4, np.nan) if kind == "number" else pd.Series([cell] * 4, dtype=object)
    return pd.DataFrame(dict.fromkeys(COLUMNS[kind], values))


def kind_of(card: Card) -> str:
    """Return the kind of column that an encoder serves."""
    kinds = card.get("kinds") or []
    assert len(kinds) == 1, f"an encoder serves one kind of column; the card names {kinds}"
    return kinds[0]


def build(
    card: Card, entry: Build, *, seed: int = 0, rows: pd.DataFrame | None = None, field: str = "tiny"
) -> Encoder:
    """Return an encoder fitted on example rows, in evaluation mode.

    Args:
        card: its card; ``field`` names the arguments to use, ``"tiny"`` or ``"defaults"``.
        entry: its class.
        seed: seed of the parameters and of what is fitted.
        rows: training rows; the example rows if not given.
        field: which arguments of the card.
    """
    kind = kind_of(card)
    with seeded(seed):
        encoder = entry(list(COLUMNS[kind]), **(card.get(field) or {}))
        generator = torch.Generator().manual_seed(seed)
        rows = example_rows(kind) if rows is None else rows
        encoder.fit(rows, np.arange(len(rows)) % 2, generator)
    return encoder.eval()


def batch_of(encoder: Encoder, rows: pd.DataFrame) -> dict[str, Tensor]:
    """Return the collated batch of some rows."""
    return encoder.collate(encoder.prepare(rows))


@torch.no_grad()
def run(encoder: Encoder, rows: pd.DataFrame, seed: int = 0) -> tuple[Tokens, Tokens, Tensor]:
    """Return embedded tokens, tokens in context and row vectors."""
    batch = batch_of(encoder, rows)
    with seeded(seed):
        tokens = encoder.embed(batch)
        return tokens, *encoder.encode(tokens)


def check_builds_from_defaults(card: Card, entry: Build) -> None:
    """Require that the card's defaults are accepted and give an encoder that runs."""
    encoder = build(card, entry, field="defaults")
    assert_finite(run(encoder, example_rows(kind_of(card)))[2], "row vectors with the defaults")


def check_shapes_are_as_promised(card: Card, entry: Build) -> None:
    """Require tokens with mask and unit, and row vectors of ``dim`` numbers."""
    rows = example_rows(kind_of(card))
    encoder = build(card, entry)
    tokens, context, vector = run(encoder, rows)
    places = tuple(tokens.values.shape[:2])
    assert places[0] == len(rows), f"{places[0]} token sequences for {len(rows)} rows"
    assert tuple(tokens.mask.shape) == places == tuple(tokens.unit.shape), (
        "values, mask and unit differ in shape"
    )
    assert tokens.mask.dtype == torch.bool, f"the mask is {tokens.mask.dtype}, want bool"
    assert not tokens.unit.is_floating_point(), f"units are {tokens.unit.dtype}, want integers"
    assert tuple(context.values.shape[:2]) == places, "encode changes the number of tokens"
    wanted = (len(rows), encoder.dim)
    assert tuple(vector.shape) == wanted, f"row vectors have shape {tuple(vector.shape)}, want {wanted}"


def check_every_parameter_gets_a_finite_gradient(card: Card, entry: Build) -> None:
    """Require that training reaches every parameter, over a batch that holds every sort of cell."""
    rows = example_rows(kind_of(card))

    def loss(encoder: Encoder) -> Tensor:
        tokens, vector = encoder.encode(encoder.embed(batch_of(encoder, pd.concat([rows] * 4))))
        values = tokens.values * tokens.mask.unsqueeze(-1)
        extra = encoder.auxiliary_loss(vector.detach().float().square().mean(1))
        total = weighted_sum(vector) + weighted_sum(values, seed=1)
        return total if extra is None else total + extra.sum()

    assert_every_parameter_learns(lambda seed: build(card, entry, seed=seed), loss)


def check_batch_of_one_equals_the_row_in_a_batch(card: Card, entry: Build) -> None:
    """Require that padding and neighbours do not matter."""
    rows = example_rows(kind_of(card))
    encoder = build(card, entry)
    _, together, vectors = run(encoder, rows)
    for i in range(len(rows)):
        _, alone, vector = run(encoder, rows.iloc[[i]])
        assert_close(vectors[i], vector[0], f"vector of row {i} in a batch")
        assert_close(
            together.values[i][together.mask[i]], alone.values[0][alone.mask[0]], f"tokens of row {i}"
        )


def check_same_seed_gives_the_same_numbers(card: Card, entry: Build) -> None:
    """Require that two builds with one seed agree in every tensor and output."""
    first, second = build(card, entry, seed=3), build(card, entry, seed=3)
    others = second.state_dict()
    for name, tensor in first.state_dict().items():
        assert_equal(others[name], tensor, f"{name} of a second build")
    rows = example_rows(kind_of(card))
    assert_equal(run(second, rows)[2], run(first, rows)[2], "row vectors of a second build")


def check_saved_and_restored_is_equal(card: Card, entry: Build) -> None:
    """Require that JSON state and safetensors rebuild the encoder exactly."""
    encoder = build(card, entry)
    state = json.loads(dumps(encoder.state()))
    tensors = load(save({name: t.clone() for name, t in encoder.state_dict().items()}))
    again = entry(list(COLUMNS[kind_of(card)]), **(card.get("tiny") or {}))
    again.restore(state)
    again.load_state_dict(tensors)
    assert again.dim == encoder.dim, f"dim is {again.dim} after restoring, was {encoder.dim}"
    rows = example_rows(kind_of(card))
    for what, found, wanted in zip(
        ("tokens", "row vectors"), _numbers(again.eval(), rows), _numbers(encoder, rows), strict=True
    ):
        assert_equal(found, wanted, f"{what} of the restored encoder")


def _numbers(encoder: Encoder, rows: pd.DataFrame) -> tuple[Tensor, Tensor]:
    tokens, _, vector = run(encoder, rows)
    return tokens.values, vector


def check_odd_cells_have_a_defined_result(card: Card, entry: Build) -> None:
    """Require finite numbers for empty, tiny, huge, unseen and missing cells, also where training had nothing else."""
    kind = kind_of(card)
    encoder = build(card, entry)
    _assert_rows_are_finite(encoder, odd_rows(kind), "odd cells")
    nothing = build(card, entry, rows=empty_rows(kind))
    _assert_rows_are_finite(nothing, empty_rows(kind), "a column without any value")
    _assert_rows_are_finite(nothing, example_rows(kind), "values in a column that had none in training")
    one = build(card, entry, rows=example_rows(kind).iloc[:1])
    _assert_rows_are_finite(one, example_rows(kind), "an encoder fitted on one row")


def _assert_rows_are_finite(encoder: Encoder, rows: pd.DataFrame, what: str) -> None:
    tokens, context, vector = run(encoder, rows)
    for values in (tokens.values[tokens.mask], context.values[context.mask], vector):
        assert_finite(values, what)


def check_bfloat16_is_finite(card: Card, entry: Build) -> None:
    """Require that mixed precision runs, forward and backward."""
    encoder = build(card, entry)
    batch = batch_of(encoder, example_rows(kind_of(card)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tokens = encoder.embed(batch)
        values = tokens.values.detach().requires_grad_()
        context, vector = encoder.encode(tokens.with_values(values))
    assert_finite(vector, "row vectors in bfloat16")
    assert_finite(context.values[context.mask], "tokens in bfloat16")
    weighted_sum(vector).backward()
    assert_finite(values.grad, "input gradient in bfloat16")


def check_units_match_tokens(card: Card, entry: Build) -> None:
    """Require that tokens name exactly the units of their row, and that padding names none."""
    kind = kind_of(card)
    encoder = build(card, entry)
    for rows in (example_rows(kind), odd_rows(kind)):
        tokens, _, _ = run(encoder, rows)
        assert bool((tokens.unit[~tokens.mask] == -1).all()), "padding must have unit −1"
        for i, row in enumerate(rows.to_dict("records")):
            units = encoder.units(row)
            used = sorted(set(tokens.unit[i][tokens.unit[i] >= 0].tolist()))
            assert used == list(range(len(units))), f"row {i} has {len(units)} units, its tokens name {used}"
            assert all(u.column in encoder.columns for u in units), f"row {i}: a unit of a column not served"


def check_removing_a_unit_changes_only_that_unit(card: Card, entry: Build) -> None:
    """Require that a cell without one unit has the tokens of all its other units, unchanged."""
    kind = kind_of(card)
    encoder = build(card, entry)
    rows = example_rows(kind)
    row = rows.iloc[0].to_dict()
    before = run(encoder, rows.iloc[[0]])[0]
    for number, unit in enumerate(encoder.units(row)):
        changed = KINDS[kind].remove(row[unit.column], [unit], KINDS[kind].baseline(rows[unit.column]))
        if kind in ("number", "category") and changed == row[unit.column]:
            continue
        frame = pd.DataFrame([{**row, unit.column: changed}]).astype(rows.dtypes.to_dict())
        after = run(encoder, frame)[0]
        _assert_only_changed(kind, before, after, number, unit)


def _assert_only_changed(kind: str, before: Tokens, after: Tokens, number: int, unit: Unit) -> None:
    old, new = _by_unit(before), _by_unit(after)
    if kind == "text":  # later words move up
        new = {j if j < number else j + 1: values for j, values in new.items()}
        assert sorted(new) == sorted(set(old) - {number}), (
            f"removing {unit.label!r} leaves other words than the rest"
        )
    if kind == "image":  # resizing blurs the border of a region
        change = {j: float((new[j] - old[j]).abs().sum()) for j in old if j >= 0}
        assert max(change, key=change.get) == number, f"removing {unit.label!r} changes another region most"
        return
    for j in set(old) - {number}:
        assert_close(new[j], old[j], f"tokens of unit {j} after removing {unit.label!r}")
    changed = number not in new or not torch.equal(new[number], old[number])
    assert changed, f"removing {unit.label!r} changes nothing"


def _by_unit(tokens: Tokens) -> dict[int, Tensor]:
    unit, mask = tokens.unit[0], tokens.mask[0]
    return {j: tokens.values[0][(unit == j) & mask] for j in sorted(set(unit[mask].tolist()))}


def check_baseline_has_the_form_of_the_input(card: Card, entry: Build) -> None:
    """Require a neutral input of the same shape, mask and units, finite and always the same."""
    kind = kind_of(card)
    encoder = build(card, entry)
    for rows in (example_rows(kind), odd_rows(kind)):
        batch = batch_of(encoder, rows)
        with torch.no_grad():
            tokens, neutral, again = encoder.embed(batch), encoder.baseline(batch), encoder.baseline(batch)
        assert neutral.values.shape == tokens.values.shape, "the baseline has another shape than the input"
        assert_equal(neutral.mask, tokens.mask, "mask of the baseline")
        assert_equal(neutral.unit, tokens.unit, "units of the baseline")
        assert_finite(neutral.values, "baseline")
        assert_equal(again.values, neutral.values, "baseline, asked twice")


def check_evaluation_is_deterministic(card: Card, entry: Build) -> None:
    """Require that nothing is drawn at random in evaluation mode."""
    encoder = build(card, entry)
    rows = example_rows(kind_of(card))
    first, second = run(encoder, rows, seed=1), run(encoder, rows, seed=2)
    assert_equal(second[0].values, first[0].values, "embedded tokens of a second run")
    assert_equal(second[2], first[2], "row vectors of a second run")


def check_state_is_learned_from_training_rows_only(card: Card, entry: Build) -> None:
    """Require that reading other rows changes neither state nor tensors."""
    kind = kind_of(card)
    encoder = build(card, entry)
    state, tensors = dumps(encoder.state()), {n: t.clone() for n, t in encoder.state_dict().items()}
    rows = odd_rows(kind)
    run(encoder, rows)
    with torch.no_grad():
        encoder.baseline(batch_of(encoder, rows))
    assert dumps(encoder.state()) == state, "state() changed by reading rows after fit"
    for name, tensor in encoder.state_dict().items():
        assert_equal(tensor, tensors[name], f"{name} after reading other rows")


def check_attention_maps_are_finite(card: Card, entry: Build) -> None:
    """Require that exported maps have one entry a row, are finite, and leave the mode as it was."""
    encoder = build(card, entry).train()
    rows = example_rows(kind_of(card))
    for name, values in encoder.attention(batch_of(encoder, rows)).items():
        assert len(values) == len(rows), f"{name}: {len(values)} maps for {len(rows)} rows"
        assert_finite(values, name)
    assert encoder.training, "attention() must leave the training mode as it was"


CHECKS = (
    check_builds_from_defaults,
    check_shapes_are_as_promised,
    check_every_parameter_gets_a_finite_gradient,
    check_batch_of_one_equals_the_row_in_a_batch,
    check_same_seed_gives_the_same_numbers,
    check_saved_and_restored_is_equal,
    check_odd_cells_have_a_defined_result,
    check_bfloat16_is_finite,
    check_units_match_tokens,
    check_removing_a_unit_changes_only_that_unit,
    check_baseline_has_the_form_of_the_input,
    check_evaluation_is_deterministic,
    check_state_is_learned_from_training_rows_only,
    check_attention_maps_are_finite,
)
