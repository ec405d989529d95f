"""Every registered encoder, fusion and head against the public checks."""

from importlib import import_module

import pytest
import torch

from salience.core import registry
from salience.core.errors import MissingExtraError
from salience.testing import encoders, fusions, heads

FAMILIES = {"encoder": encoders.CHECKS, "fusion": fusions.CHECKS, "head": heads.CHECKS}
CASES = [
    pytest.param(card, check, id=f"{card.key}-{check.__name__.removeprefix('check_')}")
    for kind, checks in FAMILIES.items()
    for card in registry.cards(kind)
    for check in checks
]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("card", "check"), CASES)
def test_registered(card, check):
    entry = getattr(import_module(card.module), card.fields["entry"])
    try:
        check(card, entry)
    except MissingExtraError as error:
        pytest.skip(str(error))
