"""Directional, feature-wise attention from every token to the others (DiSAN)."""
