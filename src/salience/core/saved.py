"""Folders of saved models: marked when they are complete, refused when they are not."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import salience
from salience.core.errors import IntegrityError
from salience.core.io import read_json, sha256, write_json

MARK = "run.json"


def mark_complete(folder: Path, kind: str, files: Iterable[str], **facts: Any) -> Path:
    """Mark a folder as complete, last of all: hashes of the model's files, and ``"state": "complete"``."""
    hashes = {name: sha256(folder / name) for name in files}
    state = {"state": "complete", "kind": kind, "format": 1, "version": salience.__version__}
    write_json(folder / MARK, {**state, **facts, "hashes": hashes})
    return folder


def check_complete(folder: Path, kind: str, files: Iterable[str], command: str) -> dict[str, Any]:
    """Return the mark of a complete folder.

    Args:
        folder: where the model was saved.
        kind: what it must hold, as in ``"language model"``.
        files: those whose hashes are compared.
        command: what finishes an unfinished folder.

    Raises:
        IntegrityError: the folder is absent, unfinished or of another kind (SAL-I004); a file was changed (SAL-I005).
    """
    if not folder.is_dir():
        raise IntegrityError(f"There is no saved {kind}", str(folder), "Check the path.", code="SAL-I004")
    mark = read_json(folder / MARK) if (folder / MARK).exists() else None
    if not isinstance(mark, dict) or mark.get("state") != "complete":
        fix = f"Give the same '{command}' command again: it goes on where it stopped."
        raise IntegrityError(f"The {kind} is not finished", str(folder), fix, code="SAL-I004")
    found = mark.get("kind", "model")  # the first folders did not say it
    if found != kind:
        fix = f"It holds a {found}: load it as one."
        raise IntegrityError(f"The folder does not hold a {kind}", str(folder), fix, code="SAL-I004")
    for name in files:
        if not (folder / name).exists() or sha256(folder / name) != mark["hashes"].get(name):
            fix = "Train again, or restore the folder."
            raise IntegrityError(f"{name} is not the file that was saved", str(folder), fix, code="SAL-I005")
    return mark
