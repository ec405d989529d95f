"""Reproduction: saliency maps put into words, measured without people, beside the published figures."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from salience.core.errors import ConfigError
from salience.core.io import read_json, write_json
from salience.core.progress import Stage
from salience.data.datasets.download import cache_folder
from salience.explain.explanation import Explanation
from salience.explain.words import Words, check, parse, verbalize
from salience.explain.words import representations as forms
from salience.explain.words.accuracy import read_back
from salience.explain.words.endpoints import ChatEndpoint, Endpoint, EndpointError, Reply
from salience.explain.words.evaluation import Measured, measure, summary
from salience.explain.words.instruct import Instructed, instructed_all, rejections
from salience.explain.words.simulatability import STUDENTS, simulate
from salience.reproduce.smv_sets import explained, of_each_kind, restored

CARD = {
    "key": "smv",
    "kind": "reproduction",
    "title": "Saliency maps put into words: what they cover, whether they are true, and what a student learns from them",
    "entry": "run",
    "summary": "Explanations of three text classifiers as heat map, rationale, sentences and a language model's text: coverage@k beside the published means, truth of every claim, sentences read back for each kind of unit, and how often a student guesses the model's answer.",
    "paper": "Saliency Map Verbalization: Comparing Feature Importance Representations from Model-free and Instruction-based Methods (Feldhus et al., NLRSE 2023)",
    "year": 2023,
    "url": "https://arxiv.org/abs/2210.07222",
    "deviates": "small classifiers trained here, on short reviews and a part of AG News, in place of fine-tuned BERT; integrated gradients of words in place of word pieces; random test rows in place of 80 and 120 chosen ones; a student in place of people; our sentences in place of the authors'. Published figures belong to other models and rows and are no target.",
    "cost": "about a quarter of an hour on two cores, trainings are kept; quick: two minutes",
}
DEFAULT_DATA = Path("../shared/data")
FULL: dict[str, Any] = {"sets": ("imdb", "ag_news", "trec"), "train": 4000, "epochs": None, "rows": 200, "told": 1000, "asked": 50}  # fmt: skip
QUICK: dict[str, Any] = {
    "sets": ("imdb", "ag_news"),
    "train": 800,
    "epochs": 3,
    "rows": 60,
    "told": 60,
    "asked": 4,
}
# Means of coverage@1 … @10 that the authors' files give, on their models and rows. Their templates are short sentences
# like our style "study"; our plain sentences have no published counterpart.
PUBLISHED = {
    ("imdb", "study"): (0.213, 0.280, 0.315, 0.337, 0.353, 0.360, 0.369, 0.379, 0.387, 0.391),
    ("imdb", "instructed"): (0.168, 0.227, 0.254, 0.280, 0.296, 0.309, 0.318, 0.329, 0.337, 0.344),
    ("ag_news", "study"): (0.345, 0.439, 0.492, 0.526, 0.544, 0.552, 0.554, 0.556, 0.558, 0.560),
}
# Share of answers that people guessed right from explanations, as published
PEOPLE = {
    ("imdb", "heat map"): 0.9075, ("imdb", "rationale"): 0.8594, ("imdb", "study"): 0.8750, ("imdb", "instructed"): 0.9406,
    ("ag_news", "heat map"): 0.7983, ("ag_news", "study"): 0.7950, ("ag_news", "instructed"): 0.7760,
}  # fmt: skip
NOT_MEASURED = "not measured"


def run(
    data: Path | None = None, quick: bool = False, seed: int = 0, endpoint: str = "", model: str = ""
) -> dict[str, Any]:
    """Measure explanations in words.

    Trainings, explanations and answers of a language model are kept in the cache folder (``SALIENCE_CACHE``).

    Args:
        data: folder with ``imdb``, ``ag_news``, ``trec`` and ``adult``.
        quick: two sets, fewer rows, short trainings.
        seed: seed of everything.
        endpoint: address of a server that speaks the OpenAI chat protocol; without it only answers that were kept are
            used, and where there are none the row says so.
        model: name of the model on that server.

    Returns:
        ``rows`` of seven parts: ``classifier`` (accuracy), ``coverage`` (coverage@k by word, by place, and published),
        ``text`` (precision, truth of claims, length, reading ease), ``instructed`` (kept and why not), ``read back``
        (sentences of each kind of unit), ``student`` (accuracy by representation, with controls, chance and what people
        reached), ``pair`` (paired tests between representations); a ``summary``.

    Raises:
        DataError: a file is absent.
    """
    plan, root = QUICK if quick else FULL, Path(data) if data else DEFAULT_DATA
    folder = cache_folder() / "reproduce" / "smv"
    asked = Remembered(_endpoint(endpoint, model), folder / "answers.json")
    rows: list[dict[str, Any]] = []
    kinds = of_each_kind(root, plan["told"], seed)
    with Stage("reproduce", len(plan["sets"]) + len(kinds)) as stage:
        for name in plan["sets"]:
            found = explained(root, name, plan, seed, folder)
            rows += set_rows(name, found, asked, plan["asked"], seed)
            stage.step(f"{name}, accuracy {found['accuracy']:.3f}")
        for kind, make in kinds.items():
            rows.append(read_back_row(kind, make()))
            stage.step(f"read back: {kind}")
    return {"rows": rows, "summary": _summary(rows), "gap": CARD["deviates"]}


# -- a language model whose answers are kept -----------------------------------------------------------


def _endpoint(url: str, model: str) -> Endpoint | None:
    if url and not model:
        raise ConfigError("The endpoint needs the name of a model", url, "Give --model.")
    return ChatEndpoint(url, model) if url else None


class Remembered:
    """Answer from what was answered before, else ask and remember.

    Args:
        endpoint: whom to ask; nobody if None.
        path: file of the answers, by question and seed.
    """

    def __init__(self, endpoint: Endpoint | None, path: Path) -> None:
        self.endpoint, self.path = endpoint, path
        self.answers: dict[str, list[Any]] = read_json(path) if path.exists() else {}

    def ask(self, prompt: str, *, seed: int = 0) -> Reply:
        """Return the answer.

        Raises:
            EndpointError: nobody can be asked, or there is no answer.
        """
        key = f"{seed} {prompt}"
        if key not in self.answers:
            if self.endpoint is None:
                raise EndpointError(NOT_MEASURED)
            reply = self.endpoint.ask(prompt, seed=seed)
            self.answers[key] = [reply.text, reply.whole]
            write_json(self.path, self.answers)
        return Reply(*self.answers[key])


# -- rows ----------------------------------------------------------------------------------------------


def set_rows(
    name: str, found: dict[str, Any], asked: Endpoint, limit: int, seed: int = 0
) -> list[dict[str, Any]]:
    """Return all rows of one text set.

    Args:
        name: of the set.
        found: accuracy, classes and explanations, as :func:`salience.reproduce.smv_sets.explained` gives them.
        asked: whom to ask for instructed text.
        limit: explanations that it is asked for.
        seed: seed of controls, folds and intervals.
    """
    explanations = restored(found)
    instructed = instructed_all(explanations[:limit], asked, seed=seed)
    answered = [(e, i) for e, i in zip(explanations, instructed, strict=False) if i.answers]
    texts: dict[str, list[tuple[str | Words, Explanation]]] = {
        "template": [(e.words(), e) for e in explanations],
        "study": [(verbalize(e, style="study"), e) for e in explanations],
        "instructed": [(i.text if i.kept else i.words, e) for e, i in answered],
        "instructed, unchecked": [(i.answers[0], e) for e, i in answered],
    }
    rows = [_classifier_row(name, found, explanations)]
    for kind, pairs in texts.items():
        measured = [measure(text, e) for text, e in pairs]
        rows += [*coverage_rows(name, kind, measured, seed), text_row(name, kind, measured, seed)]
    rows.append(instructed_row(name, instructed))
    return rows + student_rows(name, found["classes"], explanations, answered, seed)


def _classifier_row(name: str, found: dict[str, Any], explanations: list[Explanation]) -> dict[str, Any]:
    return {
        "part": "classifier", "data": name, "value": found["accuracy"], "unit": "accuracy",
        "rows": len(explanations), "seconds": round(found["seconds"], 1),
    }  # fmt: skip


def coverage_rows(name: str, kind: str, measured: Sequence[Measured], seed: int = 0) -> list[dict[str, Any]]:
    """Return coverage@k of one form of text, k = 1 … 10, by word and by place, beside the published mean."""
    means = summary(measured, seed=seed)
    published = PUBLISHED.get((name, kind))
    if not measured:
        return []
    rows = []
    for k in range(1, 11):
        value, low, high = means[f"coverage@{k}"]
        rows.append(
            {
                "part": "coverage", "data": name, "name": kind, "k": k, "value": value, "low": low, "high": high,
                "by_place": means[f"coverage by place@{k}"][0], "published": published[k - 1] if published else None,
                "rows": len(measured),
            }
        )  # fmt: skip
    return rows


def text_row(name: str, kind: str, measured: Sequence[Measured], seed: int = 0) -> dict[str, Any]:
    """Return precision, truth, length and reading ease of one form of text."""
    row = {"part": "text", "data": name, "name": kind, "rows": len(measured)}
    if not measured:
        return {**row, "note": NOT_MEASURED}
    means = summary(measured, seed=seed)
    wanted = ("quotes", "quote precision", "sign", "rank", "value", "hallucinations", "uncheckable", "words", "reading ease")  # fmt: skip
    return row | {column.replace(" ", "_"): means[column][0] for column in wanted}


def instructed_row(name: str, results: Sequence[Instructed]) -> dict[str, Any]:
    """Return how many answers of a language model were kept, and why the others were not."""
    row = {"part": "instructed", "data": name, "rows": sum(bool(r.answers) for r in results)}
    if not row["rows"]:
        return {**row, "note": NOT_MEASURED}
    asked = [result for result in results if result.answers]
    reasons = ", ".join(f"{kind} {count}" for kind, count in rejections(asked).items())
    return {**row, "value": float(np.mean([r.kept for r in asked])), "unit": "kept", "note": reasons}


def read_back_row(kind: str, explanations: Sequence[Explanation]) -> dict[str, Any]:
    """Return what sentences about a kind of unit say when the text alone is read.

    ``value`` is the share of explanations of which every claim is read back and holds; ``sign rank number share`` are
    accuracies of the parts that are named, ``hallucinations`` the share of parts that are not in the row, ``coverage``
    the mean share of the evidence that is named, ``covered`` the share that reaches half of it or says that it does not.
    """
    whole = [_holds(explanation) for explanation in explanations]
    found = read_back(explanations)
    row = {"part": "read back", "name": kind, "value": float(np.mean(whole)), "rows": len(whole)}
    names = ("parts", "sign", "rank", "share", "hallucinations", "coverage", "covered")
    return row | {"number": found["value"]} | {name: found[name] for name in names}


def _holds(explanation: Explanation) -> bool:
    words = explanation.words()
    same = parse(str(words)) == [claim.said() for claim in words.claims]
    return same and not check(words, explanation)


# -- the student ---------------------------------------------------------------------------------------

Shown = list[forms.Shown]


def shown_forms(explanations: Sequence[Explanation], classes: Sequence[str], seed: int) -> dict[str, Shown]:
    """Return the forms that need no language model, and two controls, with the names of classes masked."""
    mask = forms.Mask(classes)
    made: dict[str, Callable[[Explanation], forms.Shown]] = {
        "heat map": forms.heat_map,
        "rationale": forms.rationale,
        "template": lambda e: forms.sentences(e.words()),
        "study": lambda e: forms.sentences(verbalize(e, style="study")),
        "random explanation": lambda e: forms.sentences(forms.shuffled(e, seed=seed).words()),
        "masked text alone": forms.whole_text,
    }
    return {name: [mask.shown(make(e)) for e in explanations] for name, make in made.items()}


def student_rows(
    name: str,
    classes: Sequence[str],
    explanations: Sequence[Explanation],
    answered: Sequence[tuple[Explanation, Instructed]],
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return how often a student guesses the model's answer, for each student and with and without sides.

    Instructed text is compared on the rows that have an answer, with all other forms on the same rows; a rejected answer
    shows the template, as a reader would see it.
    """
    rows = _simulated(name, "", explanations, shown_forms(explanations, classes, seed), seed)
    some = [e for e, _ in answered]
    mask, shown = forms.Mask(classes), shown_forms(some, classes, seed)
    shown["instructed"] = [
        mask.shown(forms.free_text(i.text, e) if i.kept else forms.sentences(i.words)) for e, i in answered
    ]
    shown["instructed, unchecked"] = [mask.shown(forms.free_text(i.answers[0], e)) for e, i in answered]
    return rows + _simulated(name, "asked rows", some, shown, seed)


