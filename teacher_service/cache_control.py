"""What a client may ask of the cache, and how it is told what the cache did.

Request directives are RFC 9111's, borrowed for POST; the answer's header is RFC 9211's.
"""

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from teacher_service.errors import BadRequest

Forward: TypeAlias = Literal["miss", "request", "stale", "bypass"]
"""RFC 9211's `fwd`: why the cache went upstream."""

Mode: TypeAlias = Literal["record", "replay", "refresh", "off"]
"""What the server allows of its cache, whatever a request asks."""

_FLAGS = {"no-cache", "no-store", "only-if-cached"}


@dataclass(frozen=True, slots=True)
class CacheControl:
    """The request directives that mean something here."""

    no_cache: bool = False
    """Do not answer from the store."""
    no_store: bool = False
    """Do not keep the answer, and do not wait for somebody else's."""
    only_if_cached: bool = False
    """Do not go upstream."""
    max_age_s: int | None = None
    """Do not answer from the store with anything older."""

    bypass: bool = False
    """The server's cache is off; no request can say so."""

    def forward(self, created_at: float | None, now: float) -> Forward | None:
        """Why this request has to go upstream; None where the stored answer will do.

        Args:
            created_at: When the stored answer was made; None where there is none.
            now: In seconds since the epoch, like `created_at`.
        """
        if self.bypass:
            return "bypass"
        if self.no_cache:
            return "request"
        if created_at is None:
            return "miss"
        if self.max_age_s is not None and now - created_at > self.max_age_s:
            return "stale"
        return None


def parse_cache_control(header: str | None) -> CacheControl:
    """Read a `Cache-Control` request header; unknown directives are ignored, as RFC 9111 wants.

    Raises:
        BadRequest: `max-age` carries no number of seconds.
    """
    if not header:
        return CacheControl()
    pairs = [part.strip().partition("=") for part in header.lower().split(",")]
    directives = {name.strip(): value.strip().strip('"') for name, _, value in pairs}
    flags = {name.replace("-", "_"): True for name in _FLAGS & directives.keys()}
    return CacheControl(**flags, max_age_s=_seconds(directives.get("max-age")))


def under_ceiling(control: CacheControl, mode: Mode) -> CacheControl:
    """What is left of a request's wishes under the server's mode."""
    if mode == "refresh":
        return replace(control, no_cache=True)
    if mode == "off":
        return replace(control, no_cache=True, no_store=True, bypass=True)
    return control


def _seconds(value: str | None) -> int | None:
    if value is None:
        return None
    if not value.isascii() or not value.isdigit():
        raise BadRequest(f"Cache-Control: max-age takes a number of seconds, found {value!r}")
    return int(value)


def cache_status(key: bytes, forward: Forward | None, *, stored: bool, collapsed: bool) -> str:
    """The `Cache-Status` header of one completion.

    Args:
        key: The fingerprint's key.
        forward: Why the cache went upstream; None for a hit.
        stored: The answer was put into the store.
        collapsed: The answer of a request that was already under way was used.
    """
    parts = ["taco", f"fwd={forward}" if forward else "hit"]
    parts += ["stored"] * stored + ["collapsed"] * collapsed
    return "; ".join([*parts, f'key="{key.hex()}"'])
