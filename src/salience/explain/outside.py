"""Explanations from outside: the short forms that other tools can write, and checks of whatever is read.

The form is documented in ``explanation.schema.json`` beside this file (JSON Schema, draft 2020-12). Besides the whole
form, which ``Explanation.to_json`` writes, there are two short ones: a text with its words, and a row with its cells.
"""

import math
import re
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from salience.core.errors import DataError, nearest

SCHEMA = Path(__file__).with_name("explanation.schema.json")
KINDS = ("text", "image", "number", "category")
QUANTITIES = ("log-odds", "value", "log-probability", "weight")
REQUIRED = ("units", "values", "inputs", "kinds", "method", "target", "quantity", "prediction")
MAX_UNITS = 100_000
MAX_TEXT = 10_000_000  # characters of a text, or of a picture as text
MAX_NUMBERS = 4_000_000  # of one array of evidence
PIECE_MARKS = ("##", "Ġ", "▁", "</w>")  # what tokenizers put to pieces of words
SPACE = re.compile(r"\s*")
UNKNOWN = {"row": 0, "probability": None, "output": None, "baseline_output": None, "baseline": "not stated"}

Data = Mapping[str, Any]


def whole(data: Any) -> dict[str, Any]:
    """Return checked data in the whole form.

    Args:
        data: the whole form; ``{"text", "words" | "offsets", "values", "target", "prediction"}``; or ``{"inputs",
            "values": {column: number}, "target", "prediction"}``.

    Raises:
        DataError: what is wrong, where, and how to mend it (SAL-D060).
    """
    if not isinstance(data, Mapping):
        raise wrong("the whole", f"{type(data).__name__}", "Give an object (a dictionary).")
    if "units" not in data:
        data = _from_text(data) if "text" in data else _from_cells(data)
    check(data)
    return UNKNOWN | dict(data)


def wrong(where: str, what: str, fix: str) -> DataError:
    """Return the error for data that are no explanation."""
    return DataError(
        f"The explanation cannot be read at {where}", what.rstrip(".") + ".", fix, code="SAL-D060"
    )


# -- short forms ---------------------------------------------------------------------------------------


def _from_text(data: Data) -> dict[str, Any]:
    _need(data, ("values", "target", "prediction"))
    text, column = data["text"], data.get("column", "text")
    _check_cell("text", text, "text")
    _check_type("column", column, str)
    _check_type("values", data["values"], list | tuple)
    if "offsets" in data:
        offsets = _list_of("offsets", data["offsets"], _is_span, "[start, stop]")
    elif "words" in data:
        offsets = _found(text, _list_of("words", data["words"], _is_word, "a text, or null"))
    else:
        raise wrong("words", "neither words nor offsets are given", "Give one of them, as many as values.")
    if len(offsets) != len(data["values"]):
        fix = "Give one value a word; null where a word has none."
        raise wrong("values", f"{len(data['values'])} values for {len(offsets)} words", fix)
    pairs = [(span, v) for span, v in zip(offsets, data["values"], strict=True) if span is not None]
    units = [
        {"column": column, "kind": "text", "label": text[max(0, a) : max(0, b)], "locator": [a, b]}
        for (a, b), _ in pairs
    ]
    return _filled(data, units, [v for _, v in pairs], {column: text}, {column: "text"})


def _is_span(item: Any) -> bool:
    return isinstance(item, list | tuple) and len(item) == 2 and all(map(_is_whole, item))


def _is_word(item: Any) -> bool:
    return item is None or isinstance(item, str)


def _found(text: str, words: Sequence[str | None]) -> list[tuple[int, int] | None]:
    """Return where each word is, each after the one before; None for a special token, which is null.

    Marks of word pieces (``##ness``, ``Ġgood``) are left out, and upper and lower case count as the same.
    """
    lowered = text.lower()
    low = lowered if len(lowered) == len(text) else text  # a few letters change their length
    spans: list[tuple[int, int] | None] = []
    start = 0
    for position, word in enumerate(words):
        if word is None or not word.strip():
            spans.append(None)
            continue
        piece = _bare(word).lower() if low is lowered else _bare(word)
        at = _next(low, piece, start)
        if at < 0:
            raise wrong(
                f"words[{position}]",
                f"{word!r} does not stand in the text after character {start}",
                "Give the words in the order of the text; null for special tokens; or give offsets.",
            )
        spans.append((at, at + len(piece)))
        start = at + len(piece)
    return spans


def _next(text: str, piece: str, start: int) -> int:
    """Return where a piece stands: right after the one before, or at the next beginning of a word; −1 for nowhere."""
    space = SPACE.match(text, start)
    here = space.end() if space else start
    if text.startswith(piece, here):
        return here
    at = text.find(piece, start)
    while at > 0 and text[at - 1].isalnum() and text[at].isalnum():
        at = text.find(piece, at + 1)
    return at


def _bare(word: str) -> str:
    piece = word.strip()
    for mark in PIECE_MARKS:
        piece = piece.removesuffix(mark) if mark.startswith("<") else piece.removeprefix(mark)
    return piece or word.strip()


