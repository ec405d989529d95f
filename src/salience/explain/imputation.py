"""Fill pixels from those around them: noisy linear imputation."""

import numpy as np
from jaxtyping import Bool, Float

BESIDE, CORNER = 1 / 6, 1 / 12  # weights of neighbours; a pixel inside has four of each, which sum to one
STEPS = {
    (dy, dx): CORNER if dy and dx else BESIDE for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)
}


def impute(
    pixels: Float[np.ndarray, "height width channel"],
    mask: Bool[np.ndarray, "height width"],
    noise: float,
    rng: np.random.Generator,
) -> Float[np.ndarray, "height width channel"]:
    """Return a picture in which every masked pixel is the weighted mean of its eight neighbours, plus noise.

    All masked pixels are solved for together, as one sparse system. At the edge of the picture the weights of the
    neighbours that are there are scaled to sum to one. A picture that is masked altogether gets its mean colour.

    Args:
        pixels: values in [0, 1].
        mask: True where a pixel is filled.
        noise: standard deviation of normal noise on filled pixels; the result is cut to [0, 1].
        rng: source of the noise.
    """
    filled = pixels.copy()
    if mask.all():
        filled[:] = pixels.mean(axis=(0, 1))
    elif mask.any():
        filled[mask] = _solved(pixels, mask)
    filled[mask] += rng.normal(0, noise, (int(mask.sum()), pixels.shape[2]))
    return filled.clip(0, 1)


def _solved(pixels: np.ndarray, mask: np.ndarray) -> Float[np.ndarray, "pixel channel"]:
    from scipy.sparse import coo_array
    from scipy.sparse.linalg import splu

    height, width = mask.shape
    number = np.full(mask.shape, -1)
    number[mask] = np.arange(mask.sum())
    y, x = np.nonzero(mask)
    count, total = len(y), np.zeros(len(y))
    known = np.zeros((count, pixels.shape[2]))
    rows, columns, weights = [np.arange(count)], [np.arange(count)], [np.zeros(count)]
    for (dy, dx), weight in STEPS.items():
        inside = (y + dy >= 0) & (y + dy < height) & (x + dx >= 0) & (x + dx < width)
        line = np.flatnonzero(inside)
        there = y[line] + dy, x[line] + dx
        total[line] += weight
        free = number[there] >= 0
        rows.append(line[free])
        columns.append(number[there][free])
        weights.append(np.full(free.sum(), -weight))
        known[line[~free]] += weight * pixels[there][~free]
    weights[0] = total
    system = coo_array(
        (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))), shape=(count, count)
    )
    return splu(system.tocsc()).solve(known)
