"""Who is logged in to the page: a cookie that stands for a key for some hours, and is none.

Kept in memory: after a restart people log in again.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from teacher_service.keys import KeyRing, Scope, digest_of

LIFETIME_S = 12 * 3600
_MOST = 1_000
"""Sessions at one time; the oldest gives way."""


@dataclass(frozen=True, slots=True)
class _Session:
    key_sha256: str
    until: float


class Sessions:
    """The open sessions. A session may what its key may, and ends with it.

    Args:
        ring: The service's keys.
        clock: Seconds that never go back.
    """

    def __init__(self, ring: KeyRing, clock: Callable[[], float] = time.monotonic) -> None:
        self._ring = ring
        self._clock = clock
        self._open: dict[bytes, _Session] = {}

    def start(self, key: str) -> str:
        """The secret of a new session for the bearer of `key`."""
        secret = secrets.token_urlsafe(32)
        if len(self._open) >= _MOST:
            del self._open[next(iter(self._open))]
        self._open[_digest(secret)] = _Session(digest_of(key), self._clock() + LIFETIME_S)
        return secret

    def scopes_of(self, secret: str) -> tuple[Scope, ...] | None:
        """What the bearer of a session may do; None where it is over, or its key was revoked."""
        session = self._open.get(_digest(secret))
        if session is None or self._clock() >= session.until:
            return None
        return self._ring.scopes_of_digest(session.key_sha256)

    def end(self, secret: str) -> None:
        """Log out."""
        self._open.pop(_digest(secret), None)


def cookie_name(host: str) -> str:
    """The session's cookie. Browsers share cookies between the ports of a host: we must not.

    Args:
        host: The Host header.
    """
    port = host.rpartition(":")[2]
    return f"taco_session_{port}" if port.isascii() and port.isdigit() else "taco_session"


def _digest(secret: str) -> bytes:
    return sha256(secret.encode(errors="surrogateescape")).digest()
