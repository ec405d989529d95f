"""Text and numbers as people read them: cleaned, quoted, rounded."""

import unicodedata

BIDI = {0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}


def clean(text: str) -> str:
    """Return text on one line, without control characters, bidirectional controls and lone surrogates."""
    kept = []
    for character in text:
        category = unicodedata.category(character)
        if ord(character) in BIDI:
            continue
        kept.append(" " if category == "Cc" else "\ufffd" if category == "Cs" else character)
    return " ".join("".join(kept).split())


def quote(text: str) -> str:
    """Return a cleaned text between quotation marks."""
    return "“" + clean(text).replace("”", "””") + "”"


def written(value: float) -> str:
    """Return a size as people write it, without a sign: ``"0.41"``, ``"1,234"``, ``"0.0031"``."""
    size = abs(value)
    if size == 0 or 0.01 <= size < 99.995:
        return f"{size:.2f}"
    return f"{size:,.0f}" if 1 <= size < 1e9 else f"{size:.2g}"


def rounded(value: float) -> float:
    """Return a number as it is read back after writing."""
    return float(written(value).replace(",", "")) * (-1 if value < 0 else 1)


def with_sign(value: float) -> str:
    """Return a number with its sign."""
    return ("−" if value < 0 else "+") + written(value)


def probability(value: float) -> str:
    """Return a probability, with as many digits as keep it from 0 and 1 (at most four); read back, it is written alike."""
    near = not 0.005 < value < 0.995 and value not in (0.0, 1.0)
    return f"{value:.4f}" if near else f"{value:.2f}"
