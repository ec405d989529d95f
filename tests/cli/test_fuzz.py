"""Damaged files given to the command line: one line or an answer, never a traceback, never half a file."""

import importlib.util
import json
import random
from pathlib import Path

import pytest

from salience.cli import main as cli

FILES = 100
ARGUMENTS = 150


@pytest.fixture(scope="module")
def fuzz():
    """Return the generator of damaged inputs that the readers are tested with."""
    path = Path(__file__).parents[1] / "data" / "fuzz.py"
    spec = importlib.util.spec_from_file_location("fuzz_inputs_for_the_command_line", path)
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_inspect_of_damaged_files(capsys, fuzz, tmp_path):
    answered = refused = 0
    for index in range(FILES):
        folder = tmp_path / str(index)
        folder.mkdir()
        _, source = fuzz.make(index, 7, folder)
        if not isinstance(source, str | Path):
            continue
        code = cli.main(["data", "inspect", str(source), "--json"])
        said = capsys.readouterr()
        data = json.loads(said.out)
        assert code in (0, 2), said.err
        if code == 2:
            assert data.keys() == {"error", "received", "fix", "code"}
            assert len(said.err.splitlines()) == 1
        answered, refused = answered + (code == 0), refused + (code == 2)
    assert answered > 5
    assert refused > 5


def test_random_arguments_end_in_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = random.Random(0)
    words = [
        *cli.COMMANDS, "--json", "--set", "--kind", "--row", "--out", "-1", "", "=", "a=b", "--seed", "x", "\x00",
        "no-such-file.csv", "é", "--", "-", "[bold]", "--preset", "fast",
    ]  # fmt: skip
    for _ in range(ARGUMENTS):
        arguments = [rng.choice(words) for _ in range(rng.randint(1, 6))]
        if arguments[0] in ("demo", "doctor", "bench", "reproduce") or "--debug" in arguments:
            continue
        code = cli.main(arguments)
        said = capsys.readouterr()
        assert code in (0, 1, 2), (arguments, said.err)
        assert "defect" not in said.err, (arguments, said.err)
        assert "Traceback" not in said.err
