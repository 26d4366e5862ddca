"""The azure backend against scripted endpoints on loopback, the official client on the wire."""

import json
import logging
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from teacher_service import StartError, create_app, load_settings
from teacher_service.backends import retries
from teacher_service.backends.failover import Failover
from teacher_service.identity import hosted_identity
from tests.teacher_service.conftest import Service, Upstream, serving

MODEL, VERSION = "gpt-4o", "2024-08-06"


class AzureEndpoint(Upstream):
    """Answers as a deployment of gpt-4o does."""

    MODEL = f"{MODEL}-{VERSION}"

    @property
    def url_of_resource(self) -> str:
        return self.url.removesuffix("/v1")


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.setattr(retries, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "azure-secret")


@pytest.fixture
def primary() -> Iterator[AzureEndpoint]:
    """The first endpoint."""
    with serving(AzureEndpoint()) as endpoint:
        yield endpoint


@pytest.fixture
def secondary() -> Iterator[AzureEndpoint]:
    """The second."""
    with serving(AzureEndpoint()) as endpoint:
        yield endpoint


@pytest.fixture
def start_azure(start, primary, secondary):
    """Start a service over both; `secondary` is merged into its section."""

    def start_it(secondary_section: dict | None = None, **azure) -> Service:
        section = {
            "model": MODEL,
            "version": VERSION,
            "primary": {"endpoint": primary.url_of_resource, "deployment": "mine"},
            "secondary": {
                "endpoint": secondary.url_of_resource,
                "api_version": "2025-01-01-preview",
                **(secondary_section or {}),
            },
            **azure,
        }
        return start(backend="azure", served_models=["builtin"], azure=section)

    return start_it


def test_a_deployment_is_called_as_azure_wants_it(start_azure, primary):
    """Path, api-version and the header `api-key`; never an Authorization header."""
    service = start_azure()
    reply = service.chat("one", temperature=0)
    assert reply.status_code == 200
    url = urlsplit(primary.paths[0])
    assert url.path == "/openai/deployments/mine/chat/completions"
    assert parse_qs(url.query) == {"api-version": ["2024-10-21"]}
    assert primary.headers[0]["api-key"] == "azure-secret"
    assert "authorization" not in primary.headers[0]
    assert primary.requests[0]["temperature"] == 0
    assert service.chat("one", temperature=0).json() == reply.json()
    assert len(primary.paths) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_the_secondary_answers_for_a_primary_in_trouble(start_azure, primary, secondary, status):
    """At once, with its own api version, while the primary is left alone."""
    service = start_azure()
    primary.script = [primary.error(status)]
    for text in ("one", "two", "three"):
        assert service.chat(text).status_code == 200
    assert len(primary.paths) == 1
    assert len(secondary.paths) == 3
    assert secondary.paths[0].startswith(f"/openai/deployments/{MODEL}/")
    assert "api-version=2025-01-01-preview" in secondary.paths[0]


def test_a_primary_that_is_gone_is_an_outage_too(start_azure, secondary):
    """Nothing listens there."""
    service = start_azure(primary={"endpoint": "http://127.0.0.1:9"})
    assert service.chat("one").status_code == 200
    assert len(secondary.paths) == 1


def test_the_primary_is_asked_again_after_its_rest(start_azure, primary, secondary):
    """After `rest_s`, or after what it said itself."""
    service = start_azure(rest_s=30)
    primary.script = [primary.error(429, headers={"retry-after-ms": "500"})]
    service.chat("one")
    time.sleep(0.6)
    service.chat("two")
    assert (len(primary.paths), len(secondary.paths)) == (2, 1)


def test_two_endpoints_at_their_limit_are_waited_for(start_azure, primary, secondary):
    """By the shorter of the two waits, and without flipping between them meanwhile."""
    service = start_azure()
    primary.script = [primary.error(429, headers={"Retry-After": "30"})]
    secondary.script = [secondary.error(429, headers={"Retry-After": "1"})]
    assert service.chat("one").status_code == 200
    assert (len(primary.moments), len(secondary.moments)) == (1, 2)
    assert secondary.moments[1] - secondary.moments[0] >= 1


def test_what_is_final_is_not_asked_elsewhere(start_azure, primary, secondary):
    """A refused request is refused by the same model everywhere; a filter is an outcome."""
    service = start_azure()
    primary.script = [primary.error(400), primary.error(400, "content_filter")]
    assert service.chat("one").status_code == 400
    [item] = service.batch([{"text": "two"}]).json()["data"]
    assert (item["outcome"], item["reason"]) == ("refused", "content_filter")
    assert secondary.paths == []


def test_a_reply_of_another_version_is_never_filed(start_azure, primary):
    """A deployment may be upgraded behind our back."""
    service = start_azure()
    primary.script = [primary.chat(model="gpt-4o-2024-11-20")]
    reply = service.chat("one")
    assert reply.status_code == 502
    assert "gpt-4o-2024-11-20" in reply.json()["error"]["message"]
    assert service.completions_stored() == 0


def test_the_filters_report_is_no_part_of_the_answer(start_azure, primary):
    """The same text with another report on it is the same answer."""
    service = start_azure()
    report = {"hate": {"filtered": False, "severity": "safe"}}
    message = {"role": "assistant", "content": "Anna."}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    primary.script = [
        primary.chat(choices=[choice | {"content_filter_results": report}]),
        primary.chat(choices=[choice]),
    ]
    digests = [service.batch([{"text": text}]).json()["data"][0]["content_digest"] for text in "ab"]
    assert digests[0] == digests[1]


