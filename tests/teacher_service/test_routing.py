"""The short way to the routes that are asked most."""

import asyncio

import pytest

from teacher_service import routes
from teacher_service.routing import ShortWay


@pytest.mark.parametrize(
    ("method", "path", "short"),
    [
        ("POST", "/v1/chat/completions", True),
        ("POST", "/v1/teacher/completions", True),
        ("GET", "/v1/models", True),
        ("GET", "/v1/models/builtin", False),  # Its path has a parameter.
        ("GET", "/v1/chat/completions", False),
        ("POST", "/v1/chat/completions/", False),
        ("POST", "/V1/chat/completions", False),
        ("GET", "/livez", False),  # It takes no request, so FastAPI has to call it.
    ],
)
def test_only_a_known_path_and_method_go_the_short_way(method, path, short, monkeypatch):
    """All else is the router's, errors included."""
    gone = []

    async def router(*_):
        gone.append("router")

    async def direct(*_):
        gone.append("direct")

    for route in routes.router.routes:
        monkeypatch.setattr(route, "app", direct)
    way = ShortWay(router, routes.router.routes)
    asyncio.run(way({"type": "http", "method": method, "path": path}, None, None))
    asyncio.run(way({"type": "lifespan"}, None, None))
    assert gone == ["direct" if short else "router", "router"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/chat/completions", 405), ("POST", "/V1/chat/completions", 404)],
)
def test_what_the_router_refuses_is_an_error_of_openai_s_form(service, method, path, status):
    """Beside a short way as elsewhere."""
    reply = service.http.request(method, path)
    assert reply.status_code == status
    assert reply.json()["error"]["type"] == "invalid_request_error"
