"""`taco cache`: look into the store of completions, and take care of it."""

import re
import sys
import time
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from cache import default_store_path, parse_place, shown_place
from cache.on_conflict import OnConflict
from taco.errors import UserError

cache_app = typer.Typer(
    help="Look into the store of completions, and take care of it.", no_args_is_help=True
)

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="The store's file, or postgresql://…; default: $TACO_HOME/completions.sqlite",
    ),
]
KeysOption = Annotated[
    list[str] | None,
    typer.Option("--key", help="Only this key; may be given several times", show_default=False),
]
TeacherOption = Annotated[
    str | None, typer.Option("--teacher", help="Only this teacher: name, or start of the digest")
]
_TEXT = typer.Argument(help="The whole text, not a part of it; - reads it from standard input")
ConflictOption = Annotated[
    OnConflict,
    typer.Option(
        "--on-conflict",
        help="Answers that differ: fail (add nothing), keep (drop the other), "
        "record (keep the other as an alternate)",
    ),
]

_UNITS_S = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@cache_app.command()
def stats(store: StoreOption = None) -> None:
    """Say how much the store holds."""
    from cache import CompletionStore
    from taco.cache_tables import print_figures

    with CompletionStore.open(place_of(store), read_only=True) as opened:
        print_figures(str(opened.place), asdict(opened.stats()))


@cache_app.command()
def show(
    key: Annotated[str, typer.Argument(help="A key, or its first hexadecimal digits")],
    store: StoreOption = None,
) -> None:
    """Show everything about one key: request, answer, alternates, refusals."""
    from cache.maintenance import reading
    from cache.records import records_of
    from cache.selection import find_key
    from taco.cache_tables import print_record

    with reading(place_of(store)) as connection:
        found = find_key(connection, key)
        print_record(records_of(connection, [found])[found])


@cache_app.command()
def find(text: Annotated[str, _TEXT], store: StoreOption = None) -> None:
    """List everything that was ever asked about a compressed text."""
    from cache.maintenance import reading
    from cache.records import read_records
    from cache.selection import Selection
    from taco.cache_tables import print_records

    with reading(place_of(store)) as connection:
        records = list(read_records(connection, Selection(text=_text(text))))
    if not records:
        raise UserError("nothing was ever asked about exactly this text")
    print_records(f"{len(records):,} requests", records)


@cache_app.command()
def export(
    target: Annotated[Path, typer.Argument(help="The new file, JSON lines")],
    store: StoreOption = None,
    teacher: TeacherOption = None,
    text: Annotated[str | None, typer.Option(help="Only this compressed text")] = None,
    key: KeysOption = None,
    since: Annotated[
        datetime | None, typer.Option(help="Only what was first asked then or later (local time)")
    ] = None,
) -> None:
    """Write the store, or a part of it, as lines that any program can read."""
    from cache.exporting import export_store
    from cache.selection import Selection
    from taco.cache_tables import print_figures, progress_bar

    selection = Selection(teacher, text, _keys(store, key), since.timestamp() if since else None)
    with progress_bar("exporting") as progress:
        report = export_store(place_of(store), target, selection, progress)
    print_figures(str(target), asdict(report))


@cache_app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="A file that `taco cache export` wrote")],
    store: StoreOption = None,
    on_conflict: ConflictOption = OnConflict.RECORD,
) -> None:
    """Add an export to the store: all of it, or nothing."""
    from cache.importing import import_store
    from taco.cache_tables import print_merge, progress_bar

    with progress_bar("importing") as progress:
        report = import_store(place_of(store), source, on_conflict, progress)
    print_merge(f"{source} -> {shown_place(place_of(store))}", report)


@cache_app.command()
def merge(
    sources: Annotated[list[str], typer.Argument(help="Other stores: files, or postgresql://…")],
    store: StoreOption = None,
    on_conflict: ConflictOption = OnConflict.RECORD,
) -> None:
    """Add other stores to the store: all of them, or nothing."""
    from cache.merging import merge_stores
    from taco.cache_tables import print_merge, progress_bar

    target, places = place_of(store), [parse_place(source) for source in sources]
    with progress_bar("merging") as progress:
        report = merge_stores(target, places, on_conflict, progress)
    print_merge(f"{', '.join(map(shown_place, places))} -> {shown_place(target)}", report)


@cache_app.command()
def verify(store: StoreOption = None) -> None:
    """Compute every hash again; names the bad rows, and then ends with status 1."""
    from cache.verifying import verify_store
    from taco.cache_tables import print_verification, progress_bar

    with progress_bar("verifying") as progress:
        report = verify_store(place_of(store), progress)
    print_verification(shown_place(place_of(store)), report)
    if report.bad:
        raise typer.Exit(1)


