"""What cleaning did, as data and as findings that a report shows."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from salience.core.finding import Finding
from salience.core.io import to_plain
from salience.data.cleaning.config import CleaningConfig
from salience.data.cleaning.rules import CHANGES, RULES

GROUPS, LINES, CUT = 50, 50, 200
STEPS = {
    "documents": "It is nearly the same as a document before it.",
    "lines": "Too little was left after lines that many documents share were taken out.",
    "judge": "The judge model finds it far more surprising than the others, or far too easy.",
}


@dataclass(frozen=True)
class Cleaning:
    """Hold what cleaning did.

    Attributes:
        sizes: documents and characters, read and kept.
        rules: for each rule that had something to do, ``documents`` and (if it mends) ``places``.
        examples: for each rule that mends, up to three places ``before`` and ``after``.
        groups: documents that stayed (``kept``) with their dropped ``copies``, each ``id`` and ``similarity``.
        lines: shared lines: ``line``, ``kept in``, ``documents``, ``lines dropped``; the most frequent first.
        rounds: what the judge said, one a round: numbers, limits, ``distribution``, ``samples``.
        dropped: names of dropped documents by rule or step.
        config: options.
        seconds: time taken.
    """

    sizes: dict[str, int]
    rules: dict[str, dict[str, int]]
    examples: dict[str, list[dict[str, str]]]
    groups: list[dict[str, Any]]
    lines: list[dict[str, Any]]
    rounds: list[dict[str, Any]]
    dropped: dict[str, list[str]]
    config: CleaningConfig
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON-ready data."""
        return to_plain({**asdict(self), "what": {name: rule.what for name, rule in RULES.items()} | STEPS})

    def reasons(self) -> list[dict[str, Any]]:
        """Return one record a rule and step, in the order of work: what it does, documents mended and dropped."""
        mends = {rule.name for rule in CHANGES}
        records = []
        for name, what in ({n: r.what for n, r in RULES.items()} | STEPS).items():
            counts = self.rules.get(name, {})
            records.append(
                {
                    "rule": name,
                    "documents mended": counts.get("documents", 0) if name in mends else None,
                    "places": counts.get("places", 0) if name in mends else None,
                    "documents dropped": None if name in mends else len(self.dropped.get(name, ())),
                    "what": f"{what} (left out)" if name in self.config.skip else what,
                }
            )
        return records

    def findings(self) -> list[Finding]:
        """Return what was dropped and why, one finding a step."""
        return [self._overall(), self._rules(), *self._copies(), *self._lines(), *self._judged()]

    def _overall(self) -> Finding:
        read, kept = self.sizes["documents read"], self.sizes["documents kept"]
        share = kept / max(read, 1)
        characters = self.sizes["characters kept"] / max(self.sizes["characters read"], 1)
        little = share < 0.5
        return Finding(
            "corpus",
            "How much of the corpus is left?",
            f"{kept:,} of {read:,} documents ({share:.1%}) and {characters:.1%} of the characters.",
            "warn" if little else "info",
            value=share,
            split="",
            rows=read,
            advice="Look at the samples: a threshold may be too strict for this corpus." if little else "",
            tables={"dropped and mended, by rule and step": self.reasons()},
        )

    def _rules(self) -> Finding:
        mended = sum(n["places"] for n in self.rules.values() if "places" in n)
        dropped = sum(len(self.dropped.get(name, ())) for name in RULES)
        tables = {
            "examples": [
                {"rule": rule, **example} for rule, examples in self.examples.items() for example in examples
            ]
        }
        answer = f"They mended {mended:,} places and dropped {dropped:,} documents."
        return Finding(
            "rules",
            "What did the rules do?",
            answer,
            "info",
            value=float(dropped),
            unit="documents",
            tables=tables,
        )

    def _copies(self) -> Iterator[Finding]:
        if "documents" in self.config.skip:
            return
        groups = sorted(self.groups, key=lambda group: -len(group["copies"]))
        copies = sum(len(group["copies"]) for group in groups)
        table = [
            {
                "kept": group["kept"],
                "copies dropped": len(group["copies"]),
                "similarity, least": min(c["similarity"] for c in group["copies"]),
                "similarity, greatest": max(c["similarity"] for c in group["copies"]),
                "dropped": ", ".join(c["id"] for c in group["copies"][:10]) + (" …" if len(group["copies"]) > 10 else ""),
            }
            for group in groups[:GROUPS]
        ]  # fmt: skip
        yield Finding(
            "documents",
            "Which documents are near copies of others?",
            f"{copies:,} documents repeat one of {len(groups):,} others: the Jaccard similarity of their word triples"
            f" is {self.config.similarity} or more. The first of each group stays.",
            "info",
            value=float(copies),
            unit="documents",
            tables={"groups, largest first": table} if table else {},
        )

    def _lines(self) -> Iterator[Finding]:
        if "lines" in self.config.skip:
            return
        total = sum(line["lines dropped"] for line in self.lines)
        table = [{**line, "line": line["line"][:CUT]} for line in self.lines[:LINES]]
        yield Finding(
            "lines",
            "Which lines do many documents share?",
            f"{len(self.lines):,} lines of {self.config.line_words} or more words stand, with a similarity of"
            f" {self.config.line_similarity} or more, in at least {self.config.line_documents} documents. The first"
            f" document keeps them; {total:,} were taken out of others.",
            "info",
            value=float(total),
            unit="lines",
            tables={"shared lines, most frequent first": table} if table else {},
        )

    def _judged(self) -> Iterator[Finding]:
        for facts in self.rounds:
            numbers = {k: v for k, v in facts.items() if k not in ("distribution", "samples")}
            capped = facts["kept beyond the limit"]
            yield Finding(
                f"judge, round {facts['round']}",
                "Which documents does the judge find out of the ordinary?",
                _judge_answer(facts),
                "warn" if capped else "info",
                value=to_plain(facts["high"]),
                unit="bits a byte",
                rows=facts["judged"],
                split="",
                advice="More documents lie beyond the limit than a round may drop: look at the samples, then run"
                " another round or raise the share." if capped else "",
                tables={"numbers of the round": [numbers], "samples for a person to look at": facts["samples"]},
            )  # fmt: skip


def _judge_answer(facts: dict[str, Any]) -> str:
    if not facts["judged"]:
        return "No document is long enough to be judged."
    text = f"{facts['dropped']:,} of {facts['judged']:,} documents; the median is {facts['median']:.2f} bits a byte"
    low, high = to_plain(facts["low"]), to_plain(facts["high"])
    text += f", the highest that stays {high:.2f}" if high is not None else ", and all documents score alike"
    return text + (f", the lowest {low:.2f}." if low is not None else ".")
