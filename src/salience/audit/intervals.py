"""Closed-form intervals of shares and of differences of means."""

import numpy as np


def wilson(share: float, rows: int, z: float = 1.96) -> tuple[float, float]:
    """Return the Wilson score interval of a share of ``rows`` rows, 95 % unless ``z`` says otherwise."""
    centre = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * np.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return float(max(centre - half, 0.0)), float(min(centre + half, 1.0))
