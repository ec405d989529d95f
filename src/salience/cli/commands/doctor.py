"""``salience doctor``."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from salience import __version__
from salience.cli.answer import Answer
from salience.core.extras import EXTRAS, version_tuple

EXAMPLES = ("salience doctor", "salience doctor --json")
MARKS = {"ok": "pass", "warning": "warn", "broken": "fail", "info": "info"}
PACKAGES = (
    "torch", "numpy", "scipy", "pandas", "pyarrow", "scikit-learn", "pillow", "tokenizers", "safetensors",
    "accelerate", "typer", "rich", "jinja2", "pyyaml",
)  # fmt: skip
LOWEST_PANDAS = "2.2"
LOW_SPACE_BYTES = 1 << 30
IMPORT_SECONDS = 120
REINSTALL = "Run: pip install --force-reinstall {}"


@dataclass(frozen=True)
class Diagnosis:
    """Say how one part of the installation is: ``state`` is ok, info, warning or broken."""

    part: str
    state: str
    found: str
    cure: str = ""


def command() -> Answer:
    """Check versions, devices, threads, extras, cache and known bad combinations; say how to mend what is wrong.

    The exit code is 1 if something is broken.
    """
    from rich.text import Text

    from salience.cli.views import MARKS as VERDICT_MARKS
    from salience.cli.views import table

    found = [diagnosis for examine in EXAMINATIONS for diagnosis in examine()]
    rows = []
    for diagnosis in found:
        mark, style = VERDICT_MARKS[MARKS[diagnosis.state]]
        rows.append((Text(mark, style=style), diagnosis.part, f"{diagnosis.found} {diagnosis.cure}".strip()))
    broken = [diagnosis.part for diagnosis in found if diagnosis.state == "broken"]
    verdict = f"Broken: {', '.join(broken)}." if broken else "Everything that salience needs works."
    data = {"healthy": not broken, "diagnoses": [asdict(diagnosis) for diagnosis in found]}
    return Answer(
        data, [table("Installation", ("", "part", "found"), rows), "", verdict], exit_code=len(broken) > 0
    )


def installed(distribution: str) -> str | None:
    """Return the version of a distribution, None if it is absent."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def examine_python() -> Iterator[Diagnosis]:
    """Report Python, the machine and salience itself."""
    where = f"{platform.system()} {platform.machine()}"
    yield Diagnosis("salience", "ok", f"{__version__} on Python {platform.python_version()}, {where}")


def examine_packages() -> Iterator[Diagnosis]:
    """Report the core packages that are absent, and the versions of the others."""
    versions = {name: installed(name) for name in PACKAGES}
    for name, version in versions.items():
        if version is None:
            yield Diagnosis(name, "broken", "not installed.", f"Run: pip install {name}")
    shown = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    yield Diagnosis("packages", "ok", shown)
    pandas = versions["pandas"]
    if pandas and version_tuple(pandas) < version_tuple(LOWEST_PANDAS):
        yield Diagnosis(
            "pandas", "broken", f"{pandas}, older than {LOWEST_PANDAS}.", REINSTALL.format("pandas")
        )


def examine_torch() -> Iterator[Diagnosis]:
    """Import torch, hand an array over, and compare its build with the devices."""
    try:
        import numpy as np
        import torch

        torch.from_numpy(np.ones(2)).numpy()
    except Exception as error:
        reason = f"torch and numpy do not work together: {error}".splitlines()[0]
        yield Diagnosis("torch", "broken", reason, REINSTALL.format("torch numpy"))
        return
    yield from _devices(torch)
    yield _threads(torch.get_num_threads(), _cores())


