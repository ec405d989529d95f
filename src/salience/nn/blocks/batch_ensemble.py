"""A linear layer of members that share its matrix: BatchEnsemble."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class BatchEnsembleLinear(nn.Module):
    """Apply one linear layer for all members, each with factors of its own before and behind it.

    ``((x · r) @ weightᵀ) · s + bias``, with r, s and bias of each member. The members' biases start equal.

    Args:
        dim_in: size of the input.
        dim_out: size of the output.
        members: number of members.
        scales: r at the start (member, dim_in); ones if none.

    Source:
        Wen, Tran, Ba: BatchEnsemble (ICLR 2020), equation 5; starts as in the package ``tabm`` 0.0.3 (facts).
    """

    def __init__(
        self, dim_in: int, dim_out: int, members: int, scales: Float[Tensor, "member dim_in"] | None = None
    ) -> None:
        super().__init__()
        bound = dim_in**-0.5
        self.weight = nn.Parameter(torch.empty(dim_out, dim_in).uniform_(-bound, bound))
        self.r = nn.Parameter(torch.ones(members, dim_in) if scales is None else scales)
        self.s = nn.Parameter(torch.ones(members, dim_out))
        self.bias = nn.Parameter(torch.empty(dim_out).uniform_(-bound, bound).repeat(members, 1))

    def forward(self, x: Float[Tensor, "batch member dim_in"]) -> Float[Tensor, "batch member dim_out"]:
        """Apply the layer."""
        return nn.functional.linear(x * self.r, self.weight) * self.s + self.bias
