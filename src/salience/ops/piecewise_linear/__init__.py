"""Piecewise linear functions of numbers, each feature with bins and vectors of its own."""
