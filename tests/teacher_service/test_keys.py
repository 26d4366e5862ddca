"""Who gets in: with keys, without, from where, under which name."""

import json
import stat

import pytest

from teacher_service import StartError, create_app, load_settings
from teacher_service import keys as keys_module
from teacher_service.gate import hosts_of
from teacher_service.keys import KeyRing, add_key, read_keys, revoke_key

CHAT = {"model": "builtin", "messages": [{"role": "user", "content": "one"}]}


@pytest.fixture
def keys_path(tmp_path):
    """Where the test's keys are, or will be."""
    return tmp_path / "keys" / "keys.json"


@pytest.fixture
def locked(start, keys_path):
    """A service with a key of each scope: (service, name -> headers)."""
    headers = {
        scope: {"Authorization": f"Bearer {add_key(keys_path, scope, [scope])}"}
        for scope in ("use", "read", "admin")
    }
    return start(keys_file=str(keys_path)), headers


def test_a_key_is_kept_as_a_digest_that_only_its_owner_may_read(keys_path):
    """Whoever reads the file, or a backup of it, cannot use it."""
    secret = add_key(keys_path, "trainer", ["use"])
    assert len(secret) >= 43
    assert secret not in keys_path.read_text()
    assert stat.S_IMODE(keys_path.stat().st_mode) == 0o600
    assert KeyRing(keys_path).scopes_of(secret) == ("use",)
    for wrong in ("", secret[:-1], secret + "x", secret.upper(), read_keys(keys_path)[0].sha256):
        assert KeyRing(keys_path).scopes_of(wrong) is None


def test_names_are_unique_and_can_be_revoked(keys_path):
    """A revoked last key leaves a closed service, not an open one."""
    add_key(keys_path, "one", ["use"])
    with pytest.raises(StartError, match="there is a key 'one' already"):
        add_key(keys_path, "one", ["admin"])
    with pytest.raises(StartError, match="no key 'two'; there are: one"):
        revoke_key(keys_path, "two")
    revoke_key(keys_path, "one")
    assert read_keys(keys_path) == []
    assert not KeyRing(keys_path).is_open


@pytest.mark.parametrize("text", ["", "{}", '[{"name": "x"}]', '[{"name": 1, "scopes": ["all"]}]'])
def test_a_file_that_is_no_list_of_keys_stops_the_start(keys_path, store_path, text):
    """Rather closed than open by mistake."""
    keys_path.parent.mkdir()
    keys_path.write_text(text)
    settings = load_settings(None, {"keys_file": str(keys_path), "store": str(store_path)})
    with pytest.raises(StartError, match="expected the keys as"):
        create_app(settings)


def test_without_a_key_nothing_but_health_is_answered(locked, tmp_path):
    """Every route that there is, and some that there are not."""
    service, _ = locked
    twin = create_app(load_settings(None, {"store": str(tmp_path / "twin.sqlite")}))
    routes = [(method, path) for path, each in twin.openapi()["paths"].items() for method in each]
    twin.state.teacher.store.close()
    assert len(routes) > 10
    for method, path in [*routes, ("GET", "/"), ("GET", "/metrics"), ("DELETE", "/v1/nothing")]:
        reply = service.http.request(method, path)
        if path in ("/livez", "/readyz"):
            assert reply.status_code == 200
            continue
        assert (path, reply.status_code) == (path, 401)
        assert reply.headers["www-authenticate"] == "Bearer"
        assert reply.json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer nonsense", "Basic dXNlOng=", "Bearer \xff"]
)
def test_a_wrong_key_is_no_key(locked, header):
    """Whatever it looks like."""
    service, _ = locked
    reply = service.http.get("/v1/models", headers={"Authorization": header.encode("latin-1")})
    assert reply.status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v1/chat/completions", {"use", "admin"}),
        ("GET", "/v1/models", {"use", "admin"}),
        ("GET", "/v1/cache/stats", {"use", "read", "admin"}),
        ("GET", "/v1/ledger", {"read", "admin"}),
        ("POST", "/v1/cache/lookup", {"read", "admin"}),
        ("GET", "/v1/cache/export", {"read", "admin"}),
        ("POST", "/v1/cache/import", {"admin"}),
        ("POST", "/v1/cache/verify", {"admin"}),
    ],
)
def test_a_key_may_what_its_scopes_say(locked, method, path, allowed):
    """Use, read, or admin, which may all."""
    service, headers = locked
    body = CHAT if path.endswith("completions") else {}
    for scope, bearer in headers.items():
        reply = service.http.request(method, path, headers=bearer, json=body)
        assert (scope, reply.status_code != 403) == (scope, scope in allowed)
        assert reply.status_code != 401


