"""``salience list``."""

from typing import Annotated

import typer

from salience.cli.answer import Answer
from salience.core.errors import ConfigError, nearest
from salience.core.registry import KINDS, Card, cards

EXAMPLES = ("salience list explainers", "salience list datasets", "salience list encoders --json")
MODELS = ("encoder", "fusion", "head", "language_model")


def plural(kind: str) -> str:
    """Return the word for several methods of a kind."""
    return {"benchmark": "benchmarks"}.get(kind, f"{kind}es" if kind.endswith("x") else f"{kind}s")


def command(
    kind: Annotated[
        str | None,
        typer.Argument(metavar="KIND", help=f"models, {', '.join(map(plural, KINDS))}. Default: everything."),
    ] = None,
) -> Answer:
    """List what there is, from the cards of the methods; nothing is imported."""
    from salience.cli.views import table

    found = select(kind)
    rows = [(card.kind, card.key, card.get("title"), _paper(card), _extras(card)) for card in found]
    data = [{"kind": c.kind, "key": c.key, "title": c.get("title"), "module": c.module} for c in found]
    title = f"{len(found)} {kind or 'methods and data sets'}"
    names = ("kind", "name", "title", "year", "needs")
    return Answer(data, [table(title, names, rows), "", "Read one card with: salience show NAME"])


def select(kind: str | None) -> list[Card]:
    """Return the cards of a kind given in the singular or plural; ``models`` means all slots of a model, and language models."""
    if kind is None:
        return cards()
    if kind.lower() in ("model", "models"):
        return [card for card in cards() if card.kind in MODELS]
    names = {plural(k): k for k in KINDS} | {k: k for k in KINDS}
    if kind.lower() not in names:
        valid = ["models", *map(plural, KINDS)]
        raise ConfigError(f"Unknown kind {kind!r}", "", nearest(kind, valid), code="SAL-C002")
    return cards(names[kind.lower()])


def _paper(card: Card) -> str:
    year = card.get("year")
    return str(year) if year else ""


def _extras(card: Card) -> str:
    return ", ".join(card.get("extras") or ())
