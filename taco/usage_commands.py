"""`taco cache explain | runs | ledger | audit`: why it missed, who used it, what it cost, drift."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taco.cache_commands import StoreOption, place_of
from taco.errors import UserError

if TYPE_CHECKING:
    from cache import Amount

usage_app = typer.Typer()

_AMOUNT_COLUMNS = ["", "answers", "unmetered", "prompt tokens", "completion tokens"]
_DOCUMENT_FIELDS = {"v", "teacher", "request", "sample_index", "compressed_text"}


@usage_app.command()
def explain(
    file: Annotated[Path, typer.Argument(help="JSON: a request, and perhaps a teacher")],
    store: StoreOption = None,
) -> None:
    """Say whether a request is stored, and if not, what differs from the nearest one that is."""
    from cache import CompletionStore, fingerprint
    from cache.explaining import explain as find_nearest
    from taco.cache_tables import print_figures, print_rows
    from teacher_service.identity import stored_identity

    given = _read_document(file)
    with CompletionStore.open(place_of(store), read_only=True) as opened:
        teacher = stored_identity(opened.teachers(), given.get("teacher")).digest
        asked = fingerprint(teacher, given["request"], given.get("sample_index", 0))
        stored = asked.key in opened.lookup([asked.key])
        text = given.get("compressed_text")
        nearest = opened.query(partial(find_nearest, document=asked.document, compressed_text=text))
    print_figures(f"Key {asked.key.hex()}", {"stored": "yes" if stored else "no"})
    if nearest and not stored:
        rows = [[each.field, each.stored or "-", each.asked or "-"] for each in nearest.differences]
        print_rows(f"The nearest is {nearest.key.hex()}", ["field", "stored", "asked"], rows)


@usage_app.command()
def runs(store: StoreOption = None) -> None:
    """List the runs that used the store, the latest first."""
    from cache import CompletionStore
    from cache.ledger import read_runs
    from taco.cache_tables import print_rows, when

    with CompletionStore.open(place_of(store), read_only=True) as opened:
        found = opened.query(read_runs)
    rows = [
        [
            one.name,
            when(one.started_at),
            when(one.last_used_at),
            *(f"{one.answers.get(how, 0):,}" for how in ("miss", "hit", "collapsed")),
        ]
        for one in found
    ]
    print_rows("Runs", ["run", "first answer", "last answer", "misses", "hits", "collapsed"], rows)


@usage_app.command()
def ledger(
    run: Annotated[
        str | None, typer.Option("--run", help="Only this run; `taco cache runs` lists them")
    ] = None,
    store: StoreOption = None,
) -> None:
    """Say what was spent, and what hits and collapsed requests saved."""
    from cache import CompletionStore
    from cache.ledger import read_ledger
    from taco.cache_tables import print_rows

    with CompletionStore.open(place_of(store), read_only=True) as opened:
        lines = opened.query(partial(read_ledger, run=run))
    if run is not None and not lines:
        raise UserError(f"no run {run!r} used this store; `taco cache runs` lists those that did")
    for line in lines:
        priced = bool(line.currency)
        print_rows(
            f"{line.teacher} ({line.teacher_digest[:12]})",
            [*_AMOUNT_COLUMNS, line.currency or "no prices"],
            [
                _amount_row("spent", line.spent, priced=priced),
                _amount_row("saved by hits", line.saved_by_hits, priced=priced),
                _amount_row("saved by collapsing", line.saved_by_collapsing, priced=priced),
            ],
        )


@usage_app.command()
def audit(
    config: Annotated[
        Path | None,
        typer.Option(help="Settings of the service to start; default: the built-in teacher"),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            help="A service that runs already, over the same store", envvar="TACO_TEACHER_URL"
        ),
    ] = None,
    sample: Annotated[int, typer.Option(min=1, help="How many answers to ask for again")] = 100,
    seed: Annotated[int, typer.Option(help="Another seed picks other answers")] = 0,
    metric: Annotated[
        str, typer.Option(help="As in reward.metric: bleu, rougeL, package.module:function ...")
    ] = "f1",
    store: StoreOption = None,
) -> None:
    """Ask the teacher again for a sample of stored answers, and say how many come out otherwise."""
    from taco.audit import audit as run_audit
    from taco.audit import audited_service
    from taco.cache_tables import print_figures, print_rows, progress_bar
    from trainer.rollouts.scores import load_metric

    score, place = load_metric(metric), _audited_store(config, store)
    with audited_service(url, config, place) as client, progress_bar("auditing") as progress:
        report = run_audit(client, place, score, sample=sample, seed=seed, progress=progress)
    print_figures(
        f"Drift audit ({score.signature})",
        {
            "asked again": report.asked,
            "failed": report.failed,
            "disagreed": report.disagreed,
            "rate": f"{report.rate:.1%} (95 % interval: {report.low:.1%} to {report.high:.1%})",
            "mean reward difference": f"{report.mean_reward_difference:.4f}",
            "largest reward difference": f"{report.max_reward_difference:.4f}",
        },
    )
    shown = [each for each in report.comparisons if not each.agrees][:20]
    if shown:
        rows = [[each.key.hex(), each.problem or f"{each.reward_difference:.4f}"] for each in shown]
        print_rows("Answers that differ or failed", ["key", "reward difference"], rows)


def _amount_row(name: str, amount: "Amount", *, priced: bool) -> list[str]:
    counts = (amount.answers, amount.unmetered, amount.prompt_tokens, amount.completion_tokens)
    money = f"{amount.money:,.4f}" if priced else "-"
    return [name, *(f"{count:,}" for count in counts), money]


def _audited_store(config: Path | None, store: str | None) -> Path | str:
    """Where the service keeps its answers, unless told otherwise by its settings."""
    from teacher_service import load_settings

    return place_of(store) if store else load_settings(config).store or place_of(None)


def _read_document(file: Path) -> Mapping[str, Any]:
    """A request as it was asked: the canonical document of a key, or as little as its request."""
    from cache import CanonicalError, parse_json

    expected = (
        f'{file}: expected {{"request": {{...}}}}, and perhaps "teacher" (a name or digest), '
        '"sample_index" and "compressed_text"'
    )
    try:
        given = parse_json(file.read_bytes())
    except (OSError, CanonicalError) as error:
        raise UserError(f"{expected}: {error}") from error
    if not isinstance(given, Mapping) or not isinstance(given.get("request"), Mapping):
        raise UserError(f"{expected}; there is no request")
    if unknown := given.keys() - _DOCUMENT_FIELDS:
        raise UserError(f"{expected}, got {', '.join(sorted(unknown))}")
    return given