@cache_app.command()
def prune(
    store: StoreOption = None,
    teacher: TeacherOption = None,
    older_than: Annotated[
        str | None, typer.Option(help="Only what was first asked longer ago: 90d, 12h, 4w, 30m")
    ] = None,
    keep_lock: Annotated[
        list[Path] | None,
        typer.Option(help="A run's lock file: what it needs stays; may be given several times"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run/--no-dry-run", help="Only say what would be removed")
    ] = True,
) -> None:
    """Remove entries that you pick. Shows what it would do, until you say --no-dry-run."""
    from cache.pruning import preview_prune, prune_store
    from cache.selection import Selection
    from taco.cache_tables import print_figures, progress_bar

    before = time.time() - _seconds(older_than) if older_than else None
    selection, locks = Selection(teacher, before=before), keep_lock or []
    if dry_run:
        report = preview_prune(place_of(store), selection, locks)
        figures = {**asdict(report), "removed": "0 (a preview; --no-dry-run removes them)"}
        print_figures(shown_place(place_of(store)), {**figures, "would be removed": report.removed})
        return
    with progress_bar("pruning") as progress:
        report = prune_store(place_of(store), selection, locks, progress)
    print_figures(shown_place(place_of(store)), asdict(report))


@cache_app.command()
def promote(
    key: Annotated[str, typer.Argument(help="A key, or its first hexadecimal digits")],
    digest: Annotated[str, typer.Argument(help="The alternate's content digest, or its start")],
    store: StoreOption = None,
) -> None:
    """Serve an alternate from now on; the former answer becomes an alternate."""
    from cache.promoting import promote_alternate
    from taco.cache_tables import print_records

    print_records("Promoted", [promote_alternate(place_of(store), key, digest)])


@cache_app.command()
def forget(
    text: Annotated[str | None, _TEXT] = None,
    key: KeysOption = None,
    run: Annotated[
        str | None, typer.Option(help="All that this run was served; `taco cache runs` lists them")
    ] = None,
    store: StoreOption = None,
) -> None:
    """Remove all that was asked about a text (or these keys), and its bytes from the disk."""
    from cache.forgetting import forget_keys, forget_run, forget_text
    from taco.cache_tables import print_figures, progress_bar

    if [text is not None, bool(key), run is not None].count(True) != 1:
        raise UserError("expected one of: a text, --key KEY (once or several times), --run RUN")
    with progress_bar("forgetting") as progress:
        if text is not None:
            report = forget_text(place_of(store), _text(text), progress)
        elif run is not None:
            report = forget_run(place_of(store), run, progress)
        else:
            report = forget_keys(place_of(store), key or [], progress)
    print_figures(
        shown_place(place_of(store)), {**asdict(report), "copies": _listed(report.copies)}
    )


@cache_app.command()
def backup(
    target: Annotated[Path, typer.Argument(help="The new file, a store like the original")],
    store: StoreOption = None,
) -> None:
    """Copy the store while a service writes to it, and verify the copy."""
    from cache.backup import back_up_store
    from taco.cache_tables import print_figures, progress_bar

    place = place_of(store)
    if isinstance(place, str):
        raise UserError(
            f"{shown_place(place)}: expected a file; back a database up with its own pg_dump "
            "(docs/postgresql.md), or export it"
        )
    with progress_bar("copying, then verifying") as progress:
        report = back_up_store(place, target, progress)
    print_figures(str(target), asdict(report))


@cache_app.command()
def migrate(store: StoreOption = None) -> None:
    """Bring the store to the newest schema; a file is backed up beside itself first."""
    import cache
    from cache.schema import SCHEMA_VERSION
    from taco.cache_tables import print_figures

    cache.migrate(place_of(store))
    print_figures(shown_place(place_of(store)), {"schema version": SCHEMA_VERSION})


def place_of(store: str | None) -> Path | str:
    """Where the store is: a file, or a database's URL."""
    return parse_place(store) if store else default_store_path()


def _text(text: str) -> str:
    """What the argument stands for; the newline that a shell adds at the end is not part of it."""
    return sys.stdin.read().removesuffix("\n") if text == "-" else text


def _keys(store: str | None, starts: list[str] | None) -> list[bytes] | None:
    """The whole keys that start with these digits; None: no choice was made."""
    from cache.maintenance import reading
    from cache.selection import find_key

    if starts is None:
        return None
    with reading(place_of(store)) as connection:
        return [find_key(connection, start) for start in starts]


def _seconds(age: str) -> float:
    found = re.fullmatch(r"(\d+)([mhdw])", age)
    if not found:
        raise UserError(f"--older-than: expected a number and one of m, h, d, w (90d), got {age!r}")
    return int(found[1]) * _UNITS_S[found[2]]


def _listed(paths: tuple[Path, ...]) -> str:
    return "\n".join(f"{path} (still holds it; remove it by hand)" for path in paths) or "none"
