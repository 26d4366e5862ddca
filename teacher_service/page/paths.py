"""Where the page for people is, for the gate that stands before it."""

from typing import Annotated, TypeAlias
from urllib.parse import urlencode

from fastapi import Query
from fastapi.responses import RedirectResponse, Response
from starlette.types import Scope

Number: TypeAlias = Annotated[int | None, Query(ge=0, lt=1 << 63)]
"""Of a row, in a link to the next page of a list."""

HOME = "/"
LOG_IN = "/page/login"
STATIC = "/page/static/"


def is_page(path: str) -> bool:
    """Whether a path belongs to the page, so that a session will do for it."""
    return path == HOME or path.startswith("/page/")


def is_open_page(path: str) -> bool:
    """The page's parts that say nothing of the service, and so need no key."""
    return path == LOG_IN or path.startswith(STATIC)


def log_in_first(scope: Scope) -> Response:
    """Send a person to the log-in form, and afterwards back to where they wanted to go."""
    wanted = scope["path"]
    if query := scope["query_string"].decode("latin-1"):
        wanted += f"?{query}"
    back = {"next": wanted} if scope["method"] == "GET" and wanted != HOME else {}
    # Not for the browser's own memory: it would send a person there who is logged in by then.
    headers = {"Cache-Control": "no-store"}
    return RedirectResponse(f"{LOG_IN}?{urlencode(back)}".rstrip("?"), 303, headers)


def safe_next(wanted: str) -> str:
    """Where to go after the log-in: one of our pages, whoever made the link."""
    path = wanted.partition("?")[0]
    return wanted if is_page(path) and "\\" not in wanted else HOME
