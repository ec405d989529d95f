"""Which parts of a text are Markdown or LaTeX, so that rules leave them as they are.

Every pattern has a bound and stops at the next opening of its kind, so that a text of unclosed openings does not cost
quadratic time.
"""

import re
from collections.abc import Callable

_PARTS = (
    r"^[ ]{0,3}(?P<fence>`{3,20}|~{3,20})[^\n]*\n[\s\S]{0,100000}?(?:^[ ]{0,3}(?P=fence)[`~]*[ \t]*$|\Z)",  # fenced code
    r"`[^`\n]{1,500}`",  # inline code
    r"!?\[[^\]\n]{0,500}\]\([^()\s]{0,2000}(?:[ ]+\"[^\"\n]{0,500}\")?\)",  # links and pictures
    r"^[ ]{0,3}\[[^\]\n]{1,200}\]:[ \t]*\S{1,2000}[^\n]{0,500}$",  # where a link's name leads
    r"\\begin\{(?P<environment>\w{1,40}\*?)\}(?:(?!\\begin\{(?P=environment)\})[\s\S]){0,20000}?\\end\{(?P=environment)\}",
    r"\$\$[^$]{1,4000}\$\$",
    r"(?<![\\$\w])\$(?=[^\s$])(?=[^\w$\n]{0,400}\w)[^$\n]{1,400}(?<=\S)\$(?!\d)",  # as pandoc: two prices are no formula
    r"\\\((?:(?!\\\()[\s\S]){1,2000}?\\\)",
    r"\\\[(?:(?!\\\[)[\s\S]){1,4000}?\\\]",
    r"\\[A-Za-z]{1,40}\*?(?:\[[^\]\n]{0,500}\]){0,3}(?:\{[^{}\n]{0,2000}\}){0,6}",  # LaTeX commands
    r"^[ \t]{0,8}[-=*_~+|:#](?:[ \t]?[-=*_~+|:#]){2,200}[ \t]*$",  # rules, underlines and table lines
    r"^#{1,6}(?=[ \t])|(?<=[ \t])#{2,40}[ \t]*$",  # headings
)
PROTECTED = re.compile("|".join(f"(?:{part})" for part in _PARTS), re.MULTILINE)


def spans(text: str) -> list[tuple[int, int]]:
    """Return start and end of each piece of Markdown or LaTeX, in order."""
    return [match.span() for match in PROTECTED.finditer(text)]


def outside(text: str, change: Callable[[str], tuple[str, int]]) -> tuple[str, int]:
    """Apply a change to the parts between Markdown and LaTeX.

    Args:
        text: the whole text.
        change: maps a part to its new form and the number of places changed.

    Returns:
        The whole new text and the number of places.
    """
    if not change(text)[1]:
        return text, 0  # the usual case, and far cheaper than looking for Markdown and LaTeX
    parts, places, position = [], 0, 0
    for start, stop in [*spans(text), (len(text), len(text))]:
        changed, count = change(text[position:start])
        parts += [changed, text[start:stop]]
        places, position = places + count, stop
    return "".join(parts), places


def plain(text: str) -> str:
    """Return the text without its Markdown and LaTeX pieces."""
    return PROTECTED.sub(" ", text)


def protected_lines(text: str) -> set[int]:
    """Return the numbers, from 0, of the lines that Markdown or LaTeX pieces touch."""
    found: set[int] = set()
    line, position = 0, 0
    for start, stop in spans(text):
        line += text.count("\n", position, start)
        last = line + text.count("\n", start, stop)
        found.update(range(line, last + 1))
        line, position = last, stop
    return found
