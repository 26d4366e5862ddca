"""Who is logged in to the page: a cookie that stands for a key for some hours, and is none.

It is signed with what every service that knows the key has of it, its digest, and kept nowhere: so
it holds at each of several services with the same keys, and after a restart. Whoever can read the
keys' file could make one; the store beside it has all that the page shows.
"""

import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from teacher_service.keys import Key, KeyRing, Scope, digest_of

LIFETIME_S = 12 * 3600
_PURPOSE = "taco page session"


@dataclass(frozen=True, slots=True)
class _Ticket:
    """What a cookie says."""

    until: int  # Seconds since the epoch.
    nonce: str
    signature: str

    @classmethod
    def signed(cls, until: int, nonce: str, key_sha256: str) -> Self:
        """A session until then for the bearer of a key."""
        said = f"{_PURPOSE}.{until}.{nonce}".encode()
        return cls(until, nonce, hmac.new(key_sha256.encode(), said, "sha256").hexdigest())

    @classmethod
    def parse(cls, cookie: str) -> Self | None:
        """None: it is no ticket at all."""
        until, _, rest = cookie.partition(".")
        nonce, _, signature = rest.partition(".")
        known = until.isascii() and until.isdigit() and len(until) < 20 and signature.isascii()
        return cls(int(until), nonce, signature) if known else None

    def is_of(self, key: Key) -> bool:
        """Whether that key's bearer got it."""
        expected = self.signed(self.until, self.nonce, key.sha256)
        return hmac.compare_digest(expected.signature, self.signature)

    def __str__(self) -> str:
        return f"{self.until}.{self.nonce}.{self.signature}"


class Sessions:
    """The sessions of one service. Each may what its key may, and ends with it.

    Args:
        ring: The service's keys.
        clock: Seconds since the epoch.
    """

    def __init__(self, ring: KeyRing, clock: Callable[[], float] = time.time) -> None:
        self._ring = ring
        self._clock = clock
        self._ended: dict[str, int] = {}  # Nonces of who logged out here, until when they matter.

    def start(self, key: str) -> str:
        """The cookie of a new session for the bearer of `key`."""
        until = int(self._clock()) + LIFETIME_S
        return str(_Ticket.signed(until, secrets.token_urlsafe(16), digest_of(key)))

    def scopes_of(self, cookie: str) -> tuple[Scope, ...] | None:
        """What the bearer of a session may do; None where it is over, or its key was revoked."""
        ticket = _Ticket.parse(cookie)
        if ticket is None or self._clock() >= ticket.until or ticket.nonce in self._ended:
            return None
        return next((key.scopes for key in self._ring.keys if ticket.is_of(key)), None)

    def end(self, cookie: str) -> None:
        """Log out; at other services, a copy of the cookie lasts as long as it would have."""
        now = self._clock()
        self._ended = {nonce: until for nonce, until in self._ended.items() if until > now}
        if self.scopes_of(cookie) and (ticket := _Ticket.parse(cookie)):
            self._ended[ticket.nonce] = ticket.until


def cookie_name(host: str) -> str:
    """The session's cookie. Browsers share cookies between the ports of a host: we must not.

    Args:
        host: The Host header.
    """
    port = host.rpartition(":")[2]
    return f"taco_session_{port}" if port.isascii() and port.isdigit() else "taco_session"
