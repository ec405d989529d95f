"""``salience show``."""

from typing import Annotated, Any

import typer

from salience.cli.answer import Answer
from salience.core.errors import ConfigError, nearest
from salience.core.registry import Card, cards

EXAMPLES = ("salience show disan", "salience show clothing-reviews --json")
LABELS = {
    "summary": "what", "paper": "paper", "year": "year", "url": "link", "source": "source", "licence": "licence",
    "faithful": "as published", "deviates": "different", "kinds": "columns", "tasks": "tasks", "needs": "needs",
    "extras": "extras", "cost": "cost", "defaults": "defaults",
}  # fmt: skip
HIDDEN = {"key", "kind", "title", "entry", "tiny"}


def command(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of a method or data set (salience list).")
    ],
) -> Answer:
    """Show where a method comes from, what it needs and where it differs from the paper."""
    found = find(name)
    data = [{"module": card.module, **card.fields} for card in found]
    view = [part for card in found for part in _view(card)]
    return Answer(data[0] if len(data) == 1 else data, view)


def find(name: str) -> list[Card]:
    """Return the cards called ``name``; the same name may stand for a method of two kinds."""
    everything = cards()
    found = [card for card in everything if card.key == name]
    if not found:
        keys = {card.key for card in everything}
        raise ConfigError(f"Nothing is called {name!r}", "", nearest(name, keys), code="SAL-C002")
    return found


def _view(card: Card) -> list[Any]:
    from rich.table import Table
    from rich.text import Text

    rows = Table(box=None, show_header=False, pad_edge=False)
    rows.add_column(style="dim")
    rows.add_column()
    ordered = [*LABELS, *(name for name in card.fields if name not in LABELS)]
    for name in ordered:
        value = card.get(name)
        if value not in (None, "", (), [], {}) and name not in HIDDEN:
            rows.add_row(Text(LABELS.get(name, name)), Text(_text(value)))
    rows.add_row(Text("file"), Text(card.module))
    return [Text(f"{card.key}: {card.get('title')} ({card.kind})", style="bold"), rows, ""]


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} = {_text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        separator = "\n" if any(len(str(item)) > 30 for item in value) else ", "
        return separator.join(_text(item) for item in value)
    return str(value)
