"""Pages that are made from the code when the site is built: the command line, and the methods from their cards."""

import inspect
from typing import Any

from mkdocs.structure.files import File, Files

from salience.cli.main import COMMANDS, load_command
from salience.core.registry import KINDS, Card, cards

FIELDS = {
    "summary": "", "paper": "Paper", "source": "Source", "licence": "Licence", "faithful": "As published",
    "deviates": "Different", "cost": "Cost", "extras": "Extras",
}  # fmt: skip


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    for path, content in (("reference/cli.md", cli_page()), ("reference/methods.md", methods_page())):
        files.append(File.generated(config, path, content=content))
    return files


def cli_page() -> str:
    """Return the page of all commands, from the same texts as ``--help``."""
    lines = [
        "# Command line",
        "",
        "Every command takes `--json` (pure JSON on standard output; progress and notes go",
    ]
    lines += [
        "to standard error) and `--debug` (the traceback of an error). Exit codes: 0 done; 1 the answer is that"
    ]
    lines += ["something is wrong, or a defect; 2 a mistake that you can mend; 130 interrupted.", ""]
    for name, (_, summary) in COMMANDS.items():
        command = load_command(name)
        lines += [f"## salience {name}", "", summary, ""]
        for key, part in getattr(command, "commands", {name: command}).items():
            lines += _command(f"{name} {key}" if part is not command else name, part, part is not command)
    return "\n".join(lines)


def _command(name: str, command: Any, is_part: bool) -> list[str]:
    lines = [f"### salience {name}", ""] if is_part else []
    text = command.help.replace("[bold]", "**").replace("[/bold]", "**").replace(r"\[", "[")
    text, _, examples = text.partition("**Example")
    lines += [text.strip(), ""]
    if examples:
        block = inspect.cleandoc(examples.split("\n\n", 1)[1].replace("\u00a0", ""))
        lines += ["```text", *(line.strip() for line in block.splitlines()), "```", ""]
    lines += ["| option | meaning |", "|---|---|"]
    for parameter in command.params:
        names = ", ".join(f"`{option}`" for option in parameter.opts)
        if not parameter.opts[0].startswith("-"):
            names = f"`{(parameter.metavar or parameter.name.upper()).replace('|', ' or ')}`"
        help_text = (getattr(parameter, "help", "") or "").replace("|", r"\|")
        lines.append(f"| {names} | {help_text} |")
    return [*lines, ""]


def methods_page() -> str:
    """Return the page of all methods and data sets, from their cards."""
    lines = [
        "# Methods and data sets",
        "",
        "Made from the cards in the source files, as `salience list` is.",
        "",
    ]
    for kind in KINDS:
        found = cards(kind)
        if found:
            lines += [f"## {kind.capitalize()}s", ""]
            for card in found:
                lines += _card(card)
    return "\n".join(lines)


def _card(card: Card) -> list[str]:
    lines = [f"### {card.key}", "", f"**{card.get('title')}** · `{card.module}`", ""]
    for field, label in FIELDS.items():
        value = card.get(field)
        if value:
            text = "; ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            lines += [f"{label}: {text}" if label else text, ""]
    return lines
