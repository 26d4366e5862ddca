"""Whatever is sent to whichever route, the service itself does not fail."""

import json
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from teacher_service import create_app, load_settings

NAMES = ["model", "messages", "prompt", "prompt_template", "items", "n", "stream", "keys", "x"]
LIKELY = st.sampled_from(["builtin", "{transcript}", "user", {"role": "user", "content": "a"}, 1])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | LIKELY,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text() | st.sampled_from(["role", "content", "text"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
BODIES = st.one_of(
    st.binary(max_size=200),
    st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6).map(lambda body: json.dumps(body)),
    VALUES.map(
        lambda value: json.dumps(
            {"model": "builtin", "messages": value, "prompt": value, "items": value}
            | {"prompt_template": "{transcript}", "requests": value}
        )
    ),
)
PARTS = st.text(st.characters(codec="ascii"), min_size=1, max_size=70)


@pytest.fixture(scope="module")
def routes(tmp_path_factory):
    """Every (method, path) of the OpenAPI document."""
    store = tmp_path_factory.mktemp("routes") / "completions.sqlite"
    app = create_app(load_settings(None, {"store": str(store)}))
    app.state.teacher.store.close()
    listed = [(method, path) for path, each in app.openapi()["paths"].items() for method in each]
    assert len(listed) > 10
    return listed


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_no_request_is_a_fault_of_the_service(service, routes, data):
    """An answer below 500, JSON where it refuses, in OpenAI's form."""
    method, path = data.draw(st.sampled_from(routes))
    for name in ("key", "name", "name:path", "run_id"):
        path = path.replace("{" + name + "}", quote(data.draw(PARTS), safe=""))
    body = data.draw(BODIES)
    query = data.draw(st.dictionaries(st.sampled_from(["limit", "verify", "q"]), PARTS, max_size=2))
    content = body.encode(errors="surrogatepass") if isinstance(body, str) else body
    reply = service.http.request(
        method, path, params=query, content=None if method == "get" else content
    )
    assert reply.status_code < 500, reply.text
    if reply.status_code >= 400:
        assert set(reply.json()["error"]) >= {"message", "type", "param", "code"}
