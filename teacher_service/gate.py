"""Who may come in: the address that was asked for, the page that asks, the key it brings.

Plain ASGI, before anything else: what is refused here has had no byte of its body read.
"""

import ipaddress
from collections.abc import Collection
from functools import lru_cache
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Receive, Scope, Send

from teacher_service import keys
from teacher_service.errors import Forbidden, ServiceError, Unauthenticated
from teacher_service.header_fields import Headers, headers_of
from teacher_service.keys import KeyRing
from teacher_service.page.paths import is_open_page, is_page, log_in_first
from teacher_service.page.sessions import Sessions, cookie_name
from teacher_service.replies import error_reply, json_reply

_USE = ("/v1/chat/completions", "/v1/completions", "/v1/teacher/completions", "/v1/models")
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class Gate:
    """Checks each request, then lets it through.

    Args:
        app: What is behind the gate.
        ring: The keys; while there are none, nobody needs one.
        sessions: Who is logged in to the page for people, and may see that much without a key.
        hosts: Names by which the service may be addressed; None for any. A page of another site
            that has its own name point at this machine (DNS rebinding) sends that name.
    """

    def __init__(
        self, app: ASGIApp, ring: KeyRing, sessions: Sessions, hosts: Collection[str] | None
    ) -> None:
        self._app = app
        self._ring = ring
        self._sessions = sessions
        self._hosts = None if hosts is None else frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http":
            headers = headers_of(scope)
            try:
                self._check_host(headers)
                _check_origin(headers)
                bare = self._check_key(scope["method"], scope["path"], headers)
            except ServiceError as error:
                if isinstance(error, Unauthenticated) and _wants_page(scope, headers):
                    await log_in_first(scope)(scope, receive, send)
                    return
                told = {"WWW-Authenticate": "Bearer"} if isinstance(error, Unauthenticated) else {}
                await error_reply(error, told)(scope, receive, send)
                return
            if bare:
                send = _without_reason(send, scope, receive)
        await self._app(scope, receive, send)

    def _check_host(self, headers: Headers) -> None:
        if self._hosts is None or _name(headers.get("host", "")) in self._hosts:
            return
        raise Forbidden(
            "this service is not addressed by that Host; if it is meant to be, list the name "
            "under allowed_hosts in its settings"
        )

    def _check_key(self, method: str, path: str, headers: Headers) -> bool:
        """Whether the caller may only know if the service is ready, and not why it is not."""
        if self._ring.is_open or path == "/livez" or is_open_page(path):
            return False
        held = self._held(path, headers)
        if path == "/readyz":
            return held is None
        if held is None:
            raise Unauthenticated(
                "this service wants a key of its own (Authorization: Bearer KEY; the trainer takes "
                "it from TACO_TEACHER_KEY): `taco serve keys add NAME` makes one",
                code="invalid_api_key",
            )
        wanted = wanted_scopes(method, path)
        if not {*wanted, "admin"} & set(held):
            raise Forbidden(
                f"this key may {', '.join(held) or 'do nothing'}; {method} {path} wants "
                f"{' or '.join(wanted)}",
                code="insufficient_scope",
            )
        return False

    def _held(self, path: str, headers: Headers) -> tuple[keys.Scope, ...] | None:
        """What the caller may do: by its key, or on the page for people by its session."""
        kind, _, secret = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self._ring.scopes_of(secret.strip())
        if is_page(path):
            cookies = cookie_parser(headers.get("cookie", ""))
            return self._sessions.scopes_of(cookies.get(cookie_name(headers.get("host", "")), ""))
        return None


def wanted_scopes(method: str, path: str) -> tuple[keys.Scope, ...]:
    """Any of which will do, beside admin. What is not known to be harmless is admin's alone."""
    if path.startswith(_USE):
        return ("use",)
    if path == "/v1/cache/stats":  # The trainer reads there which teacher it talks to.
        return ("use", "read")
    if method in ("GET", "HEAD") or path == "/v1/cache/lookup" or is_page(path):
        return ("read",)
    return ("admin",)


def hosts_of(host: str, allowed: Collection[str] | None) -> Collection[str] | None:
    """Names by which a service on `host` may be addressed: on loopback, only loopback's own.

    Args:
        host: Where it listens.
        allowed: The settings' list, which decides where there is one.
    """
    if allowed is not None:
        return {name.lower() for name in allowed}
    return _LOOPBACK_NAMES | {host} if is_loopback(host) else None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _wants_page(scope: Scope, headers: Headers) -> bool:
    """Whether it is a person's browser that asks for a page."""
    return is_page(scope["path"]) and "text/html" in headers.get("accept", "")


def _check_origin(headers: Headers) -> None:
    """A browser says which page asks: only our own may."""
    origin = headers.get("origin")
    if origin is None or urlsplit(origin).netloc.lower() == headers.get("host", "").lower():
        return
    raise Forbidden("pages of other sites may not use this service (Origin)")


@lru_cache(64)
def _name(host: str) -> str:
    """A Host header without its port and brackets."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _without_reason(send: Send, scope: Scope, receive: Receive) -> Send:
    """Replace /readyz's body by its status in a word: the reason names files and hosts."""

    async def bare(message: dict[str, object]) -> None:
        if message["type"] != "http.response.start":
            return
        status = message["status"]
        word = "ready" if status == HTTPStatus.OK else "unavailable"
        await json_reply({"status": word}, int(str(status)))(scope, receive, send)

    return bare  # type: ignore[return-value]
