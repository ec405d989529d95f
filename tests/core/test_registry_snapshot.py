"""What there is to choose from changes only on purpose.

After adding or removing a method, write the snapshot anew with ``SALIENCE_UPDATE_SNAPSHOTS=1 pytest
tests/core/test_registry_snapshot.py`` and commit it.
"""

import json
import os
from pathlib import Path

from salience.core.registry import cards

SNAPSHOT = Path(__file__).with_name("registry_snapshot.json")


def test_registry_is_as_the_snapshot_says():
    found = {}
    for card in cards():
        if card.module.startswith("salience."):
            found.setdefault(card.kind, {})[card.key] = f"{card.module}:{card.fields['entry']}"
    if os.environ.get("SALIENCE_UPDATE_SNAPSHOTS"):
        SNAPSHOT.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    assert found == json.loads(SNAPSHOT.read_text(encoding="utf-8"))
