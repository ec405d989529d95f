"""How fast salience starts, how much it installs, and how soon the first explanation is there.

Every time is measured in fresh processes, from outside, and the median is reported. Imports are repeated after a
first one that fills the disk cache. Nothing is asserted: times depend on the machine.
"""

import statistics
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from salience.core.progress import Stage

CARD = {
    "key": "startup",
    "kind": "benchmark",
    "title": "Start time, install size, time to the first explanation",
    "entry": "run",
    "summary": "Seconds of `import salience`, `salience --help`, `import torch` for comparison, `salience demo`;"
    " megabytes of each core dependency.",
}
CLI = ["-m", "salience.cli.main"]
COMMANDS = {
    "python, nothing else": ["-c", "pass"],
    "import salience": ["-c", "import salience"],
    "salience --help": [*CLI, "--help"],
    "salience list": [*CLI, "list"],
    "import torch (for comparison)": ["-c", "import torch"],
    "from salience import Predictor": ["-c", "from salience import Predictor"],
    "salience demo": [*CLI, "demo"],
}
ONCE = {"salience demo"}
REPEATS, QUICK_REPEATS = 7, 3


def run(quick: bool = False, seed: int = 0) -> dict[str, Any]:
    """Measure start times and the size of what is installed.

    Args:
        quick: repeat each start 3 times, not 7.
        seed: not used; every benchmark takes it.

    Returns:
        ``rows``: one a measurement, with value and unit; ``summary``: the totals.
    """
    repeats = QUICK_REPEATS if quick else REPEATS
    rows: list[dict[str, Any]] = []
    with Stage("start times", len(COMMANDS)) as stage:
        for name, arguments in COMMANDS.items():
            rows.append({"measured": name, **_timed(arguments, 1 if name in ONCE else repeats)})
            stage.step(name)
    sizes = dependency_sizes()
    rows += [{"measured": f"size of {name}", "value": size, "unit": "MB"} for name, size in sizes.items()]
    return {"rows": rows, "summary": _summary(rows, sizes)}


def _timed(arguments: list[str], repeats: int) -> dict[str, Any]:
    if repeats > 1:
        _seconds(arguments)
    times = [_seconds(arguments) for _ in range(repeats)]
    return {
        "value": statistics.median(times),
        "unit": "s",
        "low": min(times),
        "high": max(times),
        "runs": repeats,
    }


def _seconds(arguments: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - started


def dependency_sizes() -> dict[str, float]:
    """Return the megabytes on disk of salience and everything it needs, largest first."""
    sizes = {name: _size(name) for name in closure("salience")} | {"salience": _package_size()}
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def closure(distribution: str) -> set[str]:
    """Return a distribution and all that it requires, directly or not, without extras."""
    from packaging.requirements import Requirement

    found, waiting = set(), [distribution]
    while waiting:
        name = waiting.pop()
        try:
            required = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        found.add(name)
        for text in required:
            requirement = Requirement(text)
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            child = requirement.name.lower().replace("_", "-")
            if wanted and child not in found:
                waiting.append(child)
    return found


def _size(distribution: str) -> float:
    paths = {Path(file.locate()) for file in metadata.files(distribution) or []}
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6


def _package_size() -> float:
    # an editable installation lists only a pointer to the source tree
    folder = Path(__file__).parents[1]
    return (
        sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts) / 1e6
    )


def _summary(rows: list[dict[str, Any]], sizes: dict[str, float]) -> dict[str, Any]:
    seconds = {row["measured"]: row["value"] for row in rows if row["unit"] == "s"}
    bare = seconds["python, nothing else"]
    return {
        "import salience, beyond Python itself (s)": seconds["import salience"] - bare,
        "salience --help (s)": seconds["salience --help"],
        "first explanation, salience demo (s)": seconds["salience demo"],
        "packages": len(sizes),
        "size in all (MB)": sum(sizes.values()),
        "size without torch (MB)": sum(size for name, size in sizes.items() if name != "torch"),
    }
