"""What embeddings that cut numbers into bins share: edges, relative to an offset of each feature."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from salience.core.errors import ConfigError
from salience.ops.piecewise_linear.naive import Bins


class BinnedModule(nn.Module):
    """Hold the bin edges of each feature, relative to an offset that is taken from the numbers first.

    So digits are kept where edges lie far from zero and close together (timestamps, identifiers); numbers may come in
    float64 then. Offsets and edges are part of the state dict and have the default dtype of the moment.

    Args:
        edges: strictly increasing bin edges of each feature, at least two.

    Raises:
        ConfigError: a feature has fewer than two edges, or edges that do not rise in that dtype.
    """

    offset: Tensor
    edges: Tensor
    left: Tensor
    low: Tensor

    def __init__(self, edges: Sequence[Float[np.ndarray, " edge"]]) -> None:
        super().__init__()
        dtype, width = torch.get_default_dtype(), max(map(len, edges), default=0)
        offset = torch.tensor([_offset(np.asarray(e, np.float64)) for e in edges], dtype=dtype)
        padded = torch.full((len(edges), width), torch.inf, dtype=dtype)
        for i, edge in enumerate(edges):
            padded[i, : len(edge)] = torch.from_numpy(np.asarray(edge, np.float64) - offset[i].item())
            _check(i, padded[i, : len(edge)].tolist())
        self.register_buffer("offset", offset)
        self.register_buffer("edges", padded)
        for name, value in Bins.between(padded)._asdict().items():
            self.register_buffer(name, value, persistent=False)

    @property
    def used(self) -> Bool[Tensor, "feature bin"]:
        """Which slots are bins of the feature."""
        return self.edges[:, 1:].isfinite()

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        for name, value in Bins.between(self.edges)._asdict().items():
            setattr(self, name, value)

    @property
    def bins(self) -> Bins:
        """The bins as operators take them."""
        return Bins(*(getattr(self, name) for name in Bins._fields))

    def relative(self, x: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch feature"]:
        """Return the numbers relative to their feature's offset, in the dtype of the edges."""
        exact = x if x.is_floating_point() else x.double()
        return (exact - self.offset).to(self.edges.dtype)


def _offset(edges: Float[np.ndarray, " edge"]) -> float:
    """Return 0, or the outer edge nearest to it if all edges lie on one side."""
    if len(edges) == 0 or edges[0] <= 0 <= edges[-1]:
        return 0.0
    return float(min(edges[0], edges[-1], key=abs))


def _check(feature: int, edges: list[float]) -> None:
    if (
        len(edges) < 2
        or not all(a < b < float("inf") for a, b in pairwise(edges))
        or edges[0] == -float("inf")
    ):
        raise ConfigError(
            "Bin edges must rise strictly, two at least for each feature",
            f"Feature {feature} has {edges[:6]}, relative to its outer edge, in the default dtype.",
            "Compute them with salience.data.bins; scale a column whose bins are narrower than its dtype can tell apart.",
            code="SAL-C005",
        )
