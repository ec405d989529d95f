"""Find methods by their cards, without importing them.

A method is one file with a literal ``CARD = {…}`` at its top. The registry walks the package, reads cards
from the syntax tree, and imports a file only when its method is asked for. Other packages add methods with
an entry point in the group ``salience.plugins`` that names a package to walk.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from salience.core.errors import ConfigError, nearest

REQUIRED = ("key", "kind", "title", "entry")
KINDS = (
    "encoder",
    "fusion",
    "head",
    "attention",
    "explainer",
    "check",
    "dataset",
    "reader",
    "benchmark",
    "reproduction",
    "language_model",
    "metric",
)


@dataclass(frozen=True)
class Card:
    """Describe one method: where it comes from, what it needs, what it promises.

    Attributes:
        module: dotted name of the file that holds the method.
        fields: the literal ``CARD`` of that file.
    """

    module: str
    fields: dict[str, Any]

    @property
    def key(self) -> str:
        """Short name, the same in file, command line, documentation and tests."""
        return self.fields["key"]

    @property
    def kind(self) -> str:
        """Family of the method, one of :data:`KINDS`."""
        return self.fields["kind"]

    def get(self, name: str, default: Any = None) -> Any:
        """Return one field of the card."""
        return self.fields.get(name, default)


def read_card(path: Path, module: str) -> Card | None:
    """Return the card of a file, or None if it has none. The file is parsed, never run.

    Raises:
        ConfigError: the file is not Python, or its card is not a literal dictionary with the required fields.
    """
    source = path.read_text(encoding="utf-8")
    if "CARD" not in source:
        return None
    try:
        value = next((v for v in map(_card_value, ast.parse(source).body) if v is not None), None)
        return None if value is None else _checked(ast.literal_eval(value), module)
    except SyntaxError as error:
        reason = f"{path}, line {error.lineno}: {error.msg}"
        raise ConfigError(f"{module} is not valid Python", reason, "Mend the syntax.") from None
    except ValueError:
        fix = "It is read without running the file: use plain values only."
        raise ConfigError(f"The card of {module} is not literal", str(path), fix) from None


def _card_value(node: ast.stmt) -> ast.expr | None:
    """Return what a statement assigns to ``CARD``."""
    if not isinstance(node, ast.Assign | ast.AnnAssign):
        return None
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    named = any(isinstance(target, ast.Name) and target.id == "CARD" for target in targets)
    return node.value if named else None


def _checked(fields: Any, module: str) -> Card:
    if not isinstance(fields, dict):
        raise ConfigError(f"The card of {module} is no dictionary", repr(fields), "Write CARD = {…}.")
    missing = [name for name in REQUIRED if name not in fields]
    if missing:
        raise ConfigError(
            f"The card of {module} is incomplete", f"Missing: {', '.join(missing)}.", "Add the fields."
        )
    if fields["kind"] not in KINDS:
        raise ConfigError(
            f"The card of {module} has an unknown kind", repr(fields["kind"]), nearest(fields["kind"], KINDS)
        )
    return Card(module, fields)


def _packages() -> Iterator[str]:
    yield "salience"
    for point in metadata.entry_points(group="salience.plugins"):
        yield point.value


def _files(package: str) -> Iterator[tuple[Path, str]]:
    try:
        spec = find_spec(package)
    except ModuleNotFoundError:
        spec = None
    if spec is None:
        raise ConfigError(
            f"The plug-in package {package!r} cannot be found", "", "Reinstall or uninstall it."
        )
    for folder in spec.submodule_search_locations or []:
        root = Path(folder)
        for path in sorted(root.rglob("*.py")):
            relative = path.relative_to(root).with_suffix("")
            if path.stem != "__init__" and "__pycache__" not in relative.parts:
                yield path, ".".join((package, *relative.parts))


@lru_cache(maxsize=1)
def _index() -> dict[tuple[str, str], Card]:
    index: dict[tuple[str, str], Card] = {}
    for package in _packages():
        for path, module in _files(package):
            card = read_card(path, module)
            if card is None:
                continue
            name = (card.kind, card.key)
            if name in index:
                raise ConfigError(
                    f"Two methods are called {card.key!r}",
                    f"{index[name].module} and {module}.",
                    "Rename one of them.",
                )
            index[name] = card
    return index


def cards(kind: str | None = None) -> list[Card]:
    """Return all cards, or those of one kind, sorted by kind and key."""
    return [card for (k, _), card in sorted(_index().items()) if kind is None or k == kind]


def card(kind: str, key: str) -> Card:
    """Return one card.

    Raises:
        ConfigError: no method of that kind has the name; the nearest name is suggested.
    """
    found = _index().get((kind, key))
    if found is None:
        names = [c.key for c in cards(kind)]
        raise ConfigError(f"Unknown {kind} {key!r}", "", nearest(key, names), code="SAL-C002")
    return found


def load(kind: str, key: str) -> Any:
    """Import a method's file and return its public class or function (``CARD["entry"]``)."""
    found = card(kind, key)
    return getattr(import_module(found.module), found.fields["entry"])
