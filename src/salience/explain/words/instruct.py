"""Let a language model write the explanation, and keep what it wrote only if it is true.

The question follows the prompt of Feldhus et al. (NLRSE 2023): its six parts in their order, in our words, with
temperature 0.5 and at most 300 tokens. Where we differ: scores are divided by the largest, so that they do not vanish
in two decimals; and a last paragraph asks for an answer that can be checked, since the paper found that such models do
not render numbers faithfully. The answer is read by :mod:`salience.explain.words.free_text`; the first false or
uncheckable statement rejects it, and the template stands.
"""

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from salience.core.progress import Stage
from salience.explain.explanation import Explanation
from salience.explain.phrasing import clean, written
from salience.explain.words.endpoints import Endpoint, EndpointError, Reply
from salience.explain.words.free_text import DECIMALS, Problem, language, problems, read, scale
from salience.explain.words.sentences import Words

SHOWN = 400  # parts of the input that a question holds; of a longer one the strongest


@dataclass(frozen=True)
class Instructed:
    """What a language model wrote, if it was kept, or the template.

    Attributes:
        text: the answer, on one line; the template's text if none was kept.
        kept: whether a model's answer stands.
        reasons: why answers were rejected, of all attempts.
        words: the template; ``str`` adds its sentence on whether the explanation is true, which no model is asked for.
        answers: every answer as it came, cleaned; for the record.
        attempts: questions that were asked.
        seconds: time of it all.
    """

    text: str
    kept: bool
    reasons: tuple[Problem, ...]
    words: Words
    answers: tuple[str, ...]
    attempts: int
    seconds: float

    def __str__(self) -> str:
        kinds = ("truth", "unmeasured")
        truth = [s.text for s in self.words.sentences if any(c.kind in kinds for c in s.claims)]
        return " ".join([self.text, *truth]) if self.kept else self.text

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        reasons = [vars(reason) for reason in self.reasons]
        return {
            **vars(self),
            "reasons": reasons,
            "words": self.words.to_json(),
            "answers": list(self.answers),
        }


# -- the question --------------------------------------------------------------------------------------


def question(
    explanation: Explanation,
    *,
    input_name: str = "",
    model_name: str = "",
    shown: int = SHOWN,
    lang: str = "en",
) -> str:
    """Return the question that is asked about an explanation.

    Args:
        explanation: what is to be put into words.
        input_name: what the input is called, such as ``"Film review"``; by the kind of its columns if empty.
        model_name: what the model is called, such as ``"sentiment analyzer"``.
        shown: parts of the input that are listed at most, the strongest in their order; gaps are marked.
        lang: language of the texts.
    """
    texts, kind = language(lang), _kind(explanation)
    task = "value" if explanation.quantity in ("value", "log-probability") else "class"
    said = explanation.prediction
    names = {
        "input": clean(input_name) or texts["inputs"][kind],
        "model": clean(model_name) or texts["models"]["value" if task == "value" else kind],
        "label": clean(explanation.target),
        "scores": scored(explanation, shown),
        "prediction": ("−" if said < 0 else "") + written(said)
        if isinstance(said, float)
        else clean(str(said)),
    }
    return "\n".join([*(part.format(**names) for part in texts["parts"][task]), texts["answer"]])


def scored(explanation: Explanation, shown: int = SHOWN) -> str:
    """Return every part of the input with its score in parentheses; a part without a value has none."""
    values, whole = explanation.values, scale(explanation)
    size = [abs(v) if math.isfinite(v) else 0.0 for v in values]
    chosen = sorted(sorted(range(len(values)), key=lambda i: -size[i])[:shown])
    parts, before = [], -1
    for i in chosen:
        gap = ["[…]"] if i != before + 1 else []
        score = f" ({values[i] / whole:.{DECIMALS}f})" if math.isfinite(values[i]) else ""
        parts += [*gap, clean(explanation.units[i].label) + score]
        before = i
    return " ".join([*parts, "[…]"] if chosen and chosen[-1] != len(values) - 1 else parts)


