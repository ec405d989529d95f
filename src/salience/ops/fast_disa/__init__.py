"""Fast directional self-attention: feature-wise attention as two matrix products a head (Fast-DiSA)."""
