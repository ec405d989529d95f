"""Test explainers where the truth is known: change data so that a model must use a known region.

Zhou, Booth, Ribeiro, Shah: Do Feature Attribution Methods Correctly Attribute Features? (AAAI 2022)
https://arxiv.org/abs/2104.14403. Label reassignment, joint effective region, Attr% and the five changes of pictures follow
the paper; changes of tables, planted words and the checks of the trained model are this project's own.
"""

from salience.explain.ground_truth.check import (
    GroundTruth,
    Preconditions,
    altered_splits,
    check_methods,
    preconditions,
    score_methods,
)
from salience.explain.ground_truth.design import Altered, Design, Untouched, alter
from salience.explain.ground_truth.images import (
    CentreBrightnessShift,
    PeripheralBlurring,
    StripedHueShift,
    StripedNoise,
    Watermark,
)
from salience.explain.ground_truth.localisation import Localisation, localise
from salience.explain.ground_truth.table import MatchSides, ShiftColumn
from salience.explain.ground_truth.text import PlantToken, SetArticles

__all__ = [
    "Altered",
    "CentreBrightnessShift",
    "Design",
    "GroundTruth",
    "Localisation",
    "MatchSides",
    "PeripheralBlurring",
    "PlantToken",
    "Preconditions",
    "SetArticles",
    "ShiftColumn",
    "StripedHueShift",
    "StripedNoise",
    "Untouched",
    "Watermark",
    "alter",
    "altered_splits",
    "check_methods",
    "localise",
    "preconditions",
    "score_methods",
]
