"""Rules that mend a text or drop it, each with a name and a sentence that says what it does.

They follow the rule filters of TransNormerLLM's data strategy (Qin et al., 2023, section on self-cleaning): HTML and
addresses, garbled strings, repeated punctuation, odd characters, numbers; Markdown and LaTeX stay. Thresholds are not
published; the ones here are ours and are options. Every change is applied until nothing is left to change, so
applying it again does nothing.
"""

import html
import re
import unicodedata
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from html.entities import html5

from salience.data.cleaning.config import CleaningConfig
from salience.data.cleaning.markup import outside, plain, protected_lines

Edit = Callable[[str], tuple[str, int]]
MOST_TURNS = 20


@dataclass(frozen=True)
class Change:
    """Mend a text.

    Attributes:
        name: short name, used in options and counts.
        what: what it does, in one sentence.
        edit: maps a text to its new form and the number of places changed, once.
    """

    name: str
    what: str
    edit: Edit

    def apply(self, text: str) -> tuple[str, int]:
        """Return the text with nothing left to change, and the number of places changed."""
        places = 0
        for _ in range(MOST_TURNS):
            changed, count = self.edit(text)
            if changed == text:
                break
            text, places = changed, places + count
        return text, places


@dataclass(frozen=True)
class Drop:
    """Drop a text.

    Attributes:
        name: short name, used in options and counts.
        what: what it drops, in one sentence.
        reason: maps the mended text and the options to why it is dropped, or to an empty string.
    """

    name: str
    what: str
    reason: Callable[[str, CleaningConfig], str]


# Text in UTF-8 that was read as another encoding -----------------------------------------------------------------


def _byte_of(codec: str) -> dict[str, int]:
    """Return the byte of each character of an encoding; bytes without one stand for themselves, as decoders do."""
    return {bytes([b]).decode(codec, "ignore") or chr(b): b for b in range(256)}


def _pairs_of(codec: str) -> re.Pattern[str]:
    """Return a pattern of the first two bytes of a UTF-8 character, as this encoding shows them."""
    shown = {byte: character for character, byte in CODECS[codec].items()}
    first, next_ = ("".join(shown[b] for b in span) for span in (range(0xC2, 0xF5), range(0x80, 0xC0)))
    return re.compile(f"[{re.escape(first)}][{re.escape(next_)}]")


CODECS = {codec: _byte_of(codec) for codec in ("cp1252", "cp1251")}
MISREAD = {codec: _pairs_of(codec) for codec in CODECS}
REMNANTS = re.compile(r"Ã[\x80-\xbf]|â€.?|Â[\xa0-\xbf]|ï»¿|[ÐÑ][\x80-\xbf‚„…†‡ˆ‰‹‘’“”•–—˜™›]|ðŸ..")


def _mend_mojibake(text: str) -> tuple[str, int]:
    places = 0
    for codec, pattern in MISREAD.items():
        if pattern.search(text):
            lines = [_reread(line, codec) for line in text.split("\n")]
            places += sum(count for _, count in lines)
            text = "\n".join(line for line, _ in lines)
    return text, places


def _reread(line: str, codec: str) -> tuple[str, int]:
    """Return the line as UTF-8 if all of it is UTF-8: one letter that was right before makes that impossible."""
    misread = len(MISREAD[codec].findall(line))
    table = CODECS[codec]
    if not misread or any(c not in table for c in line):
        return line, 0
    try:
        return bytes(table[c] for c in line).decode("utf-8"), misread
    except UnicodeDecodeError:
        return line, 0


# Characters ------------------------------------------------------------------------------------------------------

_IMPOSSIBLE = "".join(
    f"{chr(plane * 0x10000 + 0xFFFE)}{chr(plane * 0x10000 + 0xFFFF)}" for plane in range(17)
)
ODD = re.compile(  # control, private, half and impossible characters
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\ud800-\\uf8ff\\ufdd0-\\ufdef\\U000f0000-\\U0010ffff"
    + _IMPOSSIBLE
    + "]"
)
INVISIBLE = re.compile("[\ufeff\u200b\u2060\u00ad\u180e\ufff9-\ufffb]")
LINE_ENDS = re.compile("\r\n?|[\u2028\u2029\u0085\v\f]")
SPACES = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")


