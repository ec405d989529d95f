"""The frame of the command line: lists, help, errors, exit codes, JSON."""

import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from salience.cli import main as cli
from salience.cli.answer import Answer
from salience.core.errors import DataError
from salience.core.progress import track


@pytest.fixture
def fake(monkeypatch):
    """Put a command of the test's own in place of ``demo``."""

    def install(function):
        module = SimpleNamespace(command=function, EXAMPLES=("salience demo",))
        real = cli.import_module
        monkeypatch.setattr(cli, "import_module", lambda n: module if n.endswith(".demo") else real(n))

    return install


def run(capsys, *arguments):
    code = cli.main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(
    "statement", ["import salience", "from salience.cli.main import main; main(['--help'])"]
)
def test_start_loads_neither_torch_nor_pandas_nor_numpy(statement):
    code = f"{statement}\nimport sys\nprint(sorted({{'torch', 'pandas', 'numpy', 'sklearn'}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_every_command_teaches(capsys, name):
    code, out, _ = run(capsys, name, "--help")
    assert code == 0
    assert f"salience {name}" in out.split("Example")[1]
    assert "Traceback" not in out


@pytest.mark.parametrize("name", [n for n in cli.COMMANDS if n not in ("data", "lm")])
def test_every_command_takes_json_and_debug(capsys, name):
    _, out, _ = run(capsys, name, "--help")
    assert "--json" in out
    assert "--debug" in out


@pytest.mark.parametrize(
    "names",
    [("data", n) for n in ("list", "download", "inspect")]
    + [("lm", n) for n in ("train", "evaluate", "generate", "explain")],
)
def test_every_command_of_a_group_takes_json(capsys, names):
    _, out, _ = run(capsys, *names, "--help")
    assert "--json" in out


def test_listing_imports_no_command(capsys, monkeypatch):
    monkeypatch.setattr(cli, "import_module", lambda name: pytest.fail(f"imported {name}"))
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert all(name in out for name in cli.COMMANDS)


def test_version(capsys):
    import salience

    assert run(capsys, "--version") == (0, f"salience {salience.__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runn"], "No such command 'runn'. Did you mean 'run'? See: salience --help [SAL-C004]"),
        (["run", "x.csv", "--tagret", "y"], "--target"),
        (["run"], "NAME|FILE"),
        (["run", "x.csv", "--seed", "abc"], "--seed"),
        (["run", "x.csv", "--preset", "god"], "god"),
        (["run", "x.csv", "--kind", "Age"], "COLUMN=KIND"),
        (["list", "modles"], "Did you mean 'models'"),
        (["show", "disn"], "Did you mean 'disan'"),
        (["bench", "nothing-like-it"], "Unknown benchmark"),
        (["check", "no/such/file.py"], "There is no file"),
    ],
)
def test_a_mistake_gives_one_line_and_exit_code_2(capsys, arguments, message):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_mistake_with_json_gives_json(capsys):
    code, out, err = run(capsys, "show", "disn", "--json")
    assert code == 2
    assert json.loads(out) == {
        "error": "Nothing is called 'disn'", "received": "", "fix": "Did you mean 'disan'?", "code": "SAL-C002",
    }  # fmt: skip
    assert err


def test_json_is_pure_and_notes_go_to_stderr(capsys, fake):
    def command() -> Answer:
        """Do it."""
        print("a library that talks")
        return Answer({"a": float("nan"), "b": [1]}, ["for a reader"])

    fake(command)
    code, out, err = run(capsys, "demo", "--json")
    assert (code, json.loads(out)) == (0, {"a": None, "b": [1]})
    assert "a library that talks" in err
    assert run(capsys, "demo")[1] == "for a reader\n"


def test_exit_code_of_the_answer_is_passed_on(capsys, fake):
    fake(lambda: Answer({}, exit_code=1))
    assert run(capsys, "demo")[0] == 1


def failing(error):
    def command() -> Answer:
        """Fail."""
        raise error

    return command


def test_our_errors_are_one_line(capsys, fake):
    fake(failing(DataError("No rows", "a.csv", "Add some.")))
    assert run(capsys, "demo") == (2, "", "No rows. a.csv Add some. [SAL-D000]\n")


def test_unexpected_error_is_one_line_and_says_how_to_see_more(capsys, fake):
    fake(failing(ZeroDivisionError("first\nsecond")))
    code, out, err = run(capsys, "demo")
    assert (code, out) == (1, "")
    assert err.startswith("Unexpected ZeroDivisionError. first This is a defect")
    assert "--debug" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["demo", "--debug"], ["--debug", "demo"]])
def test_debug_shows_the_traceback(fake, arguments):
    fake(failing(ZeroDivisionError("x")))
    with pytest.raises(ZeroDivisionError):
        cli.main(arguments)


def test_interrupt_ends_with_130(capsys, fake):
    fake(failing(KeyboardInterrupt()))
    assert run(capsys, "demo") == (130, "", "Interrupted. [SAL-X130]\n")


def test_interrupted_run_says_how_to_go_on():
    assert "run the same command again" in str(cli._interrupted("run"))


def test_completion_script_is_printed():
    environment = os.environ | {
        "_SALIENCE_COMPLETE": "complete_bash",
        "COMP_WORDS": "salience re",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "salience.cli.main"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["reproduce"]


def test_no_colour_when_not_a_terminal_or_asked_for(capsys):
    _, out, _ = run(capsys, "list", "datasets")
    assert "\x1b[" not in out


def test_a_closed_pipe_is_quiet():
    command = f"{sys.executable} -m salience.cli.main list | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_progress_in_a_log_is_one_line_for_long_stages(capsys, fake, monkeypatch):
    from salience.cli import progress

    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)

    def command() -> Answer:
        """Work."""
        list(track(range(3), "training"))
        return Answer({}, ["done"])

    fake(command)
    _, out, err = run(capsys, "demo")
    assert out == "done\n"
    assert re.fullmatch(r"training: \d+\.\d s\n", err)


def test_short_stages_leave_no_line(capsys, fake):
    def command() -> Answer:
        """Work."""
        list(track(range(3), "training"))
        return Answer({})

    fake(command)
    assert run(capsys, "demo") == (0, "", "")


def test_bars_show_the_stage_and_its_note():
    import io

    from rich.console import Console

    from salience.cli.progress import BarListener

    listener = BarListener()
    listener.progress.live.console = Console(file=io.StringIO(), force_terminal=True, width=100)
    handle = listener.start("training", 4)
    listener.advance(handle, "AUROC 0.91")
    (task,) = listener.progress.tasks
    assert (task.description, task.completed, task.total, task.fields["note"]) == (
        "training",
        1,
        4,
        "AUROC 0.91",
    )
    listener.advance(handle, "")
    assert task.fields["note"] == "AUROC 0.91"
    listener.finish(handle)
    assert listener.progress.tasks == []
