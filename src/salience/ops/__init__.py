"""Functions on tensors."""

from salience.ops.linear.attention import LinearAttentionOutput, LinearAttentionState, linear_attention

__all__ = ["LinearAttentionOutput", "LinearAttentionState", "linear_attention"]
