"""Simple root-mean-square normalisation: no weight, no bias, no mean."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import rms_norm


class SimpleRMSNorm(nn.Module):
    """Divide each vector by its root mean square: y = x / sqrt(mean(x²) + eps).

    Sums run in fp32 for half-precision input. A zero vector stays zero.

    Args:
        eps: added to the mean square; 1e-6 as in the published model.

    Source: TransNormerLLM (arXiv 2307.14995), section 3.1.3. Holds no parameters.
    """

    def __init__(self, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Return the normalised vectors, in the input's type."""
        return rms_norm(x, x.shape[-1:], eps=self.eps)
