"""What the cache commands print: tables for people, and progress while they wait."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from trainer.visible import visible

if TYPE_CHECKING:
    from cache import StoredEntry
    from cache.merging import MergeReport
    from cache.records import Record
    from cache.verifying import VerifyReport

_INTERVAL_S = 0.1
_SHOWN_CHARACTERS = 60


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error while something long goes on; gone at the end.

    Gives the callback that moves it: how much is done, and of how much.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    # Not into a log file: there it would leave an empty line.
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task, moved_at = bar.add_task(label, total=None), 0.0

        def move(done: int, total: int) -> None:
            nonlocal moved_at
            now = time.monotonic()
            if now - moved_at >= _INTERVAL_S:  # Rich takes longer to count than a row takes.
                moved_at = now
                bar.update(task, completed=done, total=total)

        yield move


def print_figures(title: str, figures: Mapping[str, Any]) -> None:
    """One line for each figure, with its name as people write it."""
    table = Table(show_header=False)
    for name, value in figures.items():
        shown = f"{value:,}" if isinstance(value, int) else str(value)
        table.add_row(name.replace("_", " "), visible(shown))
    _print(title, table)


def print_merge(title: str, report: "MergeReport") -> None:
    """What came of an import or a merge, and the first conflicts by name."""
    print_figures(
        title,
        {
            "added": report.added,
            "same": report.same,
            "conflicts": report.conflicts,
            "refusals superseded": report.refusals_superseded,
            "teachers added": report.teachers_added,
        },
    )
    if not report.named:
        return
    rows = [
        [each.key.hex(), each.served.hex()[:12], each.other.hex()[:12]] for each in report.named
    ]
    print_rows(f"Conflicts ({len(rows)} of {report.conflicts:,})", ["key", "served", "other"], rows)


def print_verification(title: str, report: "VerifyReport") -> None:
    """How many rows are sound, and the bad ones by name."""
    print_figures(title, {"rows checked": report.rows, "bad": report.bad})
    if report.named:
        rows = [[each.table, each.row, each.problem] for each in report.named]
        print_rows(
            f"Bad ({len(rows)} of {report.bad:,})", ["table", "key or digest", "problem"], rows
        )


def print_record(record: "Record") -> None:
    """Everything about one key, texts in full."""
    document = json.loads(record.document)
    print_figures(
        f"Key {record.key.hex()}",
        {"teacher": record.teacher_digest, "first asked": when(record.created_at)},
    )
    _print("Request", json.dumps(document["request"], indent=2, ensure_ascii=False))
    if record.compressed_text is not None:
        _print("Compressed text", record.compressed_text)
    rows = [[kind, *_described(entry, full=True)] for kind, entry in _answers(record)]
    print_rows(
        "Answers", ["", "answer", "finish reason", "made", "latency", "content digest"], rows
    )


def print_records(title: str, records: Sequence["Record"]) -> None:
    """One line for each answer of each record."""
    rows = [
        [record.key.hex(), kind, *_described(entry, full=False)[:3]]
        for record in records
        for kind, entry in _answers(record)
    ]
    print_rows(title, ["key", "", "answer", "finish reason", "made"], rows)


def _answers(record: "Record") -> Iterator[tuple[str, "StoredEntry"]]:
    for entry in record.answers:
        yield ("served" if entry == record.served else "kept"), entry


def _described(entry: "StoredEntry", *, full: bool) -> list[str]:
    from cache import Refusal

    answer = entry.answer
    if isinstance(answer, Refusal):
        text, reason = answer.message, f"refused: {answer.reason}"
    else:
        text, reason = answer.text or f"{answer.extra}", answer.finish_reason
    latency = "-" if answer.latency_ms is None else f"{answer.latency_ms:,.0f} ms"
    shown = text if full or len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"
    return [shown, reason, when(entry.created_at), latency, entry.content_digest.hex()[:12]]


def when(seconds: float) -> str:
    """Seconds since the epoch as people write them, in local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def print_rows(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table with a title of its own line."""
    table = Table(*columns)
    for row in rows:
        table.add_row(*map(visible, row))
    _print(title, table)


def _print(title: str, content: Table | str) -> None:
    """Fold nothing where the output is no terminal: programs read whole keys there."""
    console = Console(markup=False, emoji=False, highlight=False)  # Texts are shown as they are.
    if not console.is_terminal:
        console.width = 10_000
    console.print(visible(title), style="bold")
    console.print(visible(content) if isinstance(content, str) else content)