def test_a_running_service_hears_of_new_and_revoked_keys(start, keys_path, monkeypatch):
    """The first key closes it; no restart."""
    monkeypatch.setattr(keys_module, "_LOOK_S", 0.0)
    service = start(keys_file=str(keys_path))
    assert service.http.get("/v1/models").status_code == 200
    headers = {"Authorization": f"bearer {add_key(keys_path, 'a', ['use'])}"}
    assert service.http.get("/v1/models").status_code == 401
    assert service.http.get("/v1/models", headers=headers).status_code == 200
    revoke_key(keys_path, "a")
    assert service.http.get("/v1/models", headers=headers).status_code == 401
    keys_path.unlink()
    assert service.http.get("/v1/models").status_code == 401


def test_readiness_tells_strangers_no_reason(start, store_path, keys_path, monkeypatch):
    """A path or a database's host is for those with a key."""
    from cache import CompletionStore, StoreFull

    def full(self):
        raise StoreFull("/the/disk is full")

    headers = {"Authorization": f"Bearer {add_key(keys_path, 'a', ['read'])}"}
    service = start(keys_file=str(keys_path))
    monkeypatch.setattr(CompletionStore, "check_writable", full)
    bare, told = service.http.get("/readyz"), service.http.get("/readyz", headers=headers)
    assert (bare.status_code, bare.json()) == (503, {"status": "unavailable"})
    assert (told.status_code, told.json()["reason"]) == (503, "/the/disk is full")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[::1"])
def test_another_name_for_this_machine_is_refused(service, host):
    """What a page does that points its own name here (DNS rebinding)."""
    reply = service.http.get("/v1/models", headers={"Host": host})
    assert reply.status_code == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:1", "[::1]:8080"])
def test_loopback_has_several_names(service, host):
    """With any port: a tunnel has its own."""
    assert service.http.get("/v1/models", headers={"Host": host}).status_code == 200


def test_names_may_be_listed(start):
    """Behind a proxy that keeps the outer name."""
    service = start(allowed_hosts=["Teacher.example"])
    assert service.http.get("/livez", headers={"Host": "teacher.example"}).status_code == 200
    assert service.http.get("/livez").status_code == 403
    assert hosts_of("0.0.0.0", None) is None
    assert "127.0.0.2" in hosts_of("127.0.0.2", None)


def test_pages_of_other_sites_are_refused(service):
    """A form's POST needs no permission of ours to arrive, so it is not let in."""
    own = {"Origin": service.url}
    assert service.http.post("/v1/chat/completions", json=CHAT, headers=own).status_code == 200
    for origin in ("https://evil.example", "null", service.url + "1"):
        reply = service.http.post("/v1/chat/completions", json=CHAT, headers={"Origin": origin})
        assert reply.status_code == 403


def test_a_body_over_the_limit_is_not_read(start):
    """Known from its length, or found out on the way."""
    service = start(max_body_bytes=1000)
    whole = json.dumps({**CHAT, "x": "y" * 2000}).encode()
    assert service.http.post("/v1/chat/completions", content=whole).status_code == 413
    parts = (whole[start : start + 100] for start in range(0, len(whole), 100))
    assert service.http.post("/v1/chat/completions", content=parts).status_code == 413


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 1_000_000,
        b'{"a":' * 1_000_000,
        b'{"model": "builtin", "messages": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"model": "builtin", "messages": [{"role": "user", "content": "\xff\xfe"}]}',
        b'{"model": "builtin", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"model": "builtin", "messages": [{"role": "user", "content": 1' + b"0" * 5000 + b"}]}",
        b'{"model": "builtin", "n": 1e400, "messages": [{}]}',
        b"\x00" * 1000,
    ],
)
def test_hostile_bodies_are_the_clients_fault(service, body):
    """4xx on every route that takes one, and the service goes on."""
    for path in ("/v1/chat/completions", "/v1/teacher/completions", "/v1/cache/lookup"):
        assert 400 <= service.http.post(path, content=body).status_code < 500
    assert service.chat("one").status_code == 200


def test_the_trainers_client_brings_its_key(locked):
    """From TACO_TEACHER_KEY, as its error says where there is none."""
    from trainer.errors import TeacherRejected
    from trainer.rollouts.teacher_client import TeacherClient
    from trainer.types import TeacherItem

    service, headers = locked
    how = {"model": "builtin", "prompt_template": "{transcript}", "sampling": {"max_tokens": 9}}
    key = headers["use"]["Authorization"].removeprefix("Bearer ")
    with TeacherClient.connect(service.url, **how, api_key=key) as teacher:
        assert teacher.complete([TeacherItem("one")])[0].fingerprint
        assert teacher.digest()
    with (
        TeacherClient.connect(service.url, **how) as teacher,
        pytest.raises(TeacherRejected, match="is TACO_TEACHER_KEY right"),
    ):
        teacher.complete([TeacherItem("one")])