def test_another_version_is_no_fallback(start_azure, primary, secondary, caplog):
    """Its answers would be filed as the primary's; the log says so, and retries go on."""
    with caplog.at_level(logging.WARNING):
        service = start_azure({"version": "2024-11-20"})
    assert "allow_mixed_teachers" in caplog.text
    primary.script = [primary.error(503)]
    assert service.chat("one").status_code == 200
    assert len(primary.paths) == 2
    assert secondary.paths == []


def test_a_mixture_that_is_asked_for_is_a_teacher_of_its_own(start_azure, primary, secondary):
    """Nothing of it is ever served as one of its parts."""
    service = start_azure({"version": "2024-11-20"}, allow_mixed_teachers=True)
    primary.script = [primary.error(503)]
    secondary.script = [secondary.chat(model="gpt-4o-2024-11-20")]
    reply = service.batch([{"text": "one"}]).json()
    assert reply["data"][0]["outcome"] == "completed"
    alone = [
        hosted_identity("openai", f"{MODEL}-{one}", "azure") for one in (VERSION, "2024-11-20")
    ]
    assert reply["teacher"] not in [one.digest for one in alone]


def test_it_is_the_teacher_that_openai_serves(start_azure):
    """The same model and version: what one has bought, the other serves."""
    teacher = start_azure().batch([{"text": "one"}]).json()["teacher"]
    assert teacher == hosted_identity("openai", f"{MODEL}-{VERSION}", "openai").digest


def test_each_endpoint_may_have_a_key_of_its_own(start_azure, primary, secondary, monkeypatch):
    """Two resources, two keys."""
    monkeypatch.setenv("SECOND_KEY", "second-secret")
    service = start_azure({"api_key_env": "SECOND_KEY"})
    primary.script = [primary.error(503)]
    service.chat("one")
    assert primary.headers[0]["api-key"] == "azure-secret"
    assert secondary.headers[0]["api-key"] == "second-secret"


class IdentityEndpoint(ThreadingHTTPServer):
    """What App Service offers to its applications: tokens of a managed identity."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _IdentityHandler)
        self.asked: list[dict[str, list[str]]] = []
        self.status = 200


class _IdentityHandler(BaseHTTPRequestHandler):
    server: IdentityEndpoint

    def do_GET(self) -> None:
        self.server.asked.append(parse_qs(urlsplit(self.path).query))
        known = self.headers["X-IDENTITY-HEADER"] == "identity-secret"
        token = {
            "access_token": "a-token",
            "expires_on": str(int(time.time()) + 3600),
            "resource": "https://cognitiveservices.azure.com",
            "token_type": "Bearer",
        }
        body = json.dumps(token if self.server.status == 200 else {"message": "no"}).encode()
        self.send_response(self.server.status if known else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def identity_endpoint(monkeypatch) -> Iterator[IdentityEndpoint]:
    """A managed identity for this machine."""
    server = IdentityEndpoint()
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://127.0.0.1:{server.server_port}/token")
    monkeypatch.setenv("IDENTITY_HEADER", "identity-secret")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_managed_identity_needs_no_key(start_azure, primary, identity_endpoint):
    """One token for the scope, by the client id, for all calls until it runs out."""
    service = start_azure(api_key_env=None, client_id="the-client")
    for text in ("one", "two"):
        assert service.chat(text).status_code == 200
    assert [one["authorization"] for one in primary.headers] == ["Bearer a-token"] * 2
    assert all("api-key" not in one for one in primary.headers)
    [asked] = identity_endpoint.asked
    assert asked["resource"] == ["https://cognitiveservices.azure.com"]
    assert asked["client_id"] == ["the-client"]


def test_an_identity_that_is_refused_is_told(start_azure, primary, identity_endpoint):
    """Nobody is called without a token, and no secret is quoted."""
    identity_endpoint.status = 400
    service = start_azure(api_key_env=None, client_id="the-client")
    reply = service.chat("one")
    assert reply.status_code == 502
    assert reply.json()["error"]["code"] == "no_token"
    assert "identity-secret" not in reply.text
    assert primary.paths == []


@pytest.mark.parametrize(
    ("azure", "said"),
    [({}, "azure.primary.endpoint"), ({"primary": {"endpoint": "http://x"}}, "NO_SUCH_KEY")],
)
def test_what_is_missing_is_a_start_error(azure, said, store_path):
    """An endpoint, or its key."""
    section = {"api_key_env": "NO_SUCH_KEY", **azure}
    settings = {"backend": "azure", "azure": section, "store": store_path}
    with pytest.raises(StartError, match=said):
        create_app(load_settings(None, settings))


def test_endpoints_rest_and_come_back():
    """By a clock of the test's own; somebody is always asked."""
    now = [0.0]
    failover = Failover(2, rest_s=30, clock=lambda: now[0])
    assert failover.order() == [0, 1]
    failover.failed(0, 0)
    assert failover.order() == [1]
    failover.failed(1, 5)
    assert failover.order() == [1]
    now[0] = 6
    assert failover.order() == [1]
    now[0] = 31
    assert failover.order() == [0, 1]
    failover.failed(0, 100)
    failover.worked(0)
    assert failover.order() == [0, 1]
