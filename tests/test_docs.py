"""Run every fenced ``python`` and ``bash`` block of the documentation.

The blocks of a page run in order, in one folder and one namespace. A block that cannot run here (it needs a network,
or a long time) is marked ``text`` on the page. Where it can, ``salience`` starts with its libraries imported (see
warm_python.py); on the first page it is the installed command itself.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")
GENERATED = {"docs/reference/cli.md", "docs/reference/methods.md"}
SECONDS = 900  # only against hanging: a busy machine may be ten times slower


def blocks(path):
    """Return language, text and line of each fenced block."""
    text = path.read_text(encoding="utf-8")
    return [(m[1], m[2], text[: m.start()].count("\n") + 2) for m in FENCE.finditer(text)]


def name(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize(
    "path", [p for p in PAGES if any(b[0] in ("python", "bash") for b in blocks(p))], ids=name
)
def test_blocks_run(path, tmp_path, monkeypatch, request):
    import torch

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    folders = [Path(sys.executable).parent]
    if path.name != "index.md" and any(b[0] == "bash" for b in blocks(path)):
        folders.insert(0, request.getfixturevalue("warm").folder)
    threads = torch.get_num_threads()
    namespace = {"__name__": f"page_{path.stem}"}
    try:
        for language, text, line in blocks(path):
            if language == "python":
                exec(compile("\n" * (line - 1) + text, str(path), "exec"), namespace)
            elif language == "bash":
                run_bash(text, folders, f"{name(path)}, line {line}")
    finally:
        torch.set_num_threads(threads)


def run_bash(text, folders, where):
    paths = os.pathsep.join(map(str, [*folders, os.environ["PATH"]]))
    environment = os.environ | {"PATH": paths, "OMP_NUM_THREADS": "1"}
    command = [shutil.which("bash") or "bash", "-euo", "pipefail", "-c", text]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, f"{where}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_every_block_says_its_language(path):
    unknown = [(line, language) for language, _, line in blocks(path) if language not in KNOWN]
    assert not unknown


KNOWN = {"python", "bash", "text", "yaml", "json", "toml"}


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_inside_the_project_lead_somewhere(path):
    targets = LINK.findall(path.read_text(encoding="utf-8"))
    missing = [t for t in targets if not (path.parent / t).exists() and name_of(path, t) not in GENERATED]
    assert not missing


def name_of(path, target):
    return os.path.relpath((path.parent / target).resolve(), ROOT)


def test_every_error_code_is_explained():
    page = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py")]
    codes = {code for text in sources for code in re.findall(r"\"(SAL-[A-Z]\d{3})\"", text)}
    assert len(codes) > 20
    assert sorted(code for code in codes if f"| {code} |" not in page) == []


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if f" {page}\n" not in navigation] == []
