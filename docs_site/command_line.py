"""Every command with its arguments and options, from the parser."""

from collections.abc import Iterator
from typing import Any

import typer

from taco.cli import app


def commands() -> Iterator[str]:
    """Every command of `taco` in Markdown."""
    yield from _commands(typer.main.get_command(app), "taco")


def _commands(command: Any, name: str) -> Iterator[str]:
    """A group's own options if it can be called, then its commands, each with its options."""
    children = getattr(command, "commands", {})
    if not children or getattr(command, "invoke_without_command", False):
        yield _described(command, name)
    elif name != "taco":
        yield f"## `{name}`\n\n{command.help}\n"
    for child, its in children.items():
        yield from _commands(its, f"{name} {child}")


def _described(command: Any, name: str) -> str:
    context = typer.Context(command, info_name=name)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    head = f"## `{name}`\n\n{' '.join(command.help.split())}\n\nUsage: `{usage}`\n"
    rows = [
        f"| `{named}` | {_cell(said)} |"
        for parameter in command.params
        if (record := parameter.get_help_record(context))
        for named, said in [record]
    ]
    table = ["| | |\n|---|---|", *rows]
    return head + ("\n" + "\n".join(table) + "\n" if rows else "")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
