"""What every fusion must do, on row vectors and tokens of two encoders."""

import torch
from torch import Tensor

from salience.core.registry import Card
from salience.models.slots import Fusion, Tokens
from salience.testing.tensors import (
    assert_close,
    assert_equal,
    assert_every_parameter_learns,
    assert_finite,
    seeded,
    weighted_sum,
)

Build = type[Fusion]
ROWS, TEXT_DIM, TOKENS, CELL_DIM, CELLS = 5, 6, 3, 4, 2
DIMS, TOKEN_DIMS = {"text": TEXT_DIM, "number": CELL_DIM * CELLS}, {"number": CELL_DIM}


def example_inputs(rows: int = ROWS) -> tuple[dict[str, Tensor], dict[str, Tokens]]:
    """Return row vectors and tokens of a text and a number encoder; the texts differ in length."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randn(rows, TOKENS, TEXT_DIM, generator=generator)
    cells = torch.randn(rows, CELLS, CELL_DIM, generator=generator)
    mask = torch.arange(TOKENS) < 1 + torch.arange(rows)[:, None] % TOKENS
    positions = torch.arange(TOKENS).expand(rows, -1)
    text = Tokens(words, mask, torch.where(mask, positions, -1))
    whole = torch.ones(rows, CELLS, dtype=torch.bool)
    number = Tokens(cells, whole, torch.arange(CELLS).expand(rows, -1))
    vectors = {"text": torch.randn(rows, TEXT_DIM, generator=generator), "number": cells.flatten(1)}
    return vectors, {"text": text, "number": number}


def build(card: Card, entry: Build, *, seed: int = 0, field: str = "tiny") -> Fusion:
    """Return a fusion of the two encoders, in evaluation mode."""
    args = card.get(field) or {}
    layout = {"columns": {"text": [TEXT_DIM], "number": [CELL_DIM] * CELLS}} if entry.knows_columns else {}
    with seeded(seed):
        return entry(dict(DIMS), dict(TOKEN_DIMS), **layout, **args).eval()


def check_shapes_are_as_promised(card: Card, entry: Build) -> None:
    """Require one finite vector of ``dim`` numbers a row (and member), with the defaults and with the tiny arguments."""
    for field in ("defaults", "tiny"):
        fusion = build(card, entry, field=field)
        with torch.no_grad():
            vector = fusion(*example_inputs())
        wanted = (ROWS, fusion.dim) if fusion.members == 1 else (ROWS, fusion.members, fusion.dim)
        assert tuple(vector.shape) == wanted, f"{field}: shape {tuple(vector.shape)}, want {wanted}"
        assert_finite(vector, field)


def check_every_parameter_gets_a_finite_gradient(card: Card, entry: Build) -> None:
    """Require that training reaches every parameter."""
    assert_every_parameter_learns(
        lambda seed: build(card, entry, seed=seed), lambda fusion: weighted_sum(fusion(*example_inputs()))
    )


def check_every_encoder_matters(card: Card, entry: Build) -> None:
    """Require that the result depends on each encoder."""
    fusion = build(card, entry)
    with torch.no_grad():
        usual = fusion(*example_inputs())
        for name in DIMS:
            vectors, tokens = example_inputs()
            vectors[name] = vectors[name] + 1
            tokens[name] = tokens[name].with_values(tokens[name].values + 1)
            assert not torch.equal(fusion(vectors, tokens), usual), f"the {name} encoder is ignored"


def check_rows_are_independent(card: Card, entry: Build) -> None:
    """Require that a batch of one equals the same row in a batch, and that padding does not matter."""
    fusion = build(card, entry)
    vectors, tokens = example_inputs()
    with torch.no_grad():
        together = fusion(vectors, tokens)
        for i in range(ROWS):
            one = {n: v[i : i + 1] for n, v in vectors.items()}
            alone = fusion(one, {n: _row(t, i) for n, t in tokens.items()})
            assert_close(together[i], alone[0], f"row {i} in a batch")


def _row(tokens: Tokens, i: int) -> Tokens:
    length = int(tokens.mask[i].sum())
    return Tokens(*(part[i : i + 1, :length] for part in (tokens.values, tokens.mask, tokens.unit)))


def check_saved_and_restored_is_equal(card: Card, entry: Build) -> None:
    """Require that its tensors alone rebuild it."""
    first, second = build(card, entry), build(card, entry, seed=1)
    second.load_state_dict(first.state_dict())
    with torch.no_grad():
        assert_equal(second(*example_inputs()), first(*example_inputs()), "output of the restored fusion")


def check_bfloat16_is_finite(card: Card, entry: Build) -> None:
    """Require that mixed precision runs."""
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert_finite(build(card, entry)(*example_inputs()), "bfloat16")


CHECKS = (
    check_shapes_are_as_promised,
    check_every_parameter_gets_a_finite_gradient,
    check_every_encoder_matters,
    check_rows_are_independent,
    check_saved_and_restored_is_equal,
    check_bfloat16_is_finite,
)
