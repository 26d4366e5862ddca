"""`taco cache verify-lock | bundle | unbundle`: a run's lock file and the answers that it names."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from taco.cache_commands import StoreOption, place_of

lock_app = typer.Typer()


@lock_app.command("verify-lock")
def verify_lock(
    lock: Annotated[Path, typer.Argument(help="A run's lock file, such as runs/NAME/run.lock")],
    store: StoreOption = None,
) -> None:
    """Check a lock and that the store holds its every answer; ends with status 1 if it does not."""
    from cache.lock_checking import check_needs
    from taco.cache_tables import print_figures, print_rows, progress_bar
    from trainer.learning.lockfile import check_lock

    summary = check_lock(lock)
    with progress_bar("looking up") as progress:
        report = check_needs(place_of(store), lock, progress)
    figures = {"root": summary.root, "rollouts": summary.leaves, "answers": report.answers}
    print_figures(str(lock), {**figures, "missing": report.missing})
    if report.missing:
        rows = [
            [
                each.needed.place,
                each.needed.key.hex(),
                each.needed.content_digest.hex()[:12],
                ", ".join(digest.hex()[:12] for digest in each.others) or "nothing",
            ]
            for each in report.named
        ]
        columns = ["first used at", "key", "answer", "stored instead"]
        print_rows(f"Missing ({len(rows)} answers named)", columns, rows)
        raise typer.Exit(1)


@lock_app.command()
def bundle(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run, such as runs/NAME")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The new archive; default: NAME.tar.gz")
    ] = None,
    store: StoreOption = None,
) -> None:
    """Pack a run with its data, base model and answers: enough to do it again anywhere."""
    from taco.bundling import bundle_run
    from taco.cache_tables import print_figures, progress_bar

    target = output or Path(f"{run.resolve().name}.tar.gz")
    with progress_bar("packing") as progress:
        report = bundle_run(run, target, place_of(store), progress)
    print_figures(str(target), asdict(report))


@lock_app.command()
def unbundle(
    archive: Annotated[Path, typer.Argument(help="What `taco cache bundle` wrote")],
    folder: Annotated[
        Path | None, typer.Argument(help="A new folder; default: the archive's name")
    ] = None,
) -> None:
    """Check and unpack a bundle; prints the command that does the run again."""
    from taco.cache_tables import progress_bar
    from taco.unbundling import unbundle as unpack

    target = folder or Path(archive.name.removesuffix(".gz").removesuffix(".tar"))
    with progress_bar("unpacking") as progress:
        done = unpack(archive, target, progress)
    if done.foreign_metric:
        typer.echo(
            f"The reward is {done.foreign_metric}: code that is not in the bundle and that the "
            "command imports. Look at it first."
        )
    typer.echo(
        f"Every digest is right. The run again, without teacher and network:\n{done.command}"
    )