def _from_cells(data: Data) -> dict[str, Any]:
    _need(data, ("inputs", "values", "target", "prediction"))
    _check_type("inputs", data["inputs"], Mapping)
    if not isinstance(data["values"], Mapping):
        fix = "Give values by column, {column: number}; or units with values; or a text with words."
        raise wrong("values", "no units are given, so that values have no place", fix)
    stray = [name for name in data["values"] if name not in data["inputs"]]
    if stray:
        raise wrong(f"values.{stray[0]}", "there is no such column", nearest(str(stray[0]), data["inputs"]))
    kinds = {n: "number" if _is_number(v) else "category" for n, v in data["inputs"].items()} | dict(
        data.get("kinds", {})
    )
    units = [
        {"column": n, "kind": kinds[n], "label": f"{n} = {data['inputs'][n]}", "locator": []}
        for n in data["values"]
    ]
    return _filled(data, units, list(data["values"].values()), dict(data["inputs"]), kinds)


def _filled(
    data: Data, units: list[dict[str, Any]], values: list[Any], inputs: dict[str, Any], kinds: dict[str, str]
) -> dict[str, Any]:
    """Return the whole form; what a short form does not say is unknown."""
    quantity = "value" if _is_number(data["prediction"]) else "log-odds"
    kept = {name: value for name, value in data.items() if name not in ("text", "words", "offsets", "column")}
    return {
        "method": "external",
        "quantity": quantity,
        **kept,
        "units": units,
        "values": values,
        "inputs": inputs,
        "kinds": kinds,
    }


# -- checks --------------------------------------------------------------------------------------------


def check(data: Data) -> None:
    """Check the whole form.

    Raises:
        DataError: the first thing that is wrong (SAL-D060).
    """
    _need(data, REQUIRED)
    for name in ("inputs", "kinds"):
        _check_type(name, data[name], Mapping)
    _check_columns(data)
    for name in ("units", "values"):
        _check_type(name, data[name], list | tuple)
    _check_count("units", data["units"])
    if len(data["units"]) != len(data["values"]):
        raise wrong(
            "values", f"{len(data['values'])} values for {len(data['units'])} units", "Give one value a unit."
        )
    for position, value in enumerate(data["values"]):
        _check_number(f"values[{position}]", value)
    for position, unit in enumerate(data["units"]):
        _check_unit(f"units[{position}]", unit, data)
    _check_answer(data)
    for name, array in _mapping("evidence", data.get("evidence")).items():
        _check_array(f"evidence.{name}", array)


def _need(data: Data, names: Sequence[str]) -> None:
    missing = [name for name in names if name not in data]
    if missing:
        fix = f"Give {', '.join(missing)}. explanation.schema.json describes the forms."
        raise wrong(missing[0], "it is missing", fix)


def _check_columns(data: Data) -> None:
    for name, kind in data["kinds"].items():
        if kind not in KINDS:
            raise wrong(f"kinds.{name}", f"unknown kind {kind!r}", nearest(str(kind), KINDS))
        if name not in data["inputs"]:
            raise wrong(
                f"inputs.{name}", "the column has a kind and no cell", "Give its cell, or leave it out."
            )
    for name, cell in data["inputs"].items():
        if name not in data["kinds"]:
            raise wrong(f"kinds.{name}", "the column has no kind", f"Give one of {', '.join(KINDS)}.")
        _check_cell(f"inputs.{name}", cell, data["kinds"][name])


def _check_cell(where: str, cell: Any, kind: str) -> None:
    if kind == "number":
        _check_number(where, cell)
    elif cell is None and kind != "text":
        return
    elif not isinstance(cell, str):
        raise wrong(where, f"{type(cell).__name__} in a column of kind {kind}", "Give text.")
    elif len(cell) > MAX_TEXT:
        raise wrong(where, f"{len(cell):,} characters, at most {MAX_TEXT:,} are read", "Give a part of it.")
    elif kind == "image" and not _is_picture(cell):
        raise wrong(where, f"{cell[:40]!r} is no picture", "Give a data URI: data:image/png;base64,….")


def _is_picture(cell: str) -> bool:
    try:
        return cell.startswith("data:image/") and bool(b64decode(cell.partition(",")[2], validate=True))
    except ValueError:
        return False


def _check_unit(where: str, unit: Any, data: Data) -> None:
    if not isinstance(unit, Mapping):
        raise wrong(where, f"{type(unit).__name__}", "Give an object with column, kind, label, locator.")
    for name, kind in (("column", str), ("kind", str), ("label", str), ("locator", list | tuple)):
        if name not in unit:
            raise wrong(f"{where}.{name}", "it is missing", "A unit has column, kind, label, locator.")
        _check_type(f"{where}.{name}", unit[name], kind)
    column = unit["column"]
    if column not in data["kinds"]:
        raise wrong(f"{where}.column", f"unknown column {column!r}", nearest(column, data["kinds"]))
    if unit["kind"] != data["kinds"][column]:
        found = f"{unit['kind']!r}, but the column {column!r} is of kind {data['kinds'][column]!r}"
        raise wrong(f"{where}.kind", found, "Give the kind of the column.")
    _check_locator(f"{where}.locator", unit["locator"], unit["kind"], data["inputs"][column])


