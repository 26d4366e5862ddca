"""What was used: which run was served which key, and what that cost or saved."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import starmap
from typing import NamedTuple

from cache.database import Connection

ANONYMOUS = ""
"""The run of all that does not say which run it belongs to."""


class Use(NamedTuple):
    """One run was served one key at one step."""

    run: str  # As the client calls it.
    step: int | None  # None: the client did not say.
    key: bytes
    served: str  # hit | miss | collapsed


class Account(NamedTuple):
    """Where an amount is booked."""

    run: str
    teacher_digest: str
    served: str  # What a miss cost was spent; what a hit or a collapsed call would have, saved.
    currency: str  # '': there were no prices.


@dataclass(frozen=True, slots=True)
class Amount:
    """Answers, and what they cost or would have cost."""

    answers: int = 0
    unmetered: int = 0  # Of these, answers whose tokens nobody counted.
    prompt_tokens: int = 0
    completion_tokens: int = 0
    money: float = 0.0


_INSERT_RUN = """
INSERT INTO runs (name, started_at, last_used_at) VALUES (?, ?, ?)
ON CONFLICT (name) DO UPDATE SET last_used_at = excluded.last_used_at
"""
_INSERT_USE = """
INSERT INTO run_uses (run_id, step, key, served, uses)
VALUES ((SELECT id FROM runs WHERE name = ?), ?, ?, ?, ?)
"""
_INSERT_AMOUNT = """
INSERT INTO ledger (run_id, teacher_id, served, currency,
                    answers, unmetered, prompt_tokens, completion_tokens, money)
VALUES ((SELECT id FROM runs WHERE name = ?), (SELECT id FROM teachers WHERE digest = ?),
        ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run_id, teacher_id, served, currency) DO UPDATE SET
    answers = ledger.answers + excluded.answers,
    unmetered = ledger.unmetered + excluded.unmetered,
    prompt_tokens = ledger.prompt_tokens + excluded.prompt_tokens,
    completion_tokens = ledger.completion_tokens + excluded.completion_tokens,
    money = ledger.money + excluded.money
"""


def insert_uses(
    connection: Connection, uses: Mapping[Use, int], amounts: Mapping[Account, Amount]
) -> None:
    """Add uses, each with how often it happened, and book amounts.

    Rows are changed in one order everywhere, so that two writers never wait for each other.

    Raises:
        StoreError: an account's teacher was never registered.
    """
    now = time.time()
    names = {use.run for use in uses} | {account.run for account in amounts}
    connection.executemany(_INSERT_RUN, [(name, now, now) for name in sorted(names)])
    connection.executemany(
        _INSERT_USE,
        [(use.run, use.step, use.key, use.served, times) for use, times in uses.items()],
    )
    connection.executemany(_INSERT_AMOUNT, sorted(starmap(_amount_row, amounts.items())))


def _amount_row(account: Account, amount: Amount) -> tuple[str | int | float, ...]:
    return (
        account.run,
        account.teacher_digest,
        account.served,
        account.currency,
        amount.answers,
        amount.unmetered,
        amount.prompt_tokens,
        amount.completion_tokens,
        amount.money,
    )
