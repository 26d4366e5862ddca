"""What travels through the service: an ask, the flight it may wait for, and how it ended."""

import asyncio
from dataclasses import dataclass
from typing import Literal, TypeAlias

from cache import Answer, Fingerprint, StoredEntry, TeacherIdentity
from teacher_service.backends.base import UpstreamRequest
from teacher_service.cache_control import Forward
from teacher_service.errors import CacheMiss, DeadlineExceeded, ServiceError

Served: TypeAlias = Literal["hit", "miss", "collapsed"]


@dataclass(frozen=True, slots=True)
class Ask:
    """One completion that a client wants."""

    request: UpstreamRequest
    teacher_digest: str
    fingerprint: Fingerprint
    compressed_text: str | None
    """The text that was put into the template; None for a plain request."""
    content_digest: bytes | None = None
    """Of the stored answer that is wanted, and no other; None: whichever is the key's."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one ask ended."""

    key: bytes
    served: Served
    forward: Forward | None
    """Why the cache went upstream, or would have; None for a hit."""
    result: Answer | ServiceError
    content_digest: bytes
    """Empty for a failure."""
    created_at: float
    """When the answer was made, in seconds since the epoch."""
    stored: bool
    """It was put into the store on this occasion."""
    unexplained: Ask | None = None
    """What was asked, of a miss whose reason is still to be looked for."""


@dataclass(frozen=True, slots=True)
class Landing:
    """What a flight brings back."""

    result: Answer | ServiceError
    content_digest: bytes = b""
    created_at: float = 0.0
    stored: bool = False
    found: bool = False
    """It was in the store after all, when looked up again."""


@dataclass(frozen=True, slots=True)
class Pending:
    """An ask that waits for a flight."""

    key: bytes
    served: Served
    forward: Forward
    flight: asyncio.Future[Landing]


@dataclass(slots=True)
class Counters:
    """What happened since the start; requests = hits + misses + collapsed."""

    requests: int = 0
    hits: int = 0
    misses: int = 0
    collapsed: int = 0
    refused: int = 0
    failed: int = 0
    backend_calls: int = 0
    """Generations actually made."""


def hit(entry: StoredEntry) -> Outcome:
    """A stored answer, served as it is."""
    return Outcome(
        entry.key, "hit", None, entry.answer, entry.content_digest, entry.created_at, stored=False
    )


def cache_miss(ask: Ask, forward: Forward, identity: TeacherIdentity, *, explain: bool) -> Outcome:
    """No usable answer, and no way upstream."""
    key = ask.fingerprint.key
    stored = f"of teacher {identity.name} ({identity.digest[:12]}) is stored under {key.hex()}"
    error = CacheMiss(
        f"no answer {ask.content_digest.hex()} {stored}, and no model can be asked for it: "
        "it is in the store of whoever recorded it"
        if ask.content_digest
        else f"no usable completion {stored}, and this request may not go upstream: record it with "
        "a server in `mode: record`, or drop Cache-Control directives"
    )
    # One that is stored, but not good enough for the request, needs no explanation.
    unexplained = ask if explain and forward == "miss" else None
    return Outcome(key, "miss", forward, error, b"", 0.0, stored=False, unexplained=unexplained)


def landed(entry: StoredEntry, *, stored: bool = False, found: bool = False) -> Landing:
    """A stored answer, as what a flight brings back."""
    return Landing(entry.answer, entry.content_digest, entry.created_at, stored, found)


def outcome_of(ticket: Outcome | Pending) -> Outcome:
    """How a ticket ended; one whose flight is still under way ran into its deadline."""
    if isinstance(ticket, Outcome):
        return ticket
    if not ticket.flight.done():
        late = DeadlineExceeded(
            "the deadline passed before the answer was there; it is stored when it comes, so "
            "that asking again later is a hit"
        )
        return Outcome(ticket.key, ticket.served, ticket.forward, late, b"", 0.0, stored=False)
    landing = ticket.flight.result()
    return Outcome(
        ticket.key,
        "hit" if landing.found else ticket.served,
        None if landing.found else ticket.forward,
        landing.result,
        landing.content_digest,
        landing.created_at,
        stored=landing.stored and ticket.served == "miss",
    )
