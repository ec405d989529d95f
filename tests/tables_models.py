"""Models of tables whose effects are known in closed form."""

import numpy as np
import pandas as pd

from salience.explain.adapters import from_callable


def table(rows=600, seed=0):
    """Return correlated numbers a and b, independent c and d, a category g and a whole number k."""
    rng = np.random.default_rng(seed)
    a, noise, c, d = rng.normal(size=(4, rows))
    frame = pd.DataFrame({"a": a, "b": 0.9 * a + 0.3 * noise, "c": c, "d": d})
    frame["g"] = rng.choice(["u", "v", "w"], rows, p=[0.5, 0.3, 0.2])
    frame["k"] = rng.integers(0, 60, rows).astype(float)
    return frame


def model(function, frame, **options):
    """Return a black box of a function of data frames, and its canonical rows."""
    made = from_callable(lambda rows: np.asarray(function(rows), dtype=float), frame, target="y", **options)
    return made, frame.reset_index(drop=True)
