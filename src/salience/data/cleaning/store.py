"""Documents on disk: written one a line, read again in order or one by one."""

import json
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO


@dataclass(frozen=True)
class Entry:
    """A document on its way through cleaning: its name (file and number), the text, and the file."""

    id: str
    text: str
    source: str = ""


def line_of(record: dict[str, Any]) -> bytes:
    """Return a record as one line of JSON; half characters, which UTF-8 cannot hold, become question marks."""
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


class Spool:
    """A growing file of documents of which only the places are held in memory.

    Args:
        path: the file, JSON lines with ``id``, ``text`` and ``source``; written anew.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places = array("q")
        self._size = 0
        self._writer: BinaryIO = path.open("wb")
        self._reader: BinaryIO = path.open("rb")

    def write(self, entry: Entry) -> None:
        """Add an entry."""
        self._places.append(self._size)
        self._size += self._writer.write(line_of(asdict(entry)))

    def __getitem__(self, number: int) -> Entry:
        self._writer.flush()
        self._reader.seek(self._places[number])
        return Entry(**json.loads(self._reader.readline()))

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Entry]:
        self._writer.flush()
        with self.path.open("rb") as lines:
            for line in lines:
                yield Entry(**json.loads(line))

    def without(self, numbers: Iterable[int], path: Path) -> "Spool":
        """Write a copy that lacks some documents, close this one, and return the copy."""
        unwanted = set(numbers)
        copy = Spool(path)
        for number, entry in enumerate(self):
            if number not in unwanted:
                copy.write(entry)
        self.close()
        return copy

    def flush(self) -> None:
        """Bring everything to disk, for other readers."""
        self._writer.flush()

    def close(self) -> None:
        """Close the file; it stays on disk."""
        self._writer.close()
        self._reader.close()


class Dropped:
    """What was dropped and why: one line a document on disk, and the names by reason in memory.

    Args:
        path: the file, JSON lines with ``id``, ``source``, ``step``, ``reason``, what belongs to it, and ``text``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ids: dict[str, list[str]] = {}
        self._file = path.open("wb")

    def write(self, entry: Entry, step: str, reason: str, **facts: Any) -> None:
        """Note a document that was dropped.

        Args:
            entry: the document as it was when it was dropped.
            step: name of the rule or step.
            reason: why, in a few words.
            facts: more to note, such as the document that it repeats.
        """
        self.ids.setdefault(step, []).append(entry.id)
        record = {"id": entry.id, "source": entry.source, "step": step, "reason": reason, **facts}
        self._file.write(line_of({**record, "text": entry.text}))

    def count(self, *steps: str) -> int:
        """Return how many documents were dropped, by these steps or by all."""
        return sum(len(self.ids.get(step, ())) for step in steps or self.ids)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
