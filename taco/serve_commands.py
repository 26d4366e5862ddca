"""`taco serve`: the service in the foreground, and `taco serve keys` for those who may use it."""

import time
from pathlib import Path
from typing import Annotated

import typer

from taco.cache_commands import StoreOption

serve_app = typer.Typer(invoke_without_command=True)
keys_app = typer.Typer(
    help="Who may use the service. Once there is a key, nobody gets in without one.",
    no_args_is_help=True,
)
serve_app.add_typer(keys_app, name="keys")

NameArgument = Annotated[str, typer.Argument(help="Whose key it is, such as `trainer`")]
FileOption = Annotated[
    Path | None,
    typer.Option("--file", help="Default: keys.json beside the default store", show_default=False),
]


@serve_app.callback()
def serve(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option(help="A YAML file, such as configs/teacher/builtin.yaml")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Instead of the settings' host")] = None,
    port: Annotated[int | None, typer.Option(help="Instead of the settings' port")] = None,
    mode: Annotated[str | None, typer.Option(help="record | replay | refresh | off")] = None,
    store: StoreOption = None,
) -> None:
    """Run the teacher service in the foreground."""
    if context.invoked_subcommand:
        return
    from teacher_service import load_settings
    from teacher_service import serve as run_service

    given = {"host": host, "port": port, "mode": mode, "store": store}
    overrides = {key: value for key, value in given.items() if value is not None}
    run_service(load_settings(config, overrides))


@keys_app.command("add")
def add(
    name: NameArgument,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="use: ask for completions; read: look into store and ledger; admin: everything",
            show_default="use",
        ),
    ] = None,
    file: FileOption = None,
) -> None:
    """Make a key and print it, this once: only its SHA-256 is kept."""
    from teacher_service.keys import add_key, default_keys_path

    typer.echo(add_key(file or default_keys_path(), name, scope or ["use"]))


@keys_app.command("list")
def list_(file: FileOption = None) -> None:
    """Show names, scopes and ages; the keys themselves are not known here."""
    from rich.console import Console
    from rich.table import Table

    from teacher_service.keys import default_keys_path, read_keys

    path = file or default_keys_path()
    keys = read_keys(path)
    if keys is None:
        typer.echo(f"{path}: no keys, so that none is asked for")
        return
    table = Table("name", "may", "made")
    for key in keys:
        made = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(key.created_at))
        table.add_row(key.name, ", ".join(key.scopes), made)
    Console().print(table)


@keys_app.command("revoke")
def revoke(name: NameArgument, file: FileOption = None) -> None:
    """Take a key back; a running service hears of it within a second."""
    from teacher_service.keys import default_keys_path, revoke_key

    revoke_key(file or default_keys_path(), name)
    typer.echo(f"{name}: revoked")