def _kind(explanation: Explanation) -> str:
    kinds = {unit.kind for unit in explanation.units}
    if kinds <= {"number", "category"}:
        return "table"
    return kinds.pop() if len(kinds) == 1 else "mixed"


# -- the answer ----------------------------------------------------------------------------------------


def instructed(
    explanation: Explanation,
    endpoint: Endpoint,
    *,
    attempts: int = 1,
    seed: int = 0,
    lang: str = "en",
    **names: Any,
) -> Instructed:
    """Ask a language model for the words of an explanation, and check them.

    Args:
        explanation: what is to be put into words.
        endpoint: whom to ask; see :mod:`salience.explain.words.endpoints`.
        attempts: questions at most; each has another seed, and the first faithful answer is kept.
        seed: seed of the first question.
        lang: language of the question and of the word lists.
        names: ``input_name``, ``model_name`` and ``shown`` of :func:`question`.

    Returns:
        The answer if it is faithful, else the template. What goes wrong with the endpoint is a reason, not an error.
    """
    return _instructed(explanation, endpoint, None, attempts, seed, lang, names)[0]


def instructed_all(
    explanations: Sequence[Explanation],
    endpoint: Endpoint,
    *,
    attempts: int = 1,
    seed: int = 0,
    lang: str = "en",
    **names: Any,
) -> list[Instructed]:
    """Ask about many explanations, one after another; see :func:`instructed`.

    After a failure that every further question would meet (a refused key, a wrong address) no more is asked, and the
    rest keep their templates with the same reason.
    """
    results, lost = [], None
    with Stage("instruct", len(explanations)) as stage:
        for explanation in explanations:
            result, lost = _instructed(explanation, endpoint, lost, attempts, seed, lang, names)
            results.append(result)
            stage.step("kept" if result.kept else "template")
    return results


def rejections(results: Sequence[Instructed]) -> dict[str, int]:
    """Return how many answers were rejected for each kind of reason, most frequent first.

    An answer with several reasons counts once for each kind.
    """
    kinds = Counter(kind for result in results for kind in {reason.kind for reason in result.reasons})
    return dict(sorted(kinds.items(), key=lambda item: (-item[1], item[0])))


def _instructed(
    explanation: Explanation,
    endpoint: Endpoint,
    lost: Problem | None,
    attempts: int,
    seed: int,
    lang: str,
    names: dict[str, Any],
) -> tuple[Instructed, Problem | None]:
    """Return the result of one explanation, and why no more should be asked."""
    started, words = time.perf_counter(), explanation.words()
    idle = not any(v for v in explanation.values if math.isfinite(v))
    first = Problem("nothing to say", "no part has a value other than zero") if idle else lost
    reasons, answers, kept = [first] if first else [], [], False
    asked = 0
    while asked < attempts and not (kept or first or lost):
        asked += 1
        try:
            reply = endpoint.ask(question(explanation, lang=lang, **names), seed=seed + asked - 1)
        except EndpointError as error:
            reasons.append(Problem(error.reason))
            lost = Problem(error.reason, "not asked again") if error.hopeless else None
            continue
        answers.append(clean(reply.text))
        wrong = judged(reply, explanation, lang)
        reasons += wrong
        kept = not wrong
    text = answers[-1] if kept else str(words)
    seconds = time.perf_counter() - started
    return Instructed(text, kept, tuple(reasons), words, tuple(answers), asked, seconds), lost


def judged(reply: Reply, explanation: Explanation, lang: str = "en") -> list[Problem]:
    """Return what is wrong with an answer; empty if all of it is true."""
    if not clean(reply.text):
        return [Problem("empty")]
    cut = [] if reply.whole else [Problem("cut off", "the answer ends at the limit of tokens")]
    return cut + problems(read(reply.text, explanation, lang=lang), explanation)