def _simulated(
    name: str, subset: str, explanations: Sequence[Explanation], shown: dict[str, Shown], seed: int
) -> list[dict[str, Any]]:
    answers = [str(e.prediction) for e in explanations]
    inputs = [str(e.inputs) for e in explanations]
    rows: list[dict[str, Any]] = []
    if len(set(answers)) < 2 or len(set(inputs)) < 2:  # there is nothing to guess
        absent = {"part": "student", "data": name, "subset": subset, "note": NOT_MEASURED}
        return [{**absent, "name": form, "people": PEOPLE.get((name, form))} for form in shown]
    for student in STUDENTS:
        for sides in (True, False):
            found = simulate(shown, answers, inputs, student=student, sides=sides, seed=seed)
            where = {"data": name, "subset": subset, "student": student, "sides": sides}
            rows += [
                {
                    "part": "student",
                    **where,
                    **row,
                    "chance": found.chance,
                    "people": PEOPLE.get((name, row["name"])),
                }
                for row in found.rows
            ]
            rows += [{"part": "pair", **where, **pair} for pair in found.pairs]
    return rows


def _summary(rows: list[dict[str, Any]]) -> dict[str, str]:
    found = {}
    for row in rows:
        if (
            row["part"] == "student"
            and row.get("student") == STUDENTS[0]
            and row["sides"]
            and not row["subset"]
        ):
            line = f"{row['name']} {100 * row['accuracy']:.0f} % ({100 * row['low']:.0f} to {100 * row['high']:.0f})"
            key = f"student, {row['data']} (chance {100 * row['chance']:.0f} %)"
            found[key] = f"{found[key]}, {line}" if key in found else line
        if row["part"] == "text" and "note" not in row:
            found[f"{row['name']}, {row['data']}"] = (
                f"{row['words']:.0f} words, reading ease {row['reading_ease']:.0f}, quotes {100 * row['quote_precision']:.0f} % in the input, "
                f"sign {row['sign']:.2f}, rank {row['rank']:.2f}, value {row['value']:.2f}, hallucinations {row['hallucinations']:.2f}"
            )
        if row["part"] == "read back":
            found[f"read back, {row['name']}"] = f"{100 * row['value']:.1f} % of {row['rows']}"
    return found
