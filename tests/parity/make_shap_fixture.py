"""Write the Shapley values that shap's exact explainer gives for a known game: python tests/parity/make_shap_fixture.py.

Its compiler needs half a minute at the first call, too long for a test.
"""

from pathlib import Path

import numpy as np
import shap

from salience.testing.games import interactions

UNITS, SEED = 6, 7


def main() -> None:
    """Compute and write the fixture."""
    masker = shap.maskers.Independent(np.zeros((1, UNITS)))
    values = shap.explainers.Exact(interactions(UNITS, SEED), masker)(np.ones((1, UNITS))).values[0]
    np.savez(Path(__file__).with_name("shap_fixture.npz"), values=values, units=UNITS, seed=SEED)


if __name__ == "__main__":
    main()
