"""The smallest unit of what a sentence says: a claim that can be compared with the numbers."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Claim:
    """State one checkable thing that a sentence says. What a sentence leaves out is empty or None.

    Attributes:
        kind: ``prediction unpredicted target evidence decided coverage nothing zero empty missing part truth
            unmeasured``.
        target: what it speaks for, against, or predicts.
        phrase: the quoted words, column or region; of an ``area``, where it is.
        noun: what the part is called: ``word piece phrase span mark cell number category region area``; of a decided
            claim, the kind of the column.
        column: the column named beside it, or predicted; empty where none is.
        side: ``"class"``, ``"value"``, ``"text"``, ``"weight"`` or ``"look"``; of a prediction also ``"next"``, the
            next token of a text.
        sign: 1 for, −1 against, 0 neither.
        rank: 1 for the strongest part of its sign.
        share: share of all of its sign, in whole percent.
        count: number of parts meant.
        value: the number, rounded as it is written.
        control: the same number for random parts.
        scale: unit of a truth claim.
        verdict: whether the explanation is supported; of a decided claim ``"decided"`` or ``"largest"``.
        units: positions of the units meant; not part of the text.
        cell: the number or category in a table cell.
        reference: the training median that a number is compared with.
        relation: ``"below"``, ``"above"`` or ``"at"`` that median.
        degree: ``"slight"`` or ``"strong"``; empty in between.
        size: ``"small"`` or ``"large"``, of an area.
        brightness: ``"dark"`` or ``"bright"``, measured from the pixels.
        colour: likewise, where one colour holds most of them.
        texture: ``"even"`` or ``"busy"``, likewise.
        rest: parts of its sign that are not named, said where the named ones hold less than was asked for.
    """

    kind: str
    target: str = ""
    phrase: str = ""
    noun: str = ""
    column: str = ""
    side: str = ""
    sign: int = 0
    rank: int = 0
    share: int | None = None
    count: int | None = None
    value: float | None = None
    control: float | None = None
    scale: str = ""
    verdict: str = ""
    units: tuple[int, ...] = ()
    cell: str = ""
    reference: str = ""
    relation: str = ""
    degree: str = ""
    size: str = ""
    brightness: str = ""
    colour: str = ""
    texture: str = ""
    rest: int | None = None

    def said(self) -> "Claim":
        """Return what the text alone tells: everything but the positions of the units."""
        return replace(self, units=())
