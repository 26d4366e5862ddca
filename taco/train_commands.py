"""`taco data | base | distill | prepare | train`: from raw data to a trained compressor."""

import json
from pathlib import Path
from typing import Annotated

import typer

from taco.cache_commands import StoreOption, place_of
from taco.errors import UserError

train_app = typer.Typer()

Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Changes to the config, such as hyperparams.epochs=1", show_default=False),
]
TeacherOption = Annotated[
    Path | None,
    typer.Option(
        "--teacher",
        help="Settings of the service to start where none runs; default: the built-in teacher",
    ),
]


@train_app.command()
def data(
    task: Annotated[
        str,
        typer.Argument(
            help="meeting-qa, meeting-summary, code-summary, meetingbank, squad, codesearchnet; "
            "or a file of your own records, JSON or JSON lines"
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write")],
    source: Annotated[
        str | None, typer.Option(help="A public data set's local folder; default: the hub")
    ] = None,
    count: Annotated[
        int, typer.Option(min=1, help="Training records, where a task generates them")
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the generator")] = 0,
) -> None:
    """Make a task's data files: train, validation and test, with sizes and checksums."""
    from taco.data import make_data

    make_data(task, output, source=source, count=count, seed=seed)


@train_app.command()
def base(
    folder: Annotated[Path, typer.Argument(help="Where the compressor goes")],
    data: Annotated[Path, typer.Option(help="A data file, for vocabulary and labels")],
    rate: Annotated[
        float, typer.Option(min=0.01, max=0.99, help="What it is taught to keep; train at it, too")
    ] = 0.5,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Make a small compressor to start from where none can be downloaded."""
    from taco.data import make_small_base

    make_small_base(folder, data, rate=rate, seed=seed)


@train_app.command()
def distill(
    config: Annotated[Path, typer.Argument(help="Whose data, model and teacher are meant")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the compressor goes")],
    overrides: Overrides = None,
    encoder: Annotated[
        str | None,
        typer.Option(help="Start from this encoder, such as xlm-roberta-large, with a new head"),
    ] = None,
    small: Annotated[
        bool, typer.Option("--small", help="Start from a fresh encoder of 0.7M parameters")
    ] = False,
    instruction: Annotated[
        Path | None, typer.Option(help="A template with {transcript}; default: our own")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1)] = 10,
    batch_size: Annotated[int, typer.Option(min=1, help="Chunks a step")] = 10,
    lr: Annotated[float, typer.Option(min=0.0, help="Learning rate; it falls to 0")] = 1e-5,
    teacher: TeacherOption = None,
    store: StoreOption = None,
) -> None:
    """Make a base compressor from a teacher's delete-only compressions (stage 1)."""
    from taco.distill import Order, distill_command

    order = Order(output, encoder, instruction, epochs, batch_size, lr, small=small)
    distill_command(config, overrides or [], order, teacher, store and place_of(store))


@train_app.command()
def prepare(
    data: Annotated[Path, typer.Argument(help="A data file; its missing gpt_output are filled in")],
    config: Annotated[Path, typer.Option(help="Whose task says what the teacher is asked")] = Path(
        "configs/train_reinforce.yaml"
    ),
    overrides: Overrides = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Default: the data file itself")
    ] = None,
    teacher: TeacherOption = None,
    store: StoreOption = None,
) -> None:
    """Ask the teacher about the originals, so that there is something to compare with."""
    from taco.prepare import prepare_file

    prepare_file(data, output or data, config, overrides or [], teacher, store and place_of(store))


@train_app.command()
def train(
    config: Annotated[
        Path | None, typer.Argument(help="A YAML file, such as configs/train_reinforce.yaml")
    ] = None,
    overrides: Overrides = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Go on with this run's folder, from its last checkpoint; with a config, `auto`: "
            "its newest run, or a new one"
        ),
    ] = None,
    replay: Annotated[
        Path | None, typer.Option(help="Do a run again from its lock file, served from the store")
    ] = None,
    locked_masks: Annotated[
        bool,
        typer.Option("--locked-masks", help="With --replay: train on the recorded masks"),
    ] = False,
    reuse: Annotated[
        list[Path] | None,
        typer.Option(help="Learn from this finished run's rollouts, too; may be given again"),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print what the run may ask and cost, and ask nothing"),
    ] = False,
    input_per_million: Annotated[
        float | None, typer.Option(min=0, help="With --dry-run: USD for a million prompt tokens")
    ] = None,
    output_per_million: Annotated[
        float | None, typer.Option(min=0, help="With --dry-run: the same of completion tokens")
    ] = None,
    teacher: TeacherOption = None,
    store: StoreOption = None,
) -> None:
    """Train a compressor with REINFORCE, against the teacher service."""
    from taco.train import replay_run, resume_run, train_run

    overrides = overrides or []
    if resume and config and "=" in str(config):  # `--resume RUN budget.calls=2000`
        config, overrides = None, [str(config), *overrides]
    go_on = str(resume) == "auto"
    if go_on:
        resume = None
        if not config or replay:
            raise UserError("--resume auto: expected a config, whose newest run is meant")
    # A replay may have a config: that of the lock for other paths.
    if not (config or resume or replay) or (resume and (config or replay)):
        raise UserError("expected one of: a config, --resume RUN, --replay LOCK")
    if locked_masks and not replay:
        raise UserError("--locked-masks: expected --replay LOCK with it, whose masks are meant")
    if reuse:
        if not config or replay:
            raise UserError("--reuse: expected a config with it; a run that goes on keeps its own")
        overrides = [*overrides, f"reuse.runs={json.dumps([str(run) for run in reuse])}"]
    place = store and place_of(store)
    if dry_run:
        _dry_run(config, overrides, teacher, input_per_million, output_per_million)
    elif replay:
        replay_run(replay, config, overrides, place, locked_masks=locked_masks)
    elif resume:
        resume_run(resume, overrides, teacher, place)
    elif config:
        train_run(config, overrides, teacher, place, go_on=go_on)


def _dry_run(
    config: Path | None,
    overrides: list[str],
    teacher: Path | None,
    input_per_million: float | None,
    output_per_million: float | None,
) -> None:
    from taco.dry_run import Prices, show_forecast

    if config is None:
        raise UserError("--dry-run: expected a config, whose run is meant")
    given = None
    if input_per_million is not None or output_per_million is not None:
        given = Prices(input_per_million or 0.0, output_per_million or 0.0)
    show_forecast(config, overrides, teacher, given)
