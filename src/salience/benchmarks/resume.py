"""Benchmark: kill a run at random moments, start it again each time, and compare with an uninterrupted one."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from salience.core.errors import IntegrityError, SalienceError
from salience.core.io import read_json
from salience.core.progress import Stage
from salience.core.stats import generator
from salience.data.datasets import toy_reviews

CARD = {
    "key": "resume",
    "kind": "benchmark",
    "title": "A killed run goes on to the same bits",
    "entry": "run",
    "summary": "The main job is killed with SIGKILL at ten random moments of training, every second one while a checkpoint is being written, and started again; weights, predictions and metrics are compared with those of a run that was left alone.",
    "cost": "about three minutes on two cores; quick: two kills, half a minute",
}
OPTIONS = (
    "explain.rows=2", "audit.checks=[performance]", "audit.baselines=false", "training.checkpoint_seconds=0",
    "training.average=0.9", "training.batch_size=32", "model.text.args.dim=8", "model.text.args.embedding_dim=16",
)  # fmt: skip
SAME = ("model/model.safetensors", "predictions.parquet", "metrics.json")
START = "import sys; from salience.cli.main import main; sys.exit(main())"
PATIENCE = 300.0  # seconds after which a run that shows no progress counts as hanging


@dataclass
class Job:
    """Know the command of one run and where its files go.

    Attributes:
        table: the data.
        folder: the run folder.
        epochs: passes over the training rows.
        seed: seed of the run.
    """

    table: Path
    folder: Path
    epochs: int
    seed: int
    arguments: list[str] = field(init=False)

    def __post_init__(self) -> None:
        sets = [text for option in (*OPTIONS, f"training.epochs={self.epochs}") for text in ("--set", option)]
        where = [
            "--target",
            "recommends",
            "--preset",
            "fast",
            "--seed",
            str(self.seed),
            "--out",
            str(self.folder),
        ]
        self.arguments = [sys.executable, "-c", START, "run", str(self.table), *where, *sets, "--json"]

    @property
    def checkpoint(self) -> Path:
        """The checkpoint."""
        return self.folder / "checkpoint.safetensors"

    @property
    def half_written(self) -> Path:
        """The checkpoint while it is being written."""
        return self.folder / ".checkpoint.safetensors.tmp"

    def stamp(self) -> int:
        """Return the time of the checkpoint, in nanoseconds; 0 if there is none."""
        try:
            return self.checkpoint.stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def start(self) -> subprocess.Popen[bytes]:
        """Start the run in a process group of its own, with a fresh log."""
        (self.folder / "log.txt").unlink(missing_ok=True)
        return subprocess.Popen(
            self.arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )

    def stage(self) -> str:
        """Return the stage that the log named last."""
        log = self.folder / "log.txt"
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        begun = [line.split()[2].rstrip(":") for line in lines if line.endswith(": started")]
        return begun[-1] if begun else "start"


def run(quick: bool = False, seed: int = 0) -> dict[str, Any]:
    """Kill, resume and compare.

    Args:
        quick: two kills of a shorter training, instead of ten.
        seed: seed of the data, the run and the moments.

    Returns:
        ``rows`` (one a kill) and a ``summary``, whose ``equal`` says whether every file is the same, bit for bit.

    Raises:
        SalienceError: a run ended with an error.
    """
    kills, epochs, rows = (2, 8, 120) if quick else (10, 40, 240)
    with tempfile.TemporaryDirectory(prefix="salience-resume-") as name, Stage("resume", kills + 2) as stage:
        table = Path(name) / "table.csv"
        toy_reviews.load(rows=rows, seed=seed).to_csv(table, index=False)
        whole = Job(table, Path(name) / "whole", epochs, seed)
        seconds = _left_alone(whole)
        stage.step("left alone")
        rng = generator(seed, "kills")
        records: list[dict[str, Any]] = []
        compared: list[dict[str, bool]] = []
        job = Job(table, Path(name) / "killed", epochs, seed)
        while len(records) < kills:
            delay = float(rng.uniform(0.0, seconds * 1.5 / kills))
            record = _kill_once(job, delay, aim_at_write=len(records) % 2 == 1)
            if record is None:  # it was quicker than the kill: compare, and begin another run
                compared.append(_same(whole, job))
                job = Job(table, Path(name) / f"killed {len(records)}", epochs, seed)
                continue
            records.append({"kill": len(records) + 1, **record})
            stage.step(f"kill {len(records)}: {record['stage']}")
        _finish(job)
        compared.append(_same(whole, job))
    return {"rows": records, "summary": _summary(records, compared)}


def _summary(records: list[dict[str, Any]], compared: list[dict[str, bool]]) -> dict[str, Any]:
    equal = {f"equal {name}": all(found[name] for found in compared) for name in SAME}
    return {
        "kills": len(records),
        "kills in training": sum(r["stage"] == "train" for r in records),
        "kills inside a checkpoint's writing": sum(r["half-written checkpoint"] for r in records),
        "unfinished folders refused": sum(r["load refused"] for r in records),
        "runs compared": len(compared),
        **equal,
        "equal": all(equal.values()),
    }


def _left_alone(job: Job) -> float:
    """Run to the end; return the seconds of training after the first checkpoint."""
    process = job.start()
    _wait(process, job.checkpoint.exists)
    began = time.perf_counter()
    _wait(process, lambda: job.stage() not in ("start", "train"))
    seconds = time.perf_counter() - began
    _ended(process)
    return seconds


def _finish(job: Job) -> None:
    _ended(job.start())


def _kill_once(job: Job, delay: float, *, aim_at_write: bool) -> dict[str, Any] | None:
    """Start, let it train for ``delay`` seconds after its first step, and kill; return None if it was done before."""
    before = job.stamp()
    process = job.start()
    _wait(process, lambda: job.stamp() != before or job.stage() not in ("start", "train"))
    until = time.perf_counter() + delay
    _wait(process, lambda: time.perf_counter() >= until)
    if aim_at_write:
        _wait(process, lambda: job.half_written.exists() or job.stage() != "train")
    if process.poll() is not None:
        _ended(process)
        return None
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    stage = job.stage()
    return {
        "stage": stage,
        "seconds after its first step": round(delay, 2),
        "aimed at": "a checkpoint's writing" if aim_at_write else "any moment",
        "half-written checkpoint": job.half_written.exists(),
        "steps done": _steps_done(job),
        "load refused": _refused(job.folder),
    }


def _steps_done(job: Job) -> int:
    """Return the optimiser steps that the whole checkpoint on disk holds."""
    import json

    from safetensors import safe_open

    if not job.checkpoint.exists():
        return 0
    with safe_open(job.checkpoint, framework="np") as file:
        return int(json.loads(file.metadata()["progress"])["updates"])


def _refused(folder: Path) -> bool:
    """Say whether an unfinished folder is refused, with the hint to run again."""
    from salience.api import Predictor

    try:
        Predictor.load(folder)
    except IntegrityError as error:
        return "again" in str(error)
    return False


def _same(one: Job, other: Job) -> dict[str, bool]:
    """Say for each file whether two finished runs agree to the last bit."""
    complete = all(read_json(job.folder / "run.json")["state"] == "complete" for job in (one, other))
    return {
        name: complete and (one.folder / name).read_bytes() == (other.folder / name).read_bytes()
        for name in SAME
    }


def _wait(process: subprocess.Popen[bytes], done: Any) -> None:
    """Wait until something is so or the process has ended."""
    late = time.perf_counter() + PATIENCE
    while process.poll() is None and not done():
        if time.perf_counter() > late:
            os.killpg(process.pid, signal.SIGKILL)
            raise SalienceError("The run hangs", f"after {PATIENCE:.0f} s", "Report it: this is a defect.")
        time.sleep(0.001)


def _ended(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=PATIENCE)
    if process.returncode:
        text = errors.decode(errors="replace").strip().splitlines()
        raise SalienceError(
            "A run ended with an error", text[-1] if text else "", "Report it: this is a defect."
        )
