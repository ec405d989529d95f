"""Entry of ``salience``. It knows the names of the commands, and imports a command only to run it."""

import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import wraps
from importlib import import_module
from inspect import Parameter, getdoc, signature
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import Abort, TyperException

from salience import __version__
from salience.core.errors import ConfigError, SalienceError

# Threads that wait for work sleep instead of spinning: on a busy machine a run takes about half the time.
# It must be set before torch starts its threads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

JOB, MODEL, LOOK_UP, MEASURE = "The job", "Step by step", "Look up", "Measure"
COMMANDS = {
    "run": (JOB, "Train, evaluate, explain and audit a model on a table; write one report."),
    "demo": (JOB, "Show an explained prediction in a few seconds, without a network."),
    "tune": (MODEL, "Search for the options with which a model is best on validation rows."),
    "train": (MODEL, "Train a model and save it."),
    "predict": (MODEL, "Predict rows with a saved model."),
    "evaluate": (MODEL, "Score a saved model on labelled rows."),
    "explain": (MODEL, "Explain predictions in words and numbers, with a test of each explanation."),
    "effects": (MODEL, "Say how each column of a table moves the answer, alone and in pairs."),
    "compare": (MODEL, "Compare ways of explaining a model: which one is truest, and what does it cost?"),
    "coherence": (
        MODEL,
        "Say how much the gradients of rows agree: whether a model still learns what they share.",
    ),
    "level": (MODEL, "Say how interpretable a system must be for what it decides, and whether it is."),
    "suspects": (MODEL, "Find labels that look wrong, with reasons and a control."),
    "audit": (MODEL, "Ask every check about a saved model; write a report."),
    "lm": (MODEL, "Train, score, sample and explain language models on plain text."),
    "clean": (
        MODEL,
        "Clean a text corpus: rules, near duplicates, a judge model; say what was dropped and why.",
    ),
    "data": (LOOK_UP, "Download, list and inspect data."),
    "list": (LOOK_UP, "List models, attentions, explainers, checks, data sets and the like."),
    "show": (LOOK_UP, "Show the card of one method or data set."),
    "doctor": (LOOK_UP, "Check the installation and say how to mend it."),
    "check": (MEASURE, "Test a method of yours against what all methods must do."),
    "bench": (MEASURE, "Run a benchmark, side by side with other packages."),
    "reproduce": (MEASURE, "Repeat a paper's experiment and compare with its numbers."),
}
RESUMABLE = {"run", "lm", "tune"}
EXIT_FAILURE, EXIT_USER_ERROR, EXIT_INTERRUPTED = 1, 2, 130


class Interrupted(Exception):
    """The user pressed Ctrl-C while a command ran."""


class LazyGroup(TyperGroup):
    """A group that lists its commands from :data:`COMMANDS` and imports the one that is called."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, (panel, line) in COMMANDS.items():
            self.commands[name] = TyperCommand(name, help=line, rich_help_panel=panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the called command and import it."""
        name, stub, rest = super().resolve_command(ctx, args)
        return name, (load_command(name) if stub and name else None), rest

    def invoke(self, ctx: Any) -> Any:
        """Run, and tell Ctrl-C from other exits."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted(ctx.invoked_subcommand) from None


def load_command(name: str) -> Any:
    """Import one command and return what typer makes of it."""
    module = import_module(f"salience.cli.commands.{name}")
    app = typer.Typer(add_completion=False, rich_markup_mode="rich", no_args_is_help=True)
    functions = getattr(module, "commands", None)
    if functions:
        app.callback(help=_help(COMMANDS[name][1], module.EXAMPLES))(lambda: None)
    for key, function in (functions or {name: module.command}).items():
        examples = () if functions else module.EXAMPLES
        app.command(key, help=_help(getdoc(function) or "", examples))(_with_common_options(function))
    return typer.main.get_command(app)


def _help(text: str, examples: tuple[str, ...]) -> str:
    title = "\n\n[bold]Examples[/bold]\n\n" if len(examples) > 1 else "\n\n[bold]Example[/bold]\n\n"
    lines = "\n".join(f"\u00a0 {example}".replace("[", r"\[") for example in examples)
    return text.replace("[", r"\[") + (title + lines if examples else "")


Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON; notes go to standard error.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def _with_common_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--json`` and ``--debug`` to a command, show progress while it runs, and print its answer."""

    @wraps(function)
    def call(*args: Any, json: bool = False, debug: bool = False, **options: Any) -> int:
        from salience.cli.answer import show
        from salience.cli.progress import shown

        stdout = sys.stdout
        with redirect_stdout(sys.stderr), shown():
            answer = function(*args, **options)
        show(answer, as_json=json, file=stdout)
        return answer.exit_code

    own = signature(function)
    common = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=False, annotation=hint)
        for name, hint in (("json", Json), ("debug", Debug))
    ]
    call.__signature__ = own.replace(parameters=[*own.parameters.values(), *common])  # type: ignore[attr-defined]
    call.__annotations__ = {**function.__annotations__, "json": Json, "debug": Debug}
    return call


