"""Hold the package to the limits of ``budgets.yaml``."""

import ast
import io
import statistics
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import salience

ROOT = Path(__file__).parents[1]
PACKAGE = Path(salience.__file__).parent
BUDGETS = yaml.safe_load((ROOT / "budgets.yaml").read_text(encoding="utf-8"))
FILES = sorted(PACKAGE.rglob("*.py"))


def lines(path):
    return path.read_text(encoding="utf-8").count("\n")


def function_lengths(path):
    """Return the lines of each function of a file, without its docstring."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            docstring = first.end_lineno - first.lineno + 1 if documented else 0
            yield node.end_lineno - node.lineno + 1 - docstring, f"{path.relative_to(PACKAGE)}:{node.name}"


LENGTHS = [length for path in FILES for length in function_lengths(path)]


def test_core_dependencies():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert len(project["dependencies"]) <= BUDGETS["core_dependencies"]


@pytest.mark.parametrize("arguments", [["-c", "import salience"], ["-m", "salience.cli.main", "--help"]])
def test_modules_at_start(arguments):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, check=True
    )
    loaded = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "salience" in loaded
    assert not loaded & set(BUDGETS["modules_at_start"])


@pytest.mark.parametrize("layer", sorted(BUDGETS["lines"]))
def test_lines_of_each_layer(layer):
    assert sum(lines(path) for path in (PACKAGE / layer).rglob("*.py")) <= BUDGETS["lines"][layer]


def test_every_layer_has_a_budget():
    layers = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert layers <= BUDGETS["lines"].keys()


def test_largest_file():
    over = {
        str(path.relative_to(PACKAGE)): lines(path) for path in FILES if lines(path) > BUDGETS["largest_file"]
    }
    assert not over


def test_function_lengths():
    assert not [where for length, where in LENGTHS if length > BUDGETS["longest_function"]]
    assert statistics.median(length for length, _ in LENGTHS) <= BUDGETS["median_function"]


def test_wheel_size():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in PACKAGE.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, path.relative_to(PACKAGE))
    assert buffer.tell() <= BUDGETS["wheel_kb"] * 1024
