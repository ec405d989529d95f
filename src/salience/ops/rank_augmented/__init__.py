"""Rank-augmented linear attention (RALA): weighted keys, rotated features and a gate, at linear cost."""

from salience.ops.rank_augmented.fast import rank_augmented

__all__ = ["rank_augmented"]
