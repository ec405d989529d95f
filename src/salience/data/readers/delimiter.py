"""Find the character between the cells of a text table, and notice a wrong one."""

import csv
import io
from collections import Counter

from salience.core.errors import DataError

CANDIDATES = (",", "\t", ";", "|")
NAMES = {",": "a comma", "\t": "a tab", ";": "a semicolon", "|": "a bar"}
HEAD_CHARACTERS = 65_536
HEAD_ROWS = 200


def find_delimiter(text: str, name: str, asked: str | None = None) -> str:
    """Return the delimiter: the one asked for, or the one that gives header and rows the same width.

    Raises:
        DataError: the delimiter asked for, or that of the header, is not the one of the rows (SAL-D004).
    """
    if asked is not None:
        return _checked(text, name, asked)
    best = max(CANDIDATES, key=lambda candidate: _rank(text, candidate, name))
    header, share, _ = _widths(text, best)
    if header > 1 and share == 0.0:
        for other in CANDIDATES:
            _, _, common = _widths(text, other)
            if other != best and common[0] > 1 and common[1] >= 0.9 and len(_head_rows(text, best)) > 1:
                raise _wrong(
                    name, f"the header is separated by {NAMES[best]}, the rows by {NAMES[other]}", best, other
                )
    return best


def _rank(text: str, delimiter: str, name: str) -> tuple[bool, float, bool, int]:
    header, share, _ = _widths(text, delimiter)
    preferred = delimiter == ("\t" if name.lower().endswith((".tsv", ".tab")) else ",")
    return header > 1, share if header > 1 else 0.0, preferred, header


def _widths(text: str, delimiter: str) -> tuple[int, float, tuple[int, float]]:
    """Return the header's width, the share of rows of that width, and (width, share) of the commonest."""
    widths = [len(row) for row in _head_rows(text, delimiter)]
    if not widths:
        return 0, 0.0, (0, 0.0)
    body = widths[1:] or widths
    width, count = Counter(body).most_common(1)[0]
    return widths[0], body.count(widths[0]) / len(body), (width, count / len(body))


def _head_rows(text: str, delimiter: str) -> list[list[str]]:
    head = text[:HEAD_CHARACTERS]
    if len(text) > HEAD_CHARACTERS:
        head = head[: head.rfind("\n") + 1] or head
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(head, newline=""), delimiter=delimiter):
            if row:
                rows.append(row)
            if len(rows) > HEAD_ROWS:
                break
    except csv.Error:
        pass  # The strict reader names the place.
    return rows


def _checked(text: str, name: str, asked: str) -> str:
    asked = {"\\t": "\t", "tab": "\t"}.get(asked, asked)
    if len(asked) != 1 or asked in '\r\n"':
        raise DataError(
            f"{asked!r} cannot separate cells",
            f"{name}.",
            'Use one character, such as "," or ";" or "\\t".',
            code="SAL-D004",
        )
    if _widths(text, asked)[0] > 1:
        return asked
    for other in CANDIDATES:
        header, share, _ = _widths(text, other)
        if other != asked and header > 1 and share >= 0.9:
            raise _wrong(name, f"the cells are separated by {NAMES[other]}", asked, other)
    return asked


def _wrong(name: str, seen: str, asked: str, other: str) -> DataError:
    return DataError(
        f"{NAMES.get(asked, repr(asked))} does not separate the cells".capitalize(),
        f"{name}: {seen}.",
        f"Give the delimiter ({other!r}), or mend the header.",
        code="SAL-D004",
    )
