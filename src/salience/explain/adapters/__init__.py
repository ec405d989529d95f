"""Models of other people, seen as models of :mod:`salience.explain.model`: one function a family.

All that is returned works with every explainer, with faithfulness, words and views::

    model = salience.from_torch(module, TokenInput(vocabulary, neutral_id=1), classes=["bad", "good"])
    model.explain(["a dull film"])
"""

from salience.explain.adapters.torch import TokenInput, from_torch

__all__ = ["TokenInput", "from_torch"]