def _check_locator(where: str, locator: Sequence[Any], kind: str, cell: Any) -> None:
    if kind == "text":
        if not _is_span(locator) or not 0 <= locator[0] < locator[1] <= len(cell):
            found = f"{list(locator)} in a text of {len(cell)} characters"
            raise wrong(where, found, "Give [start, stop], offsets in characters, start below stop.")
    elif kind == "image":
        if len(locator) != 4 or not all(map(_is_number, locator)) or not _is_box(*locator):
            fix = "Give [left, top, right, bottom] as fractions of width and height, in [0, 1]."
            raise wrong(where, f"{list(locator)[:6]}", fix)
    elif len(locator):
        raise wrong(where, f"{list(locator)[:6]} for a whole cell", "Give [].")


def _is_box(left: float, top: float, right: float, bottom: float) -> bool:
    return 0 <= left < right <= 1 and 0 <= top < bottom <= 1


def _check_answer(data: Data) -> None:
    for name in ("method", "target"):
        _check_type(name, data[name], str)
    if data["quantity"] not in QUANTITIES:
        raise wrong("quantity", f"unknown {data['quantity']!r}", nearest(str(data["quantity"]), QUANTITIES))
    if data["quantity"] == "log-odds":
        _check_type("prediction", data["prediction"], str)
    else:
        _check_number("prediction", data["prediction"], strings=True)
    for name in ("probability", "output", "baseline_output", "completeness_gap"):
        _check_number(name, data.get(name))
    probability = data.get("probability")
    if probability is not None and not 0 <= probability <= 1:
        raise wrong("probability", f"{probability} is none", "Give a number in [0, 1], or null.")
    for name in ("target_index", "against_index"):
        index = data.get(name)
        if index is not None and not (_is_whole(index) and index >= 0):
            raise wrong(name, f"{index!r}", "Give the position of the class among the outputs: 0, 1, ….")
    _mapping("faithfulness", data.get("faithfulness"))


def check_faithfulness(data: Data, known: Mapping[str, Any]) -> None:
    """Check a measurement of faithfulness.

    Args:
        data: what was read.
        known: type of each field.
    """
    _need(data, list(known))
    for name, kind in known.items():
        if kind in (int, float):
            _check_number(f"faithfulness.{name}", data[name])
    _check_type("faithfulness.interval", data["interval"], list | tuple)
    for end in data["interval"]:
        _check_number("faithfulness.interval", end)
    if len(data["interval"]) != 2:
        raise wrong(
            "faithfulness.interval", f"{len(data['interval'])} ends", "Give the lower and the upper end."
        )
    _mapping("faithfulness.log_odds", data["log_odds"])
    stray = [name for name in data if name not in known]
    if stray:
        raise wrong(f"faithfulness.{stray[0]}", "there is no such field", nearest(stray[0], known))


def _check_array(where: str, array: Any) -> None:
    """Check nested lists of numbers, all of one length on each axis."""
    level, counted = [array], 1
    while any(isinstance(item, list | tuple) for item in level):
        sizes = {len(item) if isinstance(item, list | tuple) else -1 for item in level}
        counted *= max(sizes)
        if len(sizes) > 1 or counted > MAX_NUMBERS:
            fix = "Give lists of equal lengths."
            raise wrong(where, f"ragged, or more than {MAX_NUMBERS:,} numbers", fix)
        level = [item for part in level for item in part]
    for item in level:
        _check_number(where, item)


def _mapping(where: str, value: Any) -> Mapping[str, Any]:
    if value is not None:
        _check_type(where, value, Mapping)
    return value or {}


def _check_number(where: str, value: Any, *, strings: bool = False) -> None:
    if value is None or (strings and isinstance(value, str)):
        return
    if not _is_number(value):
        raise wrong(where, f"{str(value)[:40]!r} is no number", "Give a number, or null where there is none.")
    if not math.isfinite(value):
        raise wrong(where, f"{value} is not finite", "Write null where the method says nothing.")


def _check_count(where: str, items: Sequence[Any]) -> None:
    if len(items) > MAX_UNITS:
        raise wrong(where, f"{len(items):,} entries, at most {MAX_UNITS:,} are read", "Join them to words.")


def _check_type(where: str, value: Any, kind: Any) -> None:
    if not isinstance(value, kind):
        names = {str: "text", Mapping: "an object"}
        raise wrong(
            where, f"{type(value).__name__}: {str(value)[:40]!r}", f"Give {names.get(kind, 'a list')}."
        )


def _list_of(where: str, items: Any, fits: Callable[[Any], bool], what: str) -> list[Any]:
    _check_type(where, items, list | tuple)
    _check_count(where, items)
    for position, item in enumerate(items):
        if not fits(item):
            raise wrong(f"{where}[{position}]", f"{str(item)[:40]!r}", f"Give {what}.")
    return list(items)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
