"""Find a source by its name: a data set, the hub, or nothing, with the nearest name."""

from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from salience.core import registry
from salience.core.errors import DataError
from salience.data.readers import hugging_face
from salience.data.readers.frame import fingerprint
from salience.data.readers.options import Parsed


def load_named(name: str) -> tuple[Parsed, str, str]:
    """Return rows, name and SHA-256 of a data set.

    Raises:
        DataError: no file and no data set has the name (SAL-D001).
    """
    if name.startswith("hf:"):
        parsed = hugging_face.read(name.removeprefix("hf:"))
        return parsed, name, fingerprint(parsed.frame)
    keys = [card.key for card in registry.cards("dataset")]
    if name not in keys:
        raise _nothing(name, keys)
    card = registry.card("dataset", name)
    frame: pd.DataFrame = registry.load("dataset", name)()
    digest = card.get("sha256") or fingerprint(frame)
    return Parsed(frame, [], card.get("target")), name, digest


def _nothing(name: str, keys: list[str]) -> DataError:
    try:
        siblings = [path.name for path in sorted(Path(name).absolute().parent.iterdir())[:1000]]
    except (OSError, ValueError):
        siblings = []
    close = get_close_matches(Path(name).name, siblings, n=1) or get_close_matches(name, keys, n=1)
    hint = f"Did you mean {close[0]!r}?" if close else f"Data sets: {', '.join(keys)}."
    return DataError("No file and no data set has this name", f"{name[:200]!r}.", hint, code="SAL-D001")