def _plain_characters(text: str) -> tuple[str, int]:
    places = 0
    for pattern, plain_one in ((LINE_ENDS, "\n"), (SPACES, " "), (ODD, ""), (INVISIBLE, "")):
        text, count = pattern.subn(plain_one, text)
        places += count
    return text, places


# Numbers ---------------------------------------------------------------------------------------------------------

STYLED_DIGIT = re.compile("[\uff10-\uff19\U0001d7ce-\U0001d7ff]")
WIDE_SEPARATOR = re.compile(r"(?<=\d)[，．：](?=\d)")
WIDE = str.maketrans("，．：", ",.:")
GROUPED = re.compile(
    r"(?<![\w.,'’])\d{1,3}(?:(?P<gap>[\u00a0\u202f\u2009'’])\d{3})(?:(?P=gap)\d{3})*(?![\w'’])"
)


def _plain_numbers(text: str) -> tuple[str, int]:
    text, digits = STYLED_DIGIT.subn(lambda m: unicodedata.normalize("NFKC", m[0]), text)
    text, separators = WIDE_SEPARATOR.subn(lambda m: m[0].translate(WIDE), text)
    text, groups = GROUPED.subn(lambda m: m[0].replace(m["gap"], ","), text)
    return text, digits + separators + groups


# HTML and addresses ----------------------------------------------------------------------------------------------

BLOCKS = (
    "address article aside blockquote body br dd div dl dt fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6"
    " head header hr html li main nav ol option p pre section table tbody thead title tr ul"
)
INLINE = (
    "a abbr acronym area audio b base big button canvas caption center cite code col colgroup data del details dfn em"
    " embed font iframe i img input ins kbd label legend link map mark meta noscript object optgroup param picture"
    " progress q s samp select small source span strike strong sub summary sup svg path td textarea tfoot th time tt u"
    " var video wbr script style"
)
HIDDEN = re.compile(
    r"<!--(?:(?!<!--)[\s\S]){0,20000}?-->|<!DOCTYPE[^<>]{0,500}>"
    r"|<(?P<tag>script|style)\b[^<>]{0,2000}>(?:(?!<(?P=tag)\b)[\s\S]){0,100000}?</(?P=tag)\s*>",
    re.IGNORECASE,
)
BLOCK_TAG = re.compile(rf"</?(?:{'|'.join(BLOCKS.split())})(?=[\s/>])[^<>]{{0,2000}}>", re.IGNORECASE)
INLINE_TAG = re.compile(rf"</?(?:{'|'.join(INLINE.split())})(?=[\s/>])[^<>]{{0,2000}}>", re.IGNORECASE)
ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
ADDRESS = re.compile(
    r"<(?:https?|ftp)://[^\s<>]{1,2000}>|(?<![A-Za-z0-9_@])(?:(?:https?|ftp)://|www\.(?=\w))[^\s<>\"'\u3000-\uffff]{1,2000}",
    re.IGNORECASE,
)
AFTER_ADDRESS = ".,;:!?)]}*_’”»…"


def _strip_html(text: str) -> tuple[str, int]:
    if "<" not in text and "&" not in text:
        return text, 0
    text, hidden = HIDDEN.subn("", text)
    text, blocks = BLOCK_TAG.subn("\n", text)
    text, inlines = INLINE_TAG.subn("", text)
    found = [match for match in ENTITY.findall(text) if _is_entity(match)]
    text = ENTITY.sub(lambda m: html.unescape(m[0]) if _is_entity(m[0]) else m[0], text) if found else text
    return text, hidden + blocks + inlines + len(found)


