"""Explanation of tables: effects of columns, pairs and directions, and contributions by bin in raw units."""

from salience.explain.tables.axis import TABULAR
from salience.explain.tables.contributions import BinContribution, ColumnContributions, contributions
from salience.explain.tables.curves import Curve
from salience.explain.tables.effects import FEWEST_ROWS, QUICK, Effects, Settings, effects
from salience.explain.tables.interactions import Interaction
from salience.explain.tables.monotone import Monotonicity, Moves

__all__ = [
    "FEWEST_ROWS",
    "QUICK",
    "TABULAR",
    "BinContribution",
    "ColumnContributions",
    "Curve",
    "Effects",
    "Interaction",
    "Monotonicity",
    "Moves",
    "Settings",
    "contributions",
    "effects",
]
