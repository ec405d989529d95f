"""``salience check``."""

from dataclasses import asdict
from typing import Annotated

import typer

from salience.cli.answer import Answer

EXAMPLES = ("salience check disan", "salience check my_encoder.py", "salience check my_package.my_encoder")


def command(
    method: Annotated[
        str, typer.Argument(metavar="NAME|MODULE|FILE", help="A method: its name, its module, or its file.")
    ],
) -> Answer:
    """Test one method against what all methods must do, and against what its family must do.

    The exit code is 1 if a check fails.
    """
    from rich.text import Text

    from salience.cli.views import MARKS, table
    from salience.testing.cards import check_method

    card, results = check_method(method)
    failed = [result for result in results if not result.passed]
    rows = []
    for result in results:
        mark, style = MARKS["pass" if result.passed else "fail"]
        rows.append((Text(mark, style=style), result.check, result.message))
    verdict = f"{len(results) - len(failed)} of {len(results)} checks pass."
    data = {"key": card.key, "kind": card.kind, "passed": not failed, "results": [asdict(r) for r in results]}
    title = f"{card.key} ({card.kind})"
    return Answer(data, [table(title, ("", "check", "to mend"), rows), "", verdict], exit_code=bool(failed))
