"""Models of other people, seen as models of :mod:`salience.explain.model`: one function a family.

All that is returned works with every explainer, with faithfulness, words and views::

    model = salience.from_sklearn(pipeline, reviews)
    print(model.explain(reviews.head(3))[0])
"""

from salience.explain.adapters.callable import from_callable
from salience.explain.adapters.huggingface import from_huggingface
from salience.explain.adapters.sklearn import from_sklearn
from salience.explain.adapters.torch import FeatureInput, ImageInput, TokenInput, from_torch

__all__ = [
    "FeatureInput",
    "ImageInput",
    "TokenInput",
    "from_callable",
    "from_huggingface",
    "from_sklearn",
    "from_torch",
]
