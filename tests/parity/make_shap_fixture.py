"""Write the Shapley values that shap gives for two known games: python tests/parity/make_shap_fixture.py.

Its compiler needs half a minute at the first call, too long for a test.
"""

from pathlib import Path

import numpy as np
import shap

from salience.testing.games import interactions

UNITS, SEED = 6, 7  # for the exact explainer
MANY, MANY_SEED, EVALUATIONS = 12, 8, 8001  # for the one with permutations


def main() -> None:
    """Compute and write the fixture."""
    few, many = (shap.maskers.Independent(np.zeros((1, units))) for units in (UNITS, MANY))
    exact = shap.explainers.Exact(interactions(UNITS, SEED), few)(np.ones((1, UNITS)))
    sampling = shap.explainers.Permutation(interactions(MANY, MANY_SEED), many, seed=0)
    sampled = sampling(np.ones((1, MANY)), max_evals=EVALUATIONS)
    np.savez(
        Path(__file__).with_name("shap_fixture.npz"),
        exact=exact.values[0],
        exact_seed=SEED,
        sampled=sampled.values[0],
        sampled_seed=MANY_SEED,
    )


if __name__ == "__main__":
    main()
