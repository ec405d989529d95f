"""Clean a corpus: rules, near-duplicate documents, boilerplate lines, then the judge.

Documents stream from disk to disk. What stays in memory is the place of every document, the names of dropped ones, and
the signatures of the duplicate search.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from salience.core.errors import ConfigError, nearest
from salience.core.progress import track
from salience.core.stats import generator
from salience.data.cleaning import judge as judging
from salience.data.cleaning.config import CleaningConfig
from salience.data.cleaning.duplicates import NearDuplicates, fingerprint, words
from salience.data.cleaning.judge import TrainJudge
from salience.data.cleaning.markup import protected_lines
from salience.data.cleaning.result import Cleaning
from salience.data.cleaning.rules import CHANGES, RULES, apply_rules
from salience.data.cleaning.store import Dropped, Entry, Spool
from salience.data.corpus import Document

EXAMPLES, AROUND = 3, 60
CORPUS, DROPPED = "corpus.jsonl", "dropped.jsonl"


def clean(
    documents: Iterable[Document],
    folder: Path | None,
    config: CleaningConfig | None = None,
    train_judge: TrainJudge | None = None,
) -> Cleaning:
    """Clean a corpus and say what was dropped and why.

    Args:
        documents: the corpus, in order; of equal documents the first one stays.
        folder: where ``corpus.jsonl`` and ``dropped.jsonl`` are written once all is done; none for a trial.
        config: options.
        train_judge: trains a model on a file of documents (JSON lines with ``text``) and returns what scores texts:
            a list of texts → natural log-probabilities of the tokens of each. Called once a round.

    Returns:
        Counts, examples, groups of copies, the judge's distribution, and the names of dropped documents.

    Raises:
        ConfigError: a rule or step that is to be left out does not exist (SAL-C002).
        MissingExtraError: the package datasketch is needed and not installed.
    """
    config = config or CleaningConfig()
    _check_names(config)
    started = time.perf_counter()
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".cleaning-", dir=folder) as place:
        work = Work(Path(place), config)
        try:
            work.apply_rules(documents)
            if "documents" not in config.skip:
                work.drop_copies()
            if "lines" not in config.skip:
                work.drop_lines()
            for round_ in range(1, config.rounds + 1 if train_judge else 1):
                work.judge(train_judge, round_)
            cleaning = work.result(time.perf_counter() - started)
        finally:
            work.close()
        if folder:
            work.spool.path.replace(folder / CORPUS)
            work.dropped.path.replace(folder / DROPPED)
    return cleaning


def _check_names(config: CleaningConfig) -> None:
    known = {*RULES, "documents", "lines"}
    for name in config.skip:
        if name not in known:
            raise ConfigError(f"There is no rule or step {name!r}", "", nearest(name, known), code="SAL-C002")


class Work:
    """A corpus under way: the current documents on disk, what was dropped, and what is to be reported.

    Args:
        place: folder for files that are not finished.
        config: options.
    """

    def __init__(self, place: Path, config: CleaningConfig) -> None:
        self.place, self.config = place, config
        self.spool = Spool(place / "0.jsonl")
        self.dropped = Dropped(place / DROPPED)
        self.random = generator(config.seed, "examples")
        self.sizes = {"documents read": 0, "characters read": 0}
        self.rules: dict[str, Counter[str]] = defaultdict(Counter)
        self.examples: dict[str, list[dict[str, str]]] = defaultdict(list)
        self.groups: dict[str, list[dict[str, Any]]] = {}
        self.lines: list[dict[str, Any]] = []
        self.rounds: list[dict[str, Any]] = []

    def close(self) -> None:
        """Close the files."""
        self.spool.close()
        self.dropped.close()

    def apply_rules(self, documents: Iterable[Document]) -> None:
        """Mend every document, or drop it."""
        for document in track(documents, "rules"):
            before = Entry(f"{document.file}:{document.number}", document.text, document.file)
            self.sizes["documents read"] += 1
            self.sizes["characters read"] += len(before.text)
            ruled = apply_rules(before.text, self.config)
            after = Entry(before.id, ruled.text, before.source)
            for name, places in ruled.places.items():
                self.rules[name].update(documents=1, places=places)
                self._example(name, before, ruled.text)
            if ruled.rule:
                self.rules[ruled.rule].update(documents=1)
                self.dropped.write(after, ruled.rule, ruled.reason)
            else:
                self.spool.write(after)

    def _example(self, rule: str, before: Entry, after: str) -> None:
        """Keep a few examples of a rule, each document with the same chance."""
        kept, seen = self.examples[rule], self.rules[rule]["documents"]
        slot = len(kept) if len(kept) < EXAMPLES else int(self.random.integers(seen))
        if slot < EXAMPLES:
            kept[slot : slot + 1] = [{"id": before.id, **_difference(before.text, after, rule, self.config)}]

    def drop_copies(self) -> None:
        """Drop every document that is nearly the same as one before it."""
        config, spool = self.config, self.spool
        search = NearDuplicates(
            config.similarity, lambda n: spool[n].text, permutations=config.permutations, seed=config.seed
        )
        copies: list[int] = []
        for number, entry in enumerate(track(spool, "documents", len(spool))):
            if twin := search.add(number, entry.text):
                first, similarity = spool[twin[0]].id, round(twin[1], 4)
                copies.append(number)
                self.groups.setdefault(first, []).append({"id": entry.id, "similarity": similarity})
                reason = f"similarity {similarity:.2f} to {first}"
                self.dropped.write(entry, "documents", reason, duplicate_of=first, similarity=similarity)
        self.spool = spool.without(copies, self.place / "1.jsonl")

    def drop_lines(self) -> None:
        """Take lines that many documents share out of all but the first one; drop a document that lost too much."""
        found = _SharedLines(self.spool, self.config)
        spool, self.spool = self.spool, Spool(self.place / "2.jsonl")
        for number, entry in enumerate(track(spool, "lines", len(spool))):
            text = found.without(number, entry.text)
            if text == entry.text:
                self.spool.write(entry)
                continue
            ruled = apply_rules(text, self.config)  # blank lines may be left over, or too little
            entry = Entry(entry.id, ruled.text, entry.source)
            if ruled.rule:
                self.dropped.write(entry, "lines", f"without shared lines: {ruled.reason}")
            else:
                self.spool.write(entry)
        self.lines = found.report(spool)
        spool.close()

    def judge(self, train: TrainJudge, round_: int) -> None:
        """Train a judge on all that is left, and drop what it finds too surprising or too easy."""
        self.spool.flush()
        verdicts = judging.judge(self.spool, train(self.spool.path, round_), self.config)
        self.rounds.append(judging.facts(self.spool, verdicts, round_, self.config.seed))
        for number in verdicts.dropped:
            bits = float(verdicts.bits[number])
            side, limit = ("above", verdicts.high) if bits > verdicts.high else ("below", verdicts.low)
            reason = f"{bits:.2f} bits a byte, {side} {limit:.2f}"
            self.dropped.write(self.spool[number], "judge", reason, bits_per_byte=bits, round=round_)
        self.spool = self.spool.without(verdicts.dropped, self.place / f"judged-{round_}.jsonl")

    def result(self, seconds: float) -> Cleaning:
        """Return what was done."""
        kept = sum(len(entry.text) for entry in self.spool)
        return Cleaning(
            sizes={**self.sizes, "documents kept": len(self.spool), "characters kept": kept},
            rules={name: dict(counts) for name, counts in self.rules.items()},
            examples=dict(self.examples),
            groups=[{"kept": first, "copies": copies} for first, copies in self.groups.items()],
            lines=self.lines,
            rounds=self.rounds,
            dropped=self.dropped.ids,
            config=self.config,
            seconds=seconds,
        )


def _difference(before: str, after: str, rule: str, config: CleaningConfig) -> dict[str, str]:
    """Return the surroundings of the first place that a rule changed, before and after this rule."""
    for change in CHANGES:
        changed = change.apply(before)[0] if change.name not in config.skip else before
        if change.name == rule and changed != before:
            return _surroundings(before, changed)
        before = changed
    return _surroundings(before, after)


def _surroundings(before: str, after: str) -> dict[str, str]:
    short = min(len(before), len(after))
    at = next((i for i in range(short) if before[i] != after[i]), short)
    start = max(0, at - AROUND)
    return {"before": before[start : at + AROUND], "after": after[start : at + AROUND]}


class _SharedLines:
    """Lines that are nearly the same in several documents, of at least some words, outside Markdown and LaTeX."""

    def __init__(self, spool: Spool, config: CleaningConfig) -> None:
        self.config = config
        self.group_of: dict[
            bytes, tuple[int, int]
        ] = {}  # words of a line → document and line where they came first
        self.documents: Counter[tuple[int, int]] = Counter()
        search = NearDuplicates(
            config.line_similarity,
            lambda key: spool[key[0]].text.split("\n")[key[1]],
            permutations=config.permutations,
            seed=config.seed,
        )
        for number, entry in enumerate(track(spool, "compare lines", len(spool))):
            groups = set()
            for line, text, mark in self._lines(entry.text):
                twin = search.add((number, line), text)
                groups.add(self.group_of.setdefault(mark, twin[0] if twin else (number, line)))
            self.documents.update(groups)
        shared = {group for group, count in self.documents.items() if count >= config.line_documents}
        self.group_of = {mark: group for mark, group in self.group_of.items() if group in shared}
        self.taken: Counter[tuple[int, int]] = Counter()

    def _lines(self, text: str) -> Iterable[tuple[int, str, bytes]]:
        """Yield number, text and fingerprint of the lines that are compared."""
        touched = protected_lines(text)
        for number, line in enumerate(text.split("\n")):
            if number not in touched and len(found := words(line)) >= self.config.line_words:
                yield number, line, fingerprint(found)

    def without(self, number: int, text: str) -> str:
        """Return a document's text without the shared lines that an earlier document holds."""
        unwanted = set()
        for line, _, mark in self._lines(text) if self.group_of else ():
            group = self.group_of.get(mark)
            if group is not None and group[0] != number:
                unwanted.add(line)
                self.taken[group] += 1
        return "\n".join(line for n, line in enumerate(text.split("\n")) if n not in unwanted)

    def report(self, spool: Spool) -> list[dict[str, Any]]:
        """Return the shared lines, the most frequent first."""
        most = sorted(self.taken.items(), key=lambda item: (-item[1], item[0]))
        return [
            {
                "line": spool[number].text.split("\n")[line],
                "kept in": spool[number].id,
                "documents": self.documents[number, line],
                "lines dropped": count,
            }
            for (number, line), count in most
        ]
