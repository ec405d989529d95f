"""``salience clean``."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path, PurePath
from typing import Annotated, Any

import typer

from salience.cli.answer import Answer
from salience.cli.commands.lm import Column, Encoding, Separator
from salience.cli.options import Seed, Set, TimeLimit, unescaped
from salience.core.config import build, merge, parse_assignments

EXAMPLES = (
    "salience clean corpus.jsonl",
    "salience clean books --separator '\\n\\n' --rounds 0 --dry-run",
    "salience clean corpus.txt --skip lines --set similarity=0.9 --set judge.training.steps=500",
)
JUDGE = {
    "training": {"epochs": 2, "patience": 100}
}  # seen twice: enough to know the common, not to learn by heart
WATCHED = 64  # documents whose score decides which weights of the judge are kept


def command(
    corpus: Annotated[
        str,
        typer.Argument(
            metavar="CORPUS", help="Text, JSON lines or Parquet, also compressed, or a folder of them."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the result. Default: cleaned/NAME.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be dropped; write nothing.")
    ] = False,
    rounds: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Rounds of the judge model; 0 for none. Default: 1."),
    ] = None,
    skip: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Leave out a rule or step. May be repeated.")
    ] = None,
    separator: Separator = None,
    column: Column = None,
    encoding: Encoding = None,
    time_limit: TimeLimit = None,
    seed: Seed = None,
    assignments: Set = None,
) -> Answer:
    """Clean a corpus for a language model, and say what was dropped and why.

    Rules mend or drop documents; near copies of documents and lines that many documents share are dropped; then a
    small judge model is trained on all that is left, and documents that it finds far too surprising are dropped.
    --set sets any threshold, or an option of the judge (judge.preset=small). The same seed gives the same result.
    """  # fmt: skip
    from salience.data.cleaning.pipeline import clean
    from salience.data.corpus import Reading, describe, documents

    config, judge = _options(assignments or (), rounds=rounds, skip=skip, seed=seed)
    name = describe(corpus)
    folder = None if dry_run else out or Path("cleaned") / PurePath(name).name.split(".")[0]
    reading = Reading(column, unescaped(separator), encoding)
    train = _Judge(judge, config.seed, time_limit) if config.rounds else None
    cleaning = clean(documents(corpus, reading), folder, config, train)
    files = _write(cleaning, folder, name) if folder else {}
    return Answer({"files": files, **cleaning.to_json()}, _view(cleaning, files))


def _options(assignments: Sequence[str], **named: Any) -> tuple[Any, dict[str, Any]]:
    """Return the options of cleaning and those of the judge."""
    from salience.data.cleaning.config import CleaningConfig

    values = parse_assignments(list(assignments))
    judge = values.pop("judge", {})
    given = {key: value for key, value in named.items() if value is not None}
    return build(CleaningConfig, merge(asdict(CleaningConfig()), given, values)), merge(JUDGE, judge)


class _Judge:
    """Train a language model on all documents, and score texts with it."""

    def __init__(self, options: dict[str, Any], seed: int, time_limit: float | None) -> None:
        self.options, self.seed, self.time_limit = options, seed, time_limit
        self._build()  # wrong options are told before the long work starts

    def _build(self) -> Any:
        from salience.language import LanguageModel

        return LanguageModel(**{"seed": self.seed, "time_limit": self.time_limit, **self.options})

    def __call__(self, path: Path, round_: int) -> Any:
        from salience.data.corpus import documents

        watched = [document.text for document in islice(documents(path), WATCHED)]
        return self._build().fit(path, validation=watched, cache=path.parent).log_probabilities


def _write(cleaning: Any, folder: Path, name: str) -> dict[str, Path]:
    from salience.core.io import atomic_write_text, write_json
    from salience.report.cleaning import render

    return {
        "corpus": folder / "corpus.jsonl",
        "dropped": folder / "dropped.jsonl",
        "report": atomic_write_text(folder / "report.html", render(cleaning, name)),
        "data": write_json(folder / "report.json", cleaning.to_json()),
    }


def _view(cleaning: Any, files: dict[str, Path]) -> list[Any]:
    from salience.cli.views import findings_table, records_table

    reasons = [
        {"rule or step": r["rule"], "mended": r["documents mended"], "places": r["places"], "dropped": r["documents dropped"]}
        for r in cleaning.reasons()
    ]  # fmt: skip
    busy = [r for r in reasons if r["mended"] or r["dropped"]]
    parts = [records_table("Documents by rule and step", busy), ""] if busy else []
    parts += [findings_table(cleaning.findings()), ""]
    parts += [f"{name.capitalize()}: {path}" for name, path in files.items()]
    return parts if files else [*parts, "Nothing was written (--dry-run)."]
