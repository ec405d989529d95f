"""Explain what a language model expects next, in one call."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from salience.core.errors import ConfigError
from salience.explain.engine import explain
from salience.explain.explanation import Explanation
from salience.explain.language.reading import CONTEXT, visible
from salience.explain.language.view import LanguageView
from salience.explain.target import Target


def explain_language(
    model: nn.Module,
    tokenizer: Any,
    contexts: Sequence[str],
    *,
    target: str | None = None,
    contrast: str | None = None,
    continuation: str | None = None,
    method: Any = "integrated_gradients",
    options: Mapping[str, Any] | None = None,
    units: str = "words",
    baseline: str = "space",
    removal: str = "delete",
    seed: int = 0,
    memory_mb: int | float = 256,
    faithfulness: bool = True,
) -> list[Explanation]:
    """Say which words of each context speak for what comes next.

    What is explained is the log-odds of one token: of the predicted one, or of ``target`` where that is one token;
    with ``contrast``, one token rather than the other (``z_a − z_b``). For a longer text, and for ``continuation``,
    it is the log-probability of the text after the context, summed over its tokens (teacher forcing); with
    ``contrast``, its difference from that of the other text.

    Args:
        model: a language model of :mod:`salience.models.language_models`.
        tokenizer: the one it was trained with.
        contexts: texts, one explanation each.
        target: what may come next, exactly as it would stand there: most often with the space before the word.
            None for the token that the model predicts.
        contrast: what might come in its place.
        continuation: a text whose log-probability is explained, also if it is one token.
        method: key of an explainer, or an explainer; ``salience list explainers`` shows them.
        options: options of a method that is named by its key.
        units: ``"words"`` or ``"tokens"``.
        baseline: neutral input of gradient methods, see :class:`salience.explain.language.view.LanguageView`.
        removal: how words are taken away, see there.
        seed: seed of the method and of the random control.
        memory_mb: memory for one pass of the model, in MiB.
        faithfulness: whether to measure if the explanations are true.

    Raises:
        ConfigError: both ``target`` and ``continuation``, a contrast of several tokens with the predicted token, a
            contrast of equal texts, or an unknown option.
    """
    texts = _texts(tokenizer, target, contrast, continuation)
    view = LanguageView(
        model, tokenizer, continuations=texts, units=units, baseline=baseline, removal=removal
    )
    if texts:
        names = [_name(text, texts) for text in texts]
        asked = Target(0, " rather than ".join(names), "log-probability", 1 if contrast else None)
        spec = partial(_same, asked)
    else:
        spec = partial(_tokens, tokenizer, target, contrast)
    frame = pd.DataFrame({CONTEXT: pd.Series(list(contexts), dtype=object)})
    return explain(
        view,
        frame,
        method=method,
        options=options,
        target=spec,
        seed=seed,
        memory_mb=memory_mb,
        faithfulness=faithfulness,
    )


def _texts(tokenizer: Any, target: str | None, contrast: str | None, continuation: str | None) -> list[str]:
    """Return the texts whose log-probabilities are asked for; none where the question is of one token."""
    if target is not None and continuation is not None:
        raise ConfigError(
            "A target and a continuation exclude each other", f"{target!r}, {continuation!r}.", "Give one."
        )
    first = target if continuation is None else continuation
    if contrast is not None and contrast == first:
        raise ConfigError("A contrast needs two different texts", repr(contrast), "Give another contrast.")
    texts = [text for text in (first, contrast) if text is not None]
    if continuation is None and all(len(tokenizer.encode(text)) == 1 for text in texts):
        return []
    if first is None:
        raise ConfigError(
            "A contrast of several tokens needs a target",
            f"contrast={contrast!r} is {len(tokenizer.encode(contrast or ''))} tokens.",
            "Give target= as well.",
        )
    return texts


def _same(asked: Target, outputs: np.ndarray) -> list[Target]:
    return [asked] * len(outputs)


def _tokens(tokenizer: Any, target: str | None, contrast: str | None, outputs: np.ndarray) -> list[Target]:
    against = None if contrast is None else tokenizer.encode(contrast)[0]
    chosen = outputs.argmax(axis=1) if target is None else [tokenizer.encode(target)[0]] * len(outputs)
    return [_token(tokenizer, int(index), against) for index in chosen]


def _token(tokenizer: Any, index: int, against: int | None) -> Target:
    if index == against:
        raise ConfigError(
            "A contrast needs two different tokens",
            f"{tokenizer.token_text(index)!r} is what the model predicts.",
            "Give another contrast, or target= as well.",
        )
    texts = [tokenizer.token_text(i) for i in (index, against) if i is not None]
    return Target(index, " rather than ".join(_name(text, texts) for text in texts), "log-odds", against)


def _name(text: str, texts: Sequence[str]) -> str:
    """Return a text for people; its outer spaces are shown only where texts differ in nothing else."""
    alike = len({visible(other) for other in texts}) < len(texts)
    return visible(text.replace(" ", "␣")) if alike else visible(text)
