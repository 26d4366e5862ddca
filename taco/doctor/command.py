"""The checks side by side, each within its time, and what they found, line by line."""

import json
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from queue import Empty, Queue

import typer
from rich.console import Console
from rich.text import Text

from cache import CacheError
from taco.doctor.findings import Finding, ok, wrong
from taco.doctor.plan import Check, Subject, checks_for, subject_of
from taco.errors import UserError
from teacher_service.errors import StartError
from trainer.errors import TrainerError

_EXPECTED = (UserError, TrainerError, CacheError, StartError)
_STYLES = {"ok": "green", "warning": "yellow", "wrong": "bold red"}


def run_doctor(
    target: Path | None,
    overrides: Sequence[str],
    settings: Path | None,
    store: str | None,
    *,
    as_json: bool,
) -> None:
    """Check everything, print what was found, and end with status 1 if anything is wrong.

    Args:
        target: a config, or the folder of a run; None: only what needs no config.
        overrides: of the config.
        settings: of the service that a run would start.
        store: a file or a URL; None: the settings', else the default one.
        as_json: print one object instead of lines.
    """
    findings = []
    for finding in examine(target, overrides, settings, store):
        findings.append(finding)
        if not as_json:
            _print(finding)
    bad = any(finding.state == "wrong" for finding in findings)
    if as_json:
        typer.echo(json.dumps({"ok": not bad, "findings": [asdict(each) for each in findings]}))
    if bad:
        raise typer.Exit(1)


def examine(
    target: Path | None, overrides: Sequence[str], settings: Path | None, store: str | None
) -> Iterator[Finding]:
    """What is found, in the order of the checks, as soon as it is there."""
    subject = Subject()
    if target is not None:
        try:
            subject = subject_of(target, overrides)
        except (TrainerError, UserError) as error:
            yield wrong("config", str(error))
        else:
            yield ok("config", str(target))
    yield from side_by_side(checks_for(subject, settings, store))


def side_by_side(checks: Iterable[Check]) -> Iterator[Finding]:
    """Start all checks at once; one that is not done in its time is given up, and says so."""
    started = [(check, _started(check), time.monotonic()) for check in checks]
    for check, answers, since in started:
        try:
            yield from answers.get(timeout=max(0.0, since + check.seconds - time.monotonic()))
        except Empty:
            said = f"no answer within {check.seconds:.0f} s"
            yield wrong(check.what, said, "something hangs there: a disk, a server, a file")


def _started(check: Check) -> "Queue[Sequence[Finding]]":
    """Where the findings will be. Nobody waits for the thread: it may never end."""
    answers: Queue[Sequence[Finding]] = Queue()
    threading.Thread(target=lambda: answers.put(_looked(check)), daemon=True).start()
    return answers


def _looked(check: Check) -> Sequence[Finding]:
    """A check's findings; what it raises is one."""
    try:
        return check.look()
    except _EXPECTED as error:
        return [wrong(check.what, str(error))]
    except ImportError as error:
        missing = error.name or error
        return [wrong(check.what, f"{missing} is missing", "pip install 'taco-rewards[train]'")]
    except Exception as error:
        said = f"the check itself failed: {type(error).__name__}: {error}"
        return [wrong(check.what, said, "please report it")]


def _print(finding: Finding) -> None:
    """State, subject, and the sentences; further lines of a message stay in their column."""
    line = Text(f"{finding.state:<8}", style=_STYLES[finding.state])
    line.append(f"{finding.what:<14}", style="default")
    said = f"{finding.said} -> {finding.advice}" if finding.advice else finding.said
    line.append(said.replace("\n", "\n" + 22 * " "), style="default")
    Console(highlight=False, soft_wrap=True, markup=False, emoji=False).print(line)