def _is_entity(match: str) -> bool:
    """Tell an entity from ``&amp`` followed by letters, of which ``html.unescape`` takes a part."""
    return match[1] == "#" or match[1:] in html5


def _strip_addresses(text: str) -> tuple[str, int]:
    return ADDRESS.subn(_after_address, text)


def _after_address(match: re.Match[str]) -> str:
    """Return the punctuation that ends the sentence, not the address."""
    if match[0].startswith("<"):
        return ""
    kept = len(match[0].rstrip(AFTER_ADDRESS))
    rest = match[0][kept:]
    return rest[1:] if "(" in match[0][:kept] and rest.startswith(")") else rest


# Repetition and blobs --------------------------------------------------------------------------------------------

BLOB = re.compile(
    r"(?:data:[\w/+.-]{1,60};base64,)?(?<![\w+/=-])(?=[A-Za-z+/_-]{0,100}\d)(?=[\d+/_-]{0,100}[A-Za-z])"
    r"[A-Za-z0-9+/_-]{100,}={0,2}"
)
SAME_MARK = re.compile(r"([^\w\s()\[\]{}<>]|_)\1{3,}")
MIXED_MARKS = re.compile(r"[!?]{4,}|[！？]{4,}")
BLANK_LINES = re.compile(r"\n(?:[ \t]*\n){2,}")
LINE_CHARACTERS = 10


def _strip_blobs(text: str) -> tuple[str, int]:
    return BLOB.subn("", text)


def _shorten_marks(text: str) -> tuple[str, int]:
    text, same = SAME_MARK.subn(r"\1\1\1", text)
    text, mixed = MIXED_MARKS.subn(lambda m: m[0][:3], text)
    return text, same + mixed


def _drop_repeated_lines(text: str) -> tuple[str, int]:
    lines = text.split("\n")
    if len(lines) == len(set(lines)):
        return text, 0
    kept, previous, touched = [], "", protected_lines(text)
    for number, line in enumerate(lines):
        bare = line.strip()
        again = bare == previous and number not in touched and is_sentence(bare)
        if not again:
            kept.append(line)
        previous = bare
    return "\n".join(kept), len(lines) - len(kept)


def is_sentence(line: str) -> bool:
    """Tell a line with something in it from a bracket or an ``end``, which code repeats with reason."""
    return sum(c.isalnum() for c in line) >= LINE_CHARACTERS


def _shorten_blanks(text: str) -> tuple[str, int]:
    return BLANK_LINES.subn("\n\n", text)


def _trim(text: str) -> tuple[str, int]:
    trimmed = re.sub(r"\A(?:[ \t]*\n)+", "", text).rstrip()
    return trimmed, int(trimmed != text)


def _between(edit: Edit) -> Edit:
    return lambda text: outside(text, edit)


CHANGES = (
    Change("mojibake", "Lines of UTF-8 that were read as Windows-1252 or 1251 are read again.", _mend_mojibake),
    Change("numbers", "Full-width and styled digits become 0 to 9; 1 000 with a no-break space, or 1'000, becomes 1,000.", _between(_plain_numbers)),
    Change("characters", "Control, private and invisible characters go; odd spaces and line ends become plain ones.", _plain_characters),
    Change("html", "Tags, comments, scripts and styles go; entities become characters.", _between(_strip_html)),
    Change("addresses", "Web addresses go, except in Markdown links and LaTeX.", _between(_strip_addresses)),
    Change("blobs", "Encoded data (100 or more letters, digits and + / _ - in one piece) go.", _between(_strip_blobs)),
    Change("punctuation", "More than three equal marks in a row become three.", _between(_shorten_marks)),
    Change("repeated_lines", "A line that repeats the line before it goes.", _drop_repeated_lines),
    Change("blank_lines", "Several blank lines become one.", _between(_shorten_blanks)),
    Change("ends", "Blank lines before and after the text go.", _trim),
)  # fmt: skip


