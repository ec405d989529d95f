"""Explanations in words: sentences whose every claim can be checked."""

from salience.explain.words.sentences import Claim, Sentence, Words, check, parse, verbalize

__all__ = ["Claim", "Sentence", "Words", "check", "parse", "verbalize"]
