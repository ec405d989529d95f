"""Arguments and options that several commands share, so that they are worded once."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from salience.core.errors import ConfigError

Source = Annotated[
    str,
    typer.Argument(
        metavar="NAME|FILE",
        help="A file (CSV, TSV, JSON lines, Parquet, also compressed), a folder of image folders, or the name of"
        " a data set (salience list datasets).",
    ),
]
Rows = Annotated[str, typer.Argument(metavar="FILE", help="The rows: a file or the name of a data set.")]
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A folder that 'run' or 'train' wrote.")]
Target = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Column to predict; several with commas: a,b.")
]
Drop = Annotated[
    list[str] | None, typer.Option(metavar="COLUMN", help="Leave a column out. May be given more than once.")
]
Kind = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN=KIND",
        help="Set a column's kind: text, image, number, category; or group, time, ignored. May be repeated.",
    ),
]
Preset = Annotated[
    Literal["fast", "good", "best"],
    typer.Option(metavar="[fast|good|best]", help="fast for a first look, best for the last percent."),
]
TimeLimit = Annotated[
    float | None, typer.Option(metavar="MINUTES", min=0.01, help="Stop training after this long.")
]
Seed = Annotated[
    int | None, typer.Option(metavar="N", min=0, help="The same seed gives the same numbers. Default: 0.")
]
Seeds = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="Train this many models with seeds of their own and average their answers."
    ),
]
Config = Annotated[Path | None, typer.Option(metavar="FILE", help="YAML file of options.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Set one option, as in training.epochs=3. May be repeated."
    ),
]


def parse_kinds(texts: list[str] | None) -> dict[str, str]:
    """Turn ``["Age=number"]`` into ``{"Age": "number"}``; a column name may hold ``=``."""
    return parse_pairs(texts, "--kind", "COLUMN=KIND", "Age=number")


def parse_pairs(texts: list[str] | None, option: str, form: str, example: str) -> dict[str, str]:
    """Turn texts such as ``"Age=number"`` into a mapping; what is left of the last ``=`` may hold others.

    Raises:
        ConfigError: a text has another form.
    """
    pairs = {}
    for text in texts or []:
        column, sign, value = text.rpartition("=")
        if not sign or not column or not value:
            raise ConfigError(
                f"{option} needs the form {form}",
                repr(text),
                f"For example {option} {example}.",
                code="SAL-C004",
            )
        pairs[column] = value
    return pairs


def unescaped(text: str | None) -> str | None:
    r"""Turn the two characters ``\n``, as a shell passes them, into a line break, and ``\t`` into a tab."""
    return text.replace(r"\n", "\n").replace(r"\t", "\t") if text else text
