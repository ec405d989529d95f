"""What every method must do, whatever its family: a whole card, an entry that imports, a docstring that tells.

:func:`check_method` runs these checks and then those of the method's family. It is what ``salience check`` calls,
so a method from another package is held to the same rules as ours.
"""

import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from salience.core.errors import ConfigError, SalienceError, nearest
from salience.core.extras import EXTRAS
from salience.core.registry import Card, cards, read_card

KEY = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
LONGEST_KEY = 32
TYPES: dict[str, type | tuple[type, ...]] = {
    "title": str, "summary": str, "paper": str, "year": int, "url": str, "source": str, "licence": str,
    "faithful": (str, list), "deviates": (str, list), "kinds": list, "tasks": list, "extras": list,
    "cost": (str, dict), "defaults": dict, "tiny": dict,
}  # fmt: skip
EXPLAINER_FIELDS = ("needs", "complete", "signed", "exact_linear", "kinds", "tasks")
Check = Callable[[Card, Any], None]


@dataclass(frozen=True)
class Result:
    """Say whether a method passed one check; ``message`` tells what to mend if not."""

    check: str
    passed: bool
    message: str = ""


def check_method(name: str) -> tuple[Card, list[Result]]:
    """Check one method.

    Args:
        name: the key of a registered method, a dotted module name, or the path of a Python file.

    Returns:
        Its card, and one result a check. The checks of the family run only if those of the card pass.

    Raises:
        ConfigError: there is no such method, or the file has no readable card.
    """
    card, module = find_method(name)
    results = [_result(check, card, None) for check in CARD_CHECKS]
    if module is None and all(result.passed for result in results):
        module = _imported(lambda: import_module(card.module), results)
    if module is None or not all(result.passed for result in results):
        return card, results
    results += [_result(check, card, module) for check in ENTRY_CHECKS]
    if all(result.passed for result in results):
        results += family_results(card, getattr(module, card.fields["entry"]))
    return card, results


def find_method(name: str) -> tuple[Card, ModuleType | None]:
    """Return the card that ``name`` means, and its module if it had to be loaded from a path."""
    if name.endswith(".py"):
        return _from_path(Path(name))
    if "." in name:
        return _from_module(name), None
    found = [card for card in cards() if card.key == name]
    if not found:
        keys = [card.key for card in cards()]
        raise ConfigError(f"Nothing is called {name!r}", "", nearest(name, keys), code="SAL-C002")
    return found[0], None


def _from_path(path: Path) -> tuple[Card, ModuleType]:
    if not path.is_file():
        raise ConfigError(f"There is no file {path}", "", "Give the path of a Python file, or a module name.")
    card = _read(path, path.stem)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is not a Python file", "", "Give the path of a .py file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(
            f"{path} cannot be imported", f"{type(error).__name__}: {error}", "Mend it."
        ) from None
    return card, module


def _from_module(name: str) -> Card:
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        raise ConfigError(f"There is no module {name!r}", "", "Is its package installed in this environment?")
    return _read(Path(spec.origin), name)


def _read(path: Path, module: str) -> Card:
    card = read_card(path, module)
    if card is None:
        raise ConfigError(f"{path} has no card", "", "Write CARD = {…} at its top; see CONTRIBUTING.")
    return card


def _imported(load: Callable[[], ModuleType], results: list[Result]) -> ModuleType | None:
    try:
        module = load()
    except Exception as error:
        results.append(Result("the file imports", False, f"{type(error).__name__}: {error}"))
        return None
    results.append(Result("the file imports", True))
    return module


def _result(check: Check, card: Card, subject: Any) -> Result:
    name = check.__name__.removeprefix("check_").replace("_", " ")
    try:
        check(card, subject)
    except SalienceError as error:
        return Result(name, False, str(error))
    except AssertionError as error:
        return Result(name, False, str(error) or "failed without a message")
    except Exception as error:
        return Result(name, False, f"{type(error).__name__}: {error}")
    return Result(name, True)


def check_key_is_short_and_plain(card: Card, _: Any) -> None:
    """Require a key that can be typed: lower case, digits, ``_`` or ``-``, at most 32 characters."""
    assert KEY.fullmatch(card.key), f"{card.key!r} must be lower case words joined by _ or -"
    assert len(card.key) <= LONGEST_KEY, (
        f"{card.key!r} has {len(card.key)} characters, more than {LONGEST_KEY}"
    )


