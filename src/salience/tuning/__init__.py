"""Search the options of a model: ``tune(table, target, space="mlp-plr")``."""

from salience.tuning.result import Tuned
from salience.tuning.search import tune
from salience.tuning.space import Choice, Space, published

__all__ = ["Choice", "Space", "Tuned", "published", "tune"]
