"""The `taco` command. Parsing comes first; a command imports what is heavy when it runs."""

import sys
import warnings
from pathlib import Path
from typing import Annotated, Literal

import typer

from taco.cache_commands import StoreOption, cache_app, place_of
from taco.errors import UserError
from taco.lock_commands import lock_app
from taco.serve_commands import serve_app
from taco.train_commands import Overrides, TeacherOption, train_app
from taco.usage_commands import usage_app

app = typer.Typer(
    help="Fine-tune a prompt compressor for your task, with rewards that are bought once.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
cache_app.add_typer(usage_app)
cache_app.add_typer(lock_app)
app.add_typer(train_app)
app.add_typer(cache_app, name="cache")
app.add_typer(serve_app, name="serve")


@app.command()
def demo(
    teacher_url: Annotated[
        str | None,
        typer.Option(help="A service that runs already; default: one of its own, started here"),
    ] = None,
) -> None:
    """Show all of it: data, teacher, cache, training, evaluation, a replay that costs nothing."""
    from taco.demo import run_demo

    run_demo(teacher_url)


@app.command()
def evaluate(
    target: Annotated[
        Path, typer.Argument(help="A run's folder, or a config: then its base alone is evaluated")
    ],
    overrides: Overrides = None,
    rates: Annotated[
        str | None, typer.Option(help="Such as 0.2,0.3,0.5; default: the config's")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(help="Such as f1,rougeL; default: the reward's")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="A data file; default: the config's validation data")
    ] = None,
    examples: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many; default: all")
    ] = None,
    seed_run: Annotated[
        list[Path] | None,
        typer.Option(help="A run of another seed, for the intervals; may be given several times"),
    ] = None,
    usd_per_million: Annotated[
        float | None, typer.Option(min=0, help="Price of a million of the teacher's prompt tokens")
    ] = None,
    usd_per_hour: Annotated[
        float | None, typer.Option(min=0, help="Price of the machine that compresses")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Default: the run's folder/evaluation")
    ] = None,
    teacher: TeacherOption = None,
    store: StoreOption = None,
) -> None:
    """Compare a trained compressor with its base and simple rules, at several rates."""
    from taco.evaluate import Request, evaluate_command

    request = Request(
        target=target,
        overrides=tuple(overrides or ()),
        seed_runs=tuple(seed_run or ()),
        rates=_numbers("--rates", rates),
        metrics=tuple(name.strip() for name in (metrics or "").split(",") if name.strip()),
        data=data,
        limit=examples,
        usd_per_million=usd_per_million,
        usd_per_hour=usd_per_hour,
        output=output,
    )
    evaluate_command(request, teacher, store and place_of(store))


def _numbers(option: str, text: str | None) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in (text or "").split(",") if part.strip())
    except ValueError as error:
        raise UserError(f"{option}: expected numbers such as 0.2,0.5; got {text!r}") from error


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, in any state")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Default: report.html in the run's folder; of several, here"
        ),
    ] = None,
    examples: Annotated[int, typer.Option(min=0, help="How many to show; 0: none")] = 6,
    rates: Annotated[
        str | None, typer.Option(help="Steps of the slider, such as 0.2,0.5; default: 0.1 to 0.9")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Whose examples; default: the config's validation data")
    ] = None,
    ask: Annotated[
        bool, typer.Option("--ask", help="Have the teacher answer what is not stored")
    ] = False,
    teacher: TeacherOption = None,
    store: StoreOption = None,
) -> None:
    """Show what runs learnt, what they cost and which words they keep, in one HTML file."""
    from taco.report import Request, report_runs

    report_runs(
        Request(
            folders=tuple(runs),
            output=output,
            examples=examples,
            rates=_numbers("--rates", rates),
            data=data,
            teacher=teacher,
            store=store and place_of(store),
            ask=ask,
        )
    )


@app.command()
def card(
    run: Annotated[Path, typer.Argument(help="A finished run's folder")],
    licence: Annotated[
        str | None, typer.Option(help="Of the model, as the hub names it, such as mit")
    ] = None,
    push_to_hub: Annotated[
        str | None,
        typer.Option(
            metavar="REPO", help="Then upload compressor and card there; the token is in HF_TOKEN"
        ),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="With --push-to-hub: a new repository is not public")
    ] = False,
    revision: Annotated[
        str | None, typer.Option(help="With --push-to-hub: a branch; default: the main one")
    ] = None,
) -> None:
    """Write the model card of a run's compressor, from what the run and its evaluation recorded."""
    from taco.card import write_card

    if push_to_hub is None and (private or revision):
        raise UserError("--private, --revision: expected --push-to-hub REPO with them")
    model = write_card(run, licence)
    if push_to_hub is not None:
        from taco.publish import push_to_hub as push

        push(model, push_to_hub, private=private, revision=revision)


@app.command()
def compress(
    model: Annotated[
        str, typer.Option(help="A run's folder, a compressor's, or a name on the hub")
    ],
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Texts to compress, one a file; none, or -: stdin", show_default=False),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Share of tokens to keep; default: the run's own, else 0.5")
    ] = None,
    force_token: Annotated[
        list[str] | None,
        typer.Option(help="Always kept; may be given again. Default: the run's own"),
    ] = None,
    length_tokenizer: Annotated[
        str | None,
        typer.Option(
            help="auto | cl100k_base | policy | words | a tokenizer.json; default: the run's own"
        ),
    ] = None,
    spacing: Annotated[
        Literal["stock", "original"] | None,
        typer.Option(help="original keeps line breaks and indentation; default: the run's own"),
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Meet the rate on the final text")] = False,
    threshold: Annotated[
        str | None,
        typer.Option(
            help="Keep words above this probability in every text; auto: as calibrated for the rate"
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="A JSON object a line: rate, words, probabilities")
    ] = False,
) -> None:
    """Compress texts as the stock package would, to stdout."""
    from taco.compress import compress_files

    compress_files(
        files or [],
        model,
        rate,
        force_tokens=force_token,
        length_tokenizer=length_tokenizer,
        spacing=spacing,
        exact=exact,
        threshold=threshold,
        as_json=as_json,
    )


@app.command()
def doctor(
    target: Annotated[
        Path | None,
        typer.Argument(
            help="A config, or a run's folder; none: only what needs no config", show_default=False
        ),
    ] = None,
    overrides: Overrides = None,
    teacher: TeacherOption = None,
    store: StoreOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object")] = False,
) -> None:
    """Find what would stop a run, and say what to do; changes and downloads nothing."""
    from taco.doctor.command import run_doctor

    run_doctor(target, overrides or [], teacher, store, as_json=as_json)


def main() -> None:
    """Run the command line; a mistake of the user's is one message, no traceback."""
    # A warning is for the user too: its sentence, not the line of code that gave it.
    warnings.formatwarning = lambda message, *_args, **_kwargs: f"warning: {message}\n"
    try:
        app()
    except Exception as error:
        if not isinstance(error, _expected_errors()):
            raise
        sys.stderr.write(f"{error}\n")
        sys.exit(1)


def _expected_errors() -> tuple[type[Exception], ...]:
    """The packages' own errors, imported only once something has gone wrong."""
    from cache import CacheError
    from teacher_service.errors import StartError
    from trainer.errors import TrainerError

    return UserError, TrainerError, StartError, CacheError
