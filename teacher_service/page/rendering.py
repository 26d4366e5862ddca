"""Templates, and what every answer of the page carries."""

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from fastapi.routing import APIRoute

from cache import SearchTooLong
from teacher_service.errors import BadRequest, ServiceError, as_service_error
from teacher_service.page import visible
from teacher_service.page.assets import SCRIPT, STYLE, source_of

if TYPE_CHECKING:
    from jinja2 import Environment


SAFETY = {
    # Whatever a completion holds: no script but ours, nothing from elsewhere, no frame around us.
    "Content-Security-Policy": (
        f"default-src 'none'; script-src {source_of(SCRIPT)}; style-src {source_of(STYLE)}; "
        "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # Not `no-referrer`: with that a browser hides a form's origin from us too.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
PRIVATE = {**SAFETY, "Cache-Control": "no-store"}


class PageRoute(APIRoute):
    """A route whose every error is a page too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's own handler, with its exceptions shown."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                said = "; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in error.errors())
                return problem(request, BadRequest(said))
            except SearchTooLong as error:
                return problem(request, BadRequest(str(error)))
            except Exception as error:
                return problem(request, as_service_error(error))

        return answer


def page(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """A page made from a template."""
    return HTMLResponse(render(request, template, **values), status, PRIVATE)


def problem(request: Request, error: ServiceError) -> Response:
    """What went wrong, for a person."""
    return page(request, "problem.html", error.status, message=error.message)


def render(request: Request, template: str, **values: Any) -> str:
    """The text of a page, or of a part of one."""
    state = request.app.state
    known = {
        "path": request.url.path,
        "teacher": state.teacher.identity,
        "mode": state.settings.mode,
        "locked": not state.ring.is_open,
    }
    text = _environment().get_template(template).render(**known, **values)
    # Half a character, from a damaged row, has no UTF-8.
    return text.encode(errors="replace").decode()


def compile_templates() -> None:
    """Compile the templates, and import what that takes."""
    for name in _environment().list_templates():
        _environment().get_template(name)


@lru_cache
def _environment() -> "Environment":
    # Imported here: a service whose page nobody opens has no use for it.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("teacher_service.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"style": STYLE, "script": SCRIPT}
    environment.filters |= {
        "count": lambda number: f"{number:,}",
        "duration": _duration,
        "excerpt": visible.excerpt,
        "money": _money,
        "moment": _moment,
        "rate": lambda rate: f"{rate:,.1f}" if 0 < rate < 100 else f"{rate:,.0f}",
        "share": lambda share: f"{100 * share:.1f} %",
        "size": _size,
        "visible": visible.visible,
    }
    return environment


def _money(amount: float) -> str:
    """Cents of what is much, and the first digits of what is little."""
    digits = 2 if amount >= 1 or not amount else 4 if amount >= 0.01 else 6
    return f"{amount:,.{digits}f}"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _duration(seconds: float) -> str:
    return f"{1000 * seconds:,.0f} ms" if seconds < 1 else f"{seconds:,.1f} s"


def _size(size: float) -> str:
    units = ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        units.pop(0)
    digits = 0 if size >= 100 or units[0] == "bytes" else 1
    return f"{size:,.{digits}f} {units[0]}"