app = typer.Typer(
    cls=LazyGroup,
    rich_markup_mode="rich",
    no_args_is_help=True,
    help="Train attention models on text, images and tables, see what they attend to, and measure whether to"
    " believe it.",
    epilog="Start with [bold]salience demo[/bold], then [bold]salience run clothing-reviews --drop"
    " Rating[/bold] or [bold]salience run my.csv --target y[/bold].",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"salience {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Take the options that belong to no command."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0: done. 1: the answer is that something is wrong, or an unexpected error. 2: the user can mend it. 130: Ctrl-C.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments or bool(os.environ.get("SALIENCE_DEBUG"))
    try:
        return _run(arguments)
    except BrokenPipeError:
        # the reader of a pipe (head, less) went away; point stdout elsewhere so that the exit stays quiet
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (SalienceError, TyperException) as error:
        if debug:
            raise
        return _fail(_explained(error), EXIT_USER_ERROR, arguments)
    except Interrupted as error:
        return _fail(_interrupted(str(error)), EXIT_INTERRUPTED, arguments)
    except Exception as error:
        if debug:
            raise
        return _fail(_unexpected(error), EXIT_FAILURE, arguments)


def _run(arguments: list[str]) -> int:
    try:
        code = typer.main.get_command(app).main(arguments, prog_name="salience", standalone_mode=False)
    except Abort:
        raise Interrupted(arguments[0] if arguments else "") from None
    sys.stdout.flush()
    return code if isinstance(code, int) else 0


def _explained(error: SalienceError | TyperException) -> SalienceError:
    """Turn an error of the argument parser into one of ours."""
    if isinstance(error, SalienceError):
        return error
    if type(error).__name__ == "NoArgsIsHelpError":  # typer has printed the help already
        return SalienceError("", code="")
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "salience"
    what, _, hint = error.format_message().partition(". ")
    return ConfigError(what, hint, f"See: {path} --help", code="SAL-C004")


def _interrupted(command: str) -> SalienceError:
    how = (
        "What was trained so far is kept; run the same command again to go on."
        if command in RESUMABLE
        else ""
    )
    return SalienceError("Interrupted", "", how, code="SAL-X130")


def _unexpected(error: Exception) -> SalienceError:
    first_line = next(iter(str(error).splitlines()), "")
    return SalienceError(
        f"Unexpected {type(error).__name__}",
        first_line,
        "This is a defect of salience: add --debug to see the traceback, and report it.",
        code="SAL-X001",
    )


def _fail(error: SalienceError, exit_code: int, arguments: list[str]) -> int:
    if not error.what:
        return exit_code
    if "--json" in arguments:
        from salience.core.io import dumps

        print(dumps(error.to_json()))
    print(str(error), file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
