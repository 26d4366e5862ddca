"""A name for every request, in its answer and in every line of the log that it causes.

What went wrong is logged: method, path, status and time, never a body, a header or a query.
"""

import json
import logging
import re
import secrets
import time
from contextvars import ContextVar
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from teacher_service.header_fields import headers_of

_log = logging.getLogger(__name__)
_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
_TAKEN = re.compile(r"[\w.:-]{1,100}", re.ASCII)
"""A client's own name for its request, if it can stand in a header and a log."""


class RequestLog:
    """Names requests (`X-Request-Id`, the client's own or a new one) and logs those that failed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = headers_of(scope).get("x-request-id", "")
        name = asked if _TAKEN.fullmatch(asked) else secrets.token_hex(8)
        started = time.monotonic()

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", name.encode())]
                if message["status"] >= HTTPStatus.BAD_REQUEST:
                    _log_failure(scope, message["status"], time.monotonic() - started)
            await send(message)

        token = _request_id.set(name)
        try:
            await self._app(scope, receive, named)
        finally:
            _request_id.reset(token)


def _log_failure(scope: Scope, status: int, seconds: float) -> None:
    told = {
        "method": scope["method"],
        "path": scope["path"],
        "status": status,
        "ms": round(seconds * 1000, 1),
    }
    level = logging.WARNING if status >= HTTPStatus.INTERNAL_SERVER_ERROR else logging.INFO
    _log.log(level, "%(method)s %(path)s: %(status)d after %(ms)s ms", told, extra={"told": told})


def set_up_logs(*, as_json: bool) -> None:
    """Send the process's log to stderr, as lines for people or as one JSON object each."""
    handler = logging.StreamHandler()
    handler.addFilter(_add_request_id)
    handler.setFormatter(_Json() if as_json else _Text())
    logging.basicConfig(handlers=[handler])
    logging.getLogger("teacher_service").setLevel(logging.INFO)


def _add_request_id(record: logging.LogRecord) -> bool:
    record.request_id = _request_id.get()
    return True


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        name = getattr(record, "request_id", None)
        line = f"{record.levelname} {record.name}: {super().format(record)}"
        return f"{line} [{name}]" if name else line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname,
            "logger": record.name,
            "message": super().format(record),
            "request_id": getattr(record, "request_id", None),
        }
        return json.dumps(line | getattr(record, "told", {}))
