"""Logging in to the page with a key of the service, and out again."""

from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from teacher_service.incoming import body_of
from teacher_service.page.paths import HOME, LOG_IN, safe_next
from teacher_service.page.rendering import PRIVATE, PageRoute, page
from teacher_service.page.sessions import LIFETIME_S, cookie_name

router = APIRouter(route_class=PageRoute, include_in_schema=False)

_LONGEST_FORM = 1 << 14


@router.get(LOG_IN)
async def log_in_form(request: Request, next: str = HOME) -> Response:  # noqa: A002
    """The form, which says nothing about the service."""
    if request.app.state.ring.is_open:
        return RedirectResponse(HOME, 303, PRIVATE)
    return page(request, "login.html", next=next, problem=None)


@router.post(LOG_IN)
async def log_in(request: Request) -> Response:
    """A session for whoever has a key that may read."""
    # Before anybody has shown a key, little is read.
    form = parse_qs((await body_of(request, _LONGEST_FORM)).decode(errors="replace"))
    key, wanted = form.get("key", [""])[0].strip(), form.get("next", [HOME])[0]
    state = request.app.state
    held = state.ring.scopes_of(key)
    if held is None:
        said = "That is no key of this service. `taco serve keys add NAME --scope read` makes one."
        return page(request, "login.html", 401, next=wanted, problem=said)
    if not {"read", "admin"} & set(held):
        said = f"That key may {', '.join(held) or 'do nothing'}; this page wants one that may read."
        return page(request, "login.html", 403, next=wanted, problem=said)
    answer = RedirectResponse(safe_next(wanted), 303, PRIVATE)
    answer.set_cookie(
        cookie_name(request.headers["host"]),
        state.sessions.start(key),
        max_age=LIFETIME_S,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return answer


@router.post("/page/logout")
async def log_out(request: Request) -> Response:
    """End the session, here and in the browser."""
    name = cookie_name(request.headers["host"])
    request.app.state.sessions.end(request.cookies.get(name, ""))
    answer = RedirectResponse(LOG_IN, 303, PRIVATE)
    answer.delete_cookie(name, httponly=True, samesite="strict")
    return answer
