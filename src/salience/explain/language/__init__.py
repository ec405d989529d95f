"""Explanations of language models: why this token next, why this text rather than that, which words a layer used."""

from salience.explain.language.explain import explain_language
from salience.explain.language.mixing import Mixing, mixing
from salience.explain.language.view import LanguageView

__all__ = ["LanguageView", "Mixing", "explain_language", "mixing"]
