"""How benchmarks take time and memory: in turns, and in processes of their own."""

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any


def interleaved(
    steps: dict[str, Callable[[], Any]], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Return seconds of steps timed in turns, after one untimed turn, so that a busy moment hits all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(repeats + 1):
        for name, step in steps.items():
            taken = once(step, clock)
            if turn:
                seconds[name].append(taken)
    return seconds


def once(step: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the seconds of one call."""
    start = clock()
    step()
    return clock() - start


def measured_apart(code: str) -> Any:
    """Run code in a fresh process, and return what it writes to standard output as JSON."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def fill_to_peak() -> list[Any]:
    """Return ballast that brings this process to its own peak, so that all that is used from now on shows."""
    import torch

    start, ballast = peak_megabytes(), []
    while peak_megabytes() <= start:
        ballast.append(torch.ones(2**18))  # one megabyte
    return ballast


def peak_megabytes() -> float:
    """Return the most memory that this process has held, in MiB."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def growth(rows: list[dict[str, Any]]) -> float:
    """Return the exponent of a value in the number of tokens, from the least and the most tokens measured."""
    first, last = min(rows, key=lambda r: r["tokens"]), max(rows, key=lambda r: r["tokens"])
    return math.log(last["value"] / first["value"]) / math.log(last["tokens"] / first["tokens"])
