"""Functions on tensors."""

from salience.ops.linear.attention import LinearAttentionOutput, LinearAttentionState, linear_attention
from salience.ops.linear.weights import TopContributions, contribution, top_contributions

__all__ = [
    "LinearAttentionOutput",
    "LinearAttentionState",
    "TopContributions",
    "contribution",
    "linear_attention",
    "top_contributions",
]
