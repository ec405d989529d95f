"""The gaps of a sentence: how what a claim says is written into one, and read from it.

Quoted texts are numbered before a sentence is read, so a pattern meets “0” where the text has any words.
"""

import re
from collections.abc import Sequence
from typing import Any

from salience.core.errors import ConfigError
from salience.explain.phrasing import clean, probability, written
from salience.explain.words.claims import Claim

QUOTED = {
    "target": "target",
    "phrase": "phrase",
    "column": "column",
    "category": "cell",
}  # slot → field of a claim
CELLS = {"number": "cell", "reference": "reference"}
TABLES = {  # slot → field, table of the language
    "relation": ("relation", "relations"),
    "degree": ("degree", "degrees"),
    "size": ("size", "sizes"),
    "brightness": ("brightness", "brightnesses"),
    "colour": ("colour", "colours"),
    "texture": ("texture", "textures"),
    "place": ("phrase", "places"),
    "verdict": ("verdict", "verdicts"),
    "kind": ("noun", "kinds"),
}
VALUES = ("value", "signed", "probability")
MISSING = "missing"  # how an empty cell is labelled, in every language


class Slots:
    """Write and read the gaps of the sentences of one language.

    Args:
        data: the grammar of the language, as its file has it.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data
        self.left, self.right = data["quotes"]
        marks = data["numbers"]
        self.minus, self.plus = marks["minus"], marks["plus"]
        self.outward = str.maketrans({".": marks["decimal"], ",": marks["thousands"]})
        self.inward = str.maketrans({marks["decimal"]: ".", marks["thousands"]: ""})
        comma, point = re.escape(marks["thousands"]), re.escape(marks["decimal"])
        digits = rf"(?:\d{{1,3}}(?:{comma}\d{{3}})+|\d+)(?:{point}\d+)?(?:e[+-]?\d+)?"
        self.number = rf"[{re.escape(self.minus + self.plus)}]?{digits}"
        self.quoted = re.compile(f"{self.left}((?:[^{self.right}]|{self.right * 2})*){self.right}")

    def hide(self, text: str) -> tuple[str, list[str]]:
        """Return a text with numbers in place of its quoted parts, and these parts."""
        phrases: list[str] = []

        def number(match: re.Match[str]) -> str:
            phrases.append(match[1].replace(self.right * 2, self.right))
            return f"{self.left}{len(phrases) - 1}{self.right}"

        return self.quoted.sub(number, text), phrases

    def quote(self, text: str) -> str:
        """Return a cleaned text between the quotation marks of the language."""
        return self.left + clean(text).replace(self.right, self.right * 2) + self.right

    # -- writing -------------------------------------------------------------------------------------

    def write(self, name: str, claim: Claim) -> str | None:
        """Return what stands in a gap; None where the claim does not say it."""
        if name in QUOTED:
            text = getattr(claim, QUOTED[name])
            return self.quote(text) if text or name == "target" or name in ("phrase", "category") else None
        if name in TABLES:
            field, table = TABLES[name]
            return self.data[table].get(getattr(claim, field))
        if name in CELLS:
            return self._cell(getattr(claim, CELLS[name]))
        return self._number(name, claim)

    def _cell(self, text: str) -> str | None:
        if text == MISSING:
            return self.data["absent"]
        size = text.removeprefix("-").translate(self.outward)
        return (self.minus if text.startswith("-") else "") + size if text else None

    def _number(self, name: str, claim: Claim) -> str | None:
        if name in VALUES:
            return self._value(name, claim.value)
        if name == "share":
            form = self.data["percent"]
            return form["form"].replace("#", str(claim.share)) if claim.share else form["least"]
        field, _, table = name.partition(".")
        number = getattr(claim, field)
        if table == "change":
            return self.data["changes"][(number > 0) - (number < 0)]
        if table == "amount":
            return written(number).translate(self.outward) if number else None
        return None if number is None else self._counted(number, table)

    def _value(self, name: str, value: float) -> str:
        if name == "probability":
            return probability(value).translate(self.outward)
        sign = self.minus if value < 0 else self.plus if name == "signed" else ""
        return sign + written(value).translate(self.outward)

    def _counted(self, number: int, table: str) -> str:
        forms, names = self.data["plurals"][table], self.data["counts"]
        return forms[self.plural(number, forms)].replace(
            "#", names[number] if number < len(names) else str(number)
        )

    def plural(self, number: int, forms: dict[str, str]) -> str:
        """Return which form a number takes: the first whose rule holds, else ``other``."""
        rules = self.data["plural_rules"].items()
        return next((name for name, rule in rules if name in forms and _holds(rule, number)), "other")

    # -- reading -------------------------------------------------------------------------------------

    def pattern(self, name: str) -> str:
        """Return the expression that a gap matches."""
        if name in QUOTED:
            return rf"{self.left}\d+{self.right}"
        if name in TABLES:
            return _either(self.data[TABLES[name][1]].values())
        if name in CELLS:
            return f"{self.number}|{re.escape(self.data['absent'])}"
        if name in VALUES:
            return self.number
        if name == "share":
            return rf"{re.escape(self.data['percent']['form']).replace(re.escape('#'), '[0-9]+')}|{re.escape(self.data['percent']['least'])}"
        _, _, table = name.partition(".")
        if table == "change":
            return _either(self.data["changes"].values())
        if table == "amount":
            return self.number
        return "|".join(self._counted_pattern(form) for form in self._forms(name, table))

    def _forms(self, name: str, table: str) -> list[str]:
        if table not in self.data["plurals"]:
            raise ConfigError(
                f"Unknown gap {{{name}}} in a grammar", "", "See english.yaml for those that there are."
            )
        return list(self.data["plurals"][table].values())

    def _counted_pattern(self, form: str) -> str:
        count = rf"(?:{_either(self.data['counts'])}|\d+)"
        return re.escape(form).replace(re.escape("#"), count)

    def read(self, name: str, text: str, phrases: Sequence[str]) -> dict[str, Any]:
        """Return the fields of a claim that a gap tells."""
        if name in QUOTED:
            return {QUOTED[name]: phrases[int(text[len(self.left) : -len(self.right)])]}
        if name in TABLES:
            field, table = TABLES[name]
            return {field: _key(self.data[table], text)}
        if name in CELLS:
            absent = text == self.data["absent"]
            return {CELLS[name]: MISSING if absent else self._plain(text)}
        if name in VALUES:
            return {"value": float(self._plain(text))}
        if name == "share":
            return {"share": 0 if text == self.data["percent"]["least"] else int(re.sub(r"\D", "", text))}
        field, _, table = name.partition(".")
        if table == "change":
            return {f"{field}.sign": _key(self.data["changes"], text)}
        if table == "amount":
            return {field: float(self._plain(text))}
        return {field: self._count(text, table)}

    def _plain(self, text: str) -> str:
        return (
            text.replace(self.minus, "-")
            .replace(self.plus, "", text.startswith(self.plus))
            .translate(self.inward)
        )

    def _count(self, text: str, table: str) -> int:
        names = self.data["counts"]
        for form in self.data["plurals"][table].values():
            before, mark, after = form.partition("#")
            if not mark and text == form:
                return 1
            if mark and text.startswith(before) and text.endswith(after):
                said = text[len(before) : len(text) - len(after)]
                if said in names or said.isdigit():
                    return names.index(said) if said in names else int(said)
        raise ValueError(text)


def signed(fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields in which a change, told as a verb and an amount, is one number; no amount is no change."""
    result = {name: value for name, value in fields.items() if not name.endswith(".sign")}
    for name, sign in fields.items():
        if name.endswith(".sign"):
            field = name.removesuffix(".sign")
            result[field] = sign * fields.get(field, 0.0)
    return result


def _holds(rule: dict[str, list[int]], number: int) -> bool:
    tests = {
        "is": lambda values: number in values,
        "ends": lambda values: _ends(number, values),
        "not_ends": lambda values: not _ends(number, values),
    }
    return all(tests[name](values) for name, values in rule.items())


def _ends(number: int, endings: Sequence[int]) -> bool:
    return any(str(number).endswith(str(ending)) for ending in endings)


def _either(texts: Any) -> str:
    return "|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True))


def _key(table: dict[Any, str], text: str) -> Any:
    return next(key for key, written in table.items() if written == text)
