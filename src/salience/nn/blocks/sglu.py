"""Simple gated linear unit: the channel mixer of TransNormerLLM."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import silu

from salience.core.errors import ConfigError, nearest

ACTIVATIONS = {"none": lambda x: x, "silu": silu}


class SGLU(nn.Module):
    """Mix channels by y = W₃ (act(W₁ x) ⊙ W₂ x), without bias.

    Args:
        dim: features of input and output.
        glu_dim: features of the product.
        activation: ``"none"``, as in TransNormerLLM, or ``"silu"``, which is SwiGLU.

    Raises:
        ConfigError: an unknown activation.

    Source: TransNormerLLM (arXiv 2307.14995), section 3.1.2; module names of the published weights. Holds
    3 · dim · glu_dim parameters.
    """

    def __init__(self, dim: int, glu_dim: int, activation: str = "none") -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ConfigError(f"Unknown activation {activation!r}", "", nearest(activation, ACTIVATIONS))
        self.activation = activation
        self.l1 = nn.Linear(dim, glu_dim, bias=False)
        self.l2 = nn.Linear(dim, glu_dim, bias=False)
        self.l3 = nn.Linear(glu_dim, dim, bias=False)

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Return the mixed features."""
        return self.l3(ACTIVATIONS[self.activation](self.l1(x)) * self.l2(x))
