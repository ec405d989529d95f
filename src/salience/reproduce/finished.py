"""Results of trainings that are done, kept so that a reproduction goes on where it was stopped."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from salience.core.io import dumps, read_json, to_plain, write_json


def once(folder: Path, settings: list[Any], work: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Return a result that was kept, or do the work and keep it.

    Args:
        folder: where ``finished.json`` is; several processes may share it.
        settings: all that the result depends on.
        work: gets a folder for its checkpoints, which is removed afterwards.
    """
    key = hashlib.sha256(dumps(settings, indent=None).encode()).hexdigest()[:16]
    path = folder / "finished.json"
    if key not in _stored(path):
        found = to_plain(work(folder / key))
        write_json(path, {**_stored(path), key: found})  # another process may have added to it
        shutil.rmtree(folder / key, ignore_errors=True)
    return _stored(path)[key]


def _stored(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}
