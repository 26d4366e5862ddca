"""The kind of route that the JSON routes are, and the short way to the busy ones."""

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from teacher_service.replies import error_reply


class ErrorRoute(APIRoute):
    """A route whose every error becomes OpenAI's error body.

    FastAPI finds an endpoint's arguments anew for each request, which takes as long as the look-up
    in the store; one that wants nothing but the request is spared that.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.is_direct = inspect.signature(endpoint).parameters.keys() == {"request"}
        """The endpoint takes the request as it is, and there is nothing to prepare."""
        if self.is_direct:
            self.app = _asked_directly(endpoint)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, with its exceptions shaped."""
        return _shaped(super().get_route_handler())


class ShortWay:
    """Leads a request straight to its route, where the path alone says which that is.

    The router finds it too, but behind handlers for exceptions and dependencies that such a route
    has no use for, and after trying one pattern after another: half the time of a stored answer.

    Args:
        app: The router, for all other requests.
        routes: The application's.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._direct = {
            (method, route.path): route.app
            for route in routes
            if isinstance(route, ErrorRoute) and route.is_direct and "{" not in route.path
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        known = self._direct.get((scope["method"], scope["path"])) if "method" in scope else None
        await (known or self._app)(scope, receive, send)


def _shaped(
    handle: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def answer(request: Request) -> Response:
        try:
            return await handle(request)
        except Exception as error:
            return error_reply(error)

    return answer


def _asked_directly(endpoint: Callable[[Request], Awaitable[Response]]) -> ASGIApp:
    answer = _shaped(endpoint)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await answer(Request(scope, receive, send))
        await response(scope, receive, send)

    return app
