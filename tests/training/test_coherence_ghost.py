"""Squared gradient norms of examples from one pass, beside a plain loop in float64."""

import pytest
import torch
from coherence_models import NAMES, ROWS, case, classified, oracle

from salience.training.coherence.ghost import ghost


@pytest.mark.parametrize("name", NAMES)
def test_norms_and_sums_equal_those_of_a_loop(name):
    net, batch = case(name)
    sums, squares = oracle(net, classified, batch, ROWS)
    names = {n: p for n, p in net.named_parameters() if p.requires_grad}
    found = ghost(net, lambda: classified(net, batch), names, ROWS)
    for n in names:
        torch.testing.assert_close(found.squares[n], squares[n], rtol=1e-9, atol=1e-14)
        torch.testing.assert_close(found.sums[n], sums[n], rtol=1e-9, atol=1e-12)
    assert all(p.grad is None for p in net.parameters())