def _too_short(text: str, config: CleaningConfig) -> str:
    size = len(text) - sum(map(text.count, " \n\t"))
    short = size < config.min_characters
    return (
        f"{size} characters, spaces not counted; at least {config.min_characters} are wanted" if short else ""
    )


def _too_long(text: str, config: CleaningConfig) -> str:
    size, most = len(text), config.max_characters
    return f"{size:,} characters; at most {most:,} are wanted" if size > most else ""


def garbled_share(text: str) -> float:
    """Return the share of replacement, control and private characters and of wrongly decoded UTF-8."""
    wrong = len(ODD.findall(text)) + text.count("\ufffd")
    return (wrong + sum(len(m[0]) for m in REMNANTS.finditer(text))) / max(len(text), 1)


def _garbled(text: str, config: CleaningConfig) -> str:
    share = garbled_share(text)
    return f"{share:.1%} of the characters are garbled" if share > config.max_garbled else ""


def letter_share(text: str) -> float:
    """Return the share of letters, digits and the marks that belong to letters; spaces are not counted."""
    bare = "".join(text.split())
    marks = sum(unicodedata.category(c) in ("Mn", "Mc") for c in bare) if not bare.isascii() else 0
    return (sum(map(str.isalnum, bare)) + marks) / max(len(bare), 1)


def _few_letters(text: str, config: CleaningConfig) -> str:
    if letter_share(text) >= config.min_letters:
        return ""
    prose = plain(text)
    if 2 * len("".join(prose.split())) < len("".join(text.split())):
        return ""  # mostly code or formulas
    share = letter_share(prose)
    return f"{share:.0%} of the characters are letters or digits" if share < config.min_letters else ""


REPETITION_BYTES = 400


def _repetitive(text: str, config: CleaningConfig) -> str:
    data = text.encode("utf-8", "replace")
    if len(data) < REPETITION_BYTES:
        return ""
    size = len(zlib.compress(data)) / len(data)
    return (
        f"says little again and again: compressed to {size:.0%} of its size"
        if size < config.min_packed
        else ""
    )


DROPS = (
    Drop("too_short", "Fewer characters than wanted.", _too_short),
    Drop("too_long", "More characters than wanted.", _too_long),
    Drop("garbled", "Too many replacement characters, control characters or wrongly decoded letters.", _garbled),
    Drop("few_letters", "Too few letters and digits among the characters (Markdown and LaTeX not counted).", _few_letters),
    Drop("repetition", "So repetitive that it packs to a small share of its size.", _repetitive),
)  # fmt: skip
RULES = {rule.name: rule for rule in (*CHANGES, *DROPS)}


@dataclass(frozen=True)
class Ruled:
    """What the rules made of a text: its new form, places changed by rule, and why it is dropped, if it is."""

    text: str
    places: dict[str, int]
    rule: str = ""
    reason: str = ""


def apply_rules(text: str, config: CleaningConfig) -> Ruled:
    """Mend a text by every change in turn, until none has anything to do, then see whether a rule drops it."""
    changes = [rule for rule in CHANGES if rule.name not in config.skip]
    places: dict[str, int] = {}
    noise = 0.0
    for turn in range(MOST_TURNS):
        before = text
        for rule in changes:
            if turn == 0 and rule.name == "characters":
                noise = garbled_share(text)  # what this change takes away must not hide a broken file
            text, count = rule.apply(text)
            if count:
                places[rule.name] = places.get(rule.name, 0) + count
        if text == before:
            break
    return Ruled(text, places, *_dropped(text, noise, config))


def _dropped(text: str, noise: float, config: CleaningConfig) -> tuple[str, str]:
    """Return the first rule that drops the text, and why; two empty strings if none does."""
    drops = [rule for rule in DROPS if rule.name not in config.skip]
    if noise > config.max_garbled and RULES["garbled"] in drops:
        return "garbled", f"{noise:.1%} of the characters were garbled"
    for rule in drops:
        if reason := rule.reason(text, config):
            return rule.name, reason
    return "", ""