def check_key_is_unique(card: Card, _: Any) -> None:
    """Require that no other file has the same kind and key."""
    others = [c.module for c in cards(card.kind) if c.key == card.key and c.module != card.module]
    ours = [module for module in others if not module.endswith(f".{card.module}")]
    assert not ours, f"{ours[0]} is also called {card.key!r}"


def check_fields_have_the_right_type(card: Card, _: Any) -> None:
    """Require the documented type of each known field."""
    for name, wanted in TYPES.items():
        value = card.get(name)
        assert value is None or isinstance(value, wanted), f"{name} is {value!r}, want {wanted}"


def check_title_says_something(card: Card, _: Any) -> None:
    """Require a title that is more than the key."""
    assert len(card.fields["title"].strip()) >= 4, "the title is too short to tell what it is"


def check_source_is_named(card: Card, _: Any) -> None:
    """Require that a published method says what it follows, and data under which licence they come."""
    if card.get("paper"):
        assert card.get("year"), "paper without year"
        told = card.kind == "dataset" or card.get("faithful") or card.get("deviates")
        assert told, "say what is faithful to the paper and what deviates"
    if card.kind == "dataset":
        assert card.get("licence"), "a data set needs its licence"


def check_extras_are_known(card: Card, _: Any) -> None:
    """Require that the extras it needs exist."""
    known = {extra for _, _, extra in EXTRAS.values()}
    unknown = set(card.get("extras") or ()) - known
    assert not unknown, f"unknown extras {sorted(unknown)}; known: {sorted(known)}"


def check_entry_exists(card: Card, module: Any) -> None:
    """Require the public class or function that the card names."""
    entry = card.fields["entry"]
    assert not entry.startswith("_"), f"entry {entry!r} must be public"
    assert callable(getattr(module, entry, None)), f"{card.module} has no class or function {entry!r}"


def check_docstring_tells(card: Card, module: Any) -> None:
    """Require a docstring with a first line that ends like a sentence, on the file and on its entry."""
    entry = getattr(module, card.fields["entry"])
    for where, text in (("the file", module.__doc__), (card.fields["entry"], inspect.getdoc(entry))):
        first = (text or "").strip().split("\n\n")[0].strip()
        assert len(first) > 10, f"{where} needs a docstring that says what it does"
        assert first.endswith((".", ":", "?", "!")), (
            f"the first paragraph of the docstring of {where} is no sentence"
        )


CARD_CHECKS: tuple[Check, ...] = (
    check_key_is_short_and_plain,
    check_key_is_unique,
    check_fields_have_the_right_type,
    check_title_says_something,
    check_source_is_named,
    check_extras_are_known,
)
ENTRY_CHECKS: tuple[Check, ...] = (check_entry_exists, check_docstring_tells)


def family_results(card: Card, entry: Any) -> list[Result]:
    """Run the checks of the method's family on its entry."""
    return [_result(check, card, entry) for check in family_checks(card)]


def family_checks(card: Card) -> Iterator[Check]:
    """Return the conformance checks of a card's family, from ``salience.testing.<kind>s``; none if it has none."""
    if card.kind == "explainer":
        yield from _explainer_checks(card)
        return
    name = f"salience.testing.{card.kind}s"
    if importlib.util.find_spec(name) is not None:
        family = import_module(name)
        yield from family.checks_for(card) if hasattr(family, "checks_for") else family.CHECKS


def check_explainer_fields_are_there(card: Card, _: Any) -> None:
    """Require the fields that say how an explainer may be used and tested."""
    missing = [name for name in EXPLAINER_FIELDS if name not in card.fields]
    assert not missing, f"the card lacks {', '.join(missing)}"


def _explainer_checks(card: Card) -> Iterator[Check]:
    from salience.testing import explainers

    yield check_explainer_fields_are_there
    if any(name not in card.fields for name in EXPLAINER_FIELDS):
        return
    for name in explainers.checks_for(card.fields):

        def check(card: Card, entry: Any, name: str = name) -> None:
            explainers.CHECKS[name](entry(), card.fields)

        check.__name__ = f"check_{name}"
        yield check