def _devices(torch: Any) -> Iterator[Diagnosis]:
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        yield Diagnosis("device", "ok", f"CUDA {torch.version.cuda}: {', '.join(names)}")
        if find_spec("triton") is None:
            yield Diagnosis(
                "triton", "warning", "not installed; compiled kernels are off.", "Run: pip install triton"
            )
        return
    if getattr(torch.backends, "mps", None) and torch.backends.mps.is_available():
        yield Diagnosis("device", "ok", "Apple GPU (mps)")
        return
    yield Diagnosis("device", "ok", "CPU; no GPU is visible")
    yield Diagnosis(
        "triton", "info", "not needed without a GPU" if find_spec("triton") is None else "installed"
    )
    if torch.version.cuda:
        yield Diagnosis(
            "torch build",
            "warning",
            f"built for CUDA {torch.version.cuda}, but no GPU is visible: several GB are not used.",
            "Install a CPU build of torch, or mend the driver.",
        )


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _threads(threads: int, cores: int) -> Diagnosis:
    found = f"{threads} threads on {cores} cores"
    if threads > cores:
        return Diagnosis("threads", "warning", f"{found}: too many.", f"Set OMP_NUM_THREADS={cores}")
    return Diagnosis("threads", "ok", found)


def examine_torchvision() -> Iterator[Diagnosis]:
    """Try torchvision, which salience never needs, since a broken one also breaks transformers."""
    if find_spec("torchvision") is None:
        return
    version = installed("torchvision")
    if imports("import torchvision"):
        yield Diagnosis("torchvision", "info", f"{version}, works; salience does not use it")
        return
    yield Diagnosis(
        "torchvision",
        "broken",
        f"{version} does not fit torch {installed('torch')} and cannot be imported.",
        "salience does not need it. Run: pip uninstall torchvision",
    )
    if find_spec("transformers") is not None and not imports("from transformers import BertModel"):
        yield Diagnosis(
            "transformers",
            "broken",
            f"{installed('transformers')} cannot load models because torchvision is broken.",
            "Run: pip uninstall torchvision",
        )


def imports(statement: str) -> bool:
    """Return whether a statement runs in a fresh interpreter, so that a broken package harms nothing here."""
    command_line = [sys.executable, "-c", statement]
    try:
        done = subprocess.run(command_line, capture_output=True, timeout=IMPORT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def examine_extras() -> Iterator[Diagnosis]:
    """Report which extras are installed, and how to install the others."""
    extras: dict[str, list[tuple[str, str]]] = {}
    for distribution, lowest, extra in EXTRAS.values():
        extras.setdefault(extra, []).append((distribution, lowest))
    for extra, packages in extras.items():
        versions = {name: installed(name) for name, _ in packages}
        absent = [name for name, version in versions.items() if version is None]
        old = [
            f"{name} {versions[name]} (need {lowest})"
            for name, lowest in packages
            if versions[name] and version_tuple(versions[name] or "") < version_tuple(lowest)
        ]
        line = f"Run: pip install 'salience[{extra}]' {_same_torch()}".rstrip()
        if old:
            yield Diagnosis(f"[{extra}]", "warning", f"too old: {', '.join(old)}.", line)
        elif absent:
            yield Diagnosis(f"[{extra}]", "info", f"optional, not installed: {', '.join(absent)}.", line)
        else:
            yield Diagnosis(f"[{extra}]", "ok", ", ".join(f"{n} {v}" for n, v in versions.items()))


def _same_torch() -> str:
    """Keep pip from replacing a CPU build of torch by several GB of a CUDA build."""
    version = installed("torch")
    return f"torch=={version.partition('+')[0]}" if version else ""


def examine_cache() -> Iterator[Diagnosis]:
    """Report where downloads are kept, whether that can be written, and the space left."""
    from salience.data.datasets.download import cache_folder

    folder = cache_folder()
    home = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(home).free
    found = f"{folder}, {_size(folder) / 1e6:.0f} MB used, {free / 1e9:.1f} GB free"
    if not os.access(home, os.W_OK):
        yield Diagnosis(
            "cache", "broken", f"{found}; it cannot be written.", "Set SALIENCE_CACHE to another folder."
        )
    elif free < LOW_SPACE_BYTES:
        yield Diagnosis("cache", "warning", f"{found}; space is short.", "Free some, or set SALIENCE_CACHE.")
    else:
        yield Diagnosis("cache", "ok", found)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.exists() else 0


EXAMINATIONS: tuple[Callable[[], Iterator[Diagnosis]], ...] = (
    examine_python,
    examine_packages,
    examine_torch,
    examine_torchvision,
    examine_extras,
    examine_cache,
)
