"""What runs used, and what was spent and saved: the reports over `cache.uses`."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, cast, func, select

from cache.models import ledger, run_uses, runs, teachers
from cache.uses import ANONYMOUS, Amount


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """What one teacher cost, and what the store saved, in one currency."""

    teacher_digest: str
    teacher: str
    currency: str  # '': no prices were known, and money is 0.
    spent: Amount
    saved_by_hits: Amount
    saved_by_collapsing: Amount


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run, as the store knows it."""

    name: str
    started_at: float  # Seconds since the epoch, of the first use and of the last.
    last_used_at: float
    answers: dict[str, int]  # By how they were served: hit, miss, collapsed.


@dataclass(frozen=True, slots=True)
class RunDetails:
    """What one run used."""

    summary: RunSummary
    keys: int  # Different ones.
    first_step: int | None  # None: it never said which step it was at.
    last_step: int | None


@dataclass(frozen=True, slots=True)
class KeyUse:
    """One run used a certain key."""

    run: str
    step: int | None
    served: str
    uses: int


def read_ledger(connection: Connection, run: str | None = None) -> list[LedgerLine]:
    """What was spent and saved by one run (None: in total), a line per teacher and currency."""
    place = (teachers.c.digest, teachers.c.name, ledger.c.currency)
    query = (
        select(*place, ledger.c.served, *map(_total, Amount.__slots__))
        .select_from(ledger.join(teachers).join(runs))
        .group_by(*place, ledger.c.served)
        .order_by(*place)
    )
    if run is not None:
        query = query.where(runs.c.name == run)
    lines: dict[tuple[str, str, str], dict[str, Amount]] = defaultdict(dict)
    for digest, name, currency, served, *amount in connection.execute(query):
        lines[digest, name, currency][served] = Amount(*amount)
    return [
        LedgerLine(
            *line,
            amounts.get("miss", Amount()),
            amounts.get("hit", Amount()),
            amounts.get("collapsed", Amount()),
        )
        for line, amounts in lines.items()
    ]


def read_runs(connection: Connection, name: str | None = None) -> list[RunSummary]:
    """Every run that gave its name, or the one called `name`; the latest first."""
    wanted = runs.c.name != ANONYMOUS if name is None else runs.c.name == name
    counted = (
        select(runs.c.name, ledger.c.served, _total("answers"))
        .select_from(ledger.join(runs))
        .where(wanted)
        .group_by(runs.c.name, ledger.c.served)
    )
    answers: dict[str, dict[str, int]] = defaultdict(dict)
    for run, served, count in connection.execute(counted):
        answers[run][served] = count
    latest_first = select(runs).where(wanted).order_by(runs.c.last_used_at.desc(), runs.c.name)
    return [
        RunSummary(row.name, row.started_at, row.last_used_at, answers[row.name])
        for row in connection.execute(latest_first)
    ]


def read_run(connection: Connection, name: str) -> RunDetails | None:
    """What one run used; None for one that the store does not know."""
    found = read_runs(connection, name)
    if not found:
        return None
    counted = (
        func.count(run_uses.c.key.distinct()),
        func.min(run_uses.c.step),
        func.max(run_uses.c.step),
    )
    query = select(*counted).select_from(run_uses.join(runs)).where(runs.c.name == name)
    return RunDetails(found[0], *connection.execute(query).one())


def uses_of_key(connection: Connection, key: bytes, limit: int = 1_000) -> Sequence[KeyUse]:
    """Which runs used a key, and when, in the order of use; the first `limit` of them."""
    query = (
        select(runs.c.name, run_uses.c.step, run_uses.c.served, run_uses.c.uses)
        .select_from(run_uses.join(runs))
        .where(run_uses.c.key == key)
        .order_by(run_uses.c.id)
        .limit(limit)
    )
    return [KeyUse(*row) for row in connection.execute(query)]


def _total(name: str) -> ColumnElement[int | float]:
    """The sum of a column of the ledger; PostgreSQL would make decimals of integers."""
    column = ledger.c[name]
    return cast(func.sum(column), column.type)
