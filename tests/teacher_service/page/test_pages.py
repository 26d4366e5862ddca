"""The page over HTTP: what it shows, to whom, and what it lets nothing do."""

import hashlib
import json
import re
import subprocess
import sys
from base64 import b64encode
from html import unescape

import httpx2
import pytest

from cache import Completion, CompletionStore, Fingerprint, NewEntry, canonical_json
from cache.exporting import export_store
from teacher_service.keys import KeyRing, add_key, revoke_key
from teacher_service.page import entries, log_in, routes, sessions
from teacher_service.page.paths import safe_next
from tests.cache.conftest import TEACHER
from tests.teacher_service.conftest import running

RUN = {"X-Taco-Run": "demo-1a2b", "X-Taco-Step": "3"}
HTML = {"Accept": "text/html"}
HOSTILE = "</pre><script>alert(1)</script> \u202e\x1b[31m\x00 '\"><img src=x onerror=alert(2)>"
PAGES = ["/", "/page/live", "/page/entries", "/page/runs", "/page/run?name=demo-1a2b", "/page/miss"]


def _key(reply):
    return reply.headers["Cache-Status"].split('key="')[1].rstrip('"')


@pytest.fixture
def get(service):
    """A page's text, which is to be a good one."""

    def get_it(path, status=200, **parameters):
        reply = service.http.get(path, params=parameters or None)
        assert reply.status_code == status, reply.text
        return reply.text

    return get_it


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A service that has answered "one"; for tests that do not mind what others ask."""
    store = tmp_path_factory.mktemp("shared") / "store.sqlite"
    with running({"store": store}) as service:
        service.chat("one", headers=RUN)
        yield service


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """A service with a key of each scope: (service, scope -> key)."""
    folder = tmp_path_factory.mktemp("locked")
    path = folder / "keys.json"
    keys = {scope: add_key(path, scope, [scope]) for scope in ("use", "read", "admin")}
    with running({"store": folder / "store.sqlite", "keys_file": str(path)}) as service:
        yield service, keys


@pytest.mark.parametrize("path", [*PAGES, "/page/entries/00", "/page/entries?teacher=nobody"])
def test_every_page_forbids_what_it_does_not_need(shared, path):
    """No script from elsewhere, no frame, no guessing of types, no copy in any cache."""
    headers = shared.http.get(path).headers
    policy = dict(
        part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["form-action"] == "'self'"
    assert "'unsafe" not in str(policy)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Type"] == "text/html; charset=utf-8"


def test_style_and_script_are_in_the_page_and_the_policy_allows_these_alone(shared):
    """Nothing has to be fetched before it can be painted; no handler, no style in an attribute."""
    key = _key(shared.chat("one", headers=RUN))
    for path in [*PAGES, f"/page/entries/{key}"]:
        reply = shared.http.get(path)
        policy = reply.headers["Content-Security-Policy"]
        for kind, text in re.findall(r"<(style|script)>(.*?)</\1>", reply.text, re.DOTALL):
            digest = b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert f"{kind}-src 'sha256-{digest}';" in policy
        text = re.sub(r"<(style|script)>.*?</\1>", "", reply.text, flags=re.DOTALL)
        assert not re.search(r"<style|<script|<link rel=.stylesheet|\sstyle=|\son\w+=", text)
    assert "<style>" in shared.http.get("/page/entries").text
    assert "<script>" in shared.http.get("/").text


def test_the_picture_is_a_file_of_its_own(shared):
    """And the only one."""
    reply = shared.http.get("/page/static/icon.svg")
    assert reply.status_code == 200
    assert reply.headers["Content-Type"] == "image/svg+xml"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert shared.http.get("/page/static/..%2frendering.py").status_code == 404


def test_a_service_makes_its_page_ready_before_anybody_comes():
    """What the first visitor would have to wait for, in a process that nobody visits."""
    code = (
        "import asyncio, sys; from teacher_service.page import routes; routes._SETTLED_S = 0; "
        "assert not {'sqlalchemy', 'jinja2'} & sys.modules.keys(); "
        "asyncio.run(routes.warm_up()); assert {'sqlalchemy', 'jinja2'} <= sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_first_page_tells_what_the_service_does(start):
    """Counts, latency, money, runs and entries; none of them made up."""
    service = start(prices={"input_per_million": 2.0, "output_per_million": 10.0})
    service.chat("one two three", headers=RUN)
    service.chat("one two three", headers=RUN)
    service.http.get("/v1/runs")  # Writes what was noted.
    text = " ".join(unescape(re.sub("<[^>]*>", " ", service.http.get("/").text)).split())
    assert "50.0 %" in text
    assert "1 hits · 0 waited · 1 misses" in text
    assert "mean 0 ms" in text
    assert "0.000016 USD 1 answers · 4 tokens" in text
    assert "demo-1a2b" in text
    assert "one two three" in text
    live = service.http.get("/page/live").text
    assert "50.0 %" in live
    assert "<html" not in live


def test_queue_breaker_and_spending_are_shown_where_there_is_an_upstream(start_hosted):
    """The built-in teacher has none."""
    text = start_hosted().http.get("/").text
    assert "Breaker" in text
    assert "0 of 32 calls under way" in text


def test_trouble_is_said_on_the_first_page(service, monkeypatch):
    """In the words of /readyz."""
    from cache import CompletionStore, StoreFull

    def full(self):
        raise StoreFull("the disk is <full>")

    monkeypatch.setattr(CompletionStore, "check_writable", full)
    assert "the disk is &lt;full&gt;" in service.http.get("/").text


def test_an_entry_shows_everything_about_a_key(service, get):
    """Request, answer, provenance, and the runs that used it, each a link."""
    key = _key(service.chat("Who leads? Anna leads.", headers=RUN, temperature=0.5))
    text = get(f"/page/entries/{key[:10]}")
    for part in ("Who leads? Anna leads.", "temperature", "0.5", "taco-builtin", "demo-1a2b", key):
        assert part in text
    assert f'href="/page/entries/{key}"' in get("/page/entries")
    assert f'href="/page/entries/{key}"' in get("/page/run", name="demo-1a2b")


def test_alternates_and_refusals_are_shown_beside_the_answer(start_hosted, upstream):
    """Which one is served is said."""
    service = start_hosted()
    upstream.script = [upstream.chat("first one"), upstream.chat("second one")]
    key = _key(service.chat("one"))
    service.chat("one", headers={"Cache-Control": "no-cache"})
    served, beside = service.http.get(f"/page/entries/{key}").text.split("Beside it")
    assert "first one" in served
    assert "second one" in beside
    upstream.script = [upstream.error(400, code="content_filter")]
    service.chat("two")
    assert "refused" in service.http.get("/page/entries").text


def test_a_hostile_text_is_text_everywhere(start_hosted, upstream):
    """In lists, titles, fields, names of runs; in the answer as in the request."""
    service = start_hosted()
    upstream.script = [upstream.chat(HOSTILE)]
    run = "</title><script>alert(1)</script>"
    key = _key(service.chat(HOSTILE, headers={"X-Taco-Run": run}, user_field=HOSTILE))
    service.http.get("/v1/runs")
    paths = ["/", "/page/entries", "/page/runs", f"/page/entries/{key}"]
    replies = [service.http.get(path) for path in paths]
    replies += [
        service.http.get(path, params={"name": run, "run": run})
        for path in ("/page/run", "/page/entries")
    ]
    for reply in replies:
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in reply.text
        assert not re.search(r"<script>alert|<img src=x|[\x00\x1b\u202e]", reply.text)
    assert "U+202E" in replies[3].text
    pasted = service.http.post("/page/miss", data={"request": HOSTILE}).text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in pasted
    assert "<script>" not in pasted


@pytest.mark.parametrize(
    ("request_", "shown"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "part"}]}]}, "part"),
        ({"messages": [{"role": "user", "content": "one"}, "bare"]}, "bare"),
        ({"messages": []}, "document.request.messages"),
        ({"prompt": [1, 2, 3]}, "[1, 2, 3]"),
        ("a word", "document.request"),
        (None, "document.teacher"),
    ],
)
def test_a_strange_request_is_shown_too(run_service, store_path, request_, shown):
    """Whatever another program filed under its key."""
    document = canonical_json({"request": request_, "teacher": TEACHER.digest}).decode()
    key = hashlib.sha256(document.encode()).digest()
    entry = NewEntry(Fingerprint(key, document), TEACHER.digest, None, Completion("x", "stop"))
    with CompletionStore.open(store_path) as store:
        store.register_teacher(TEACHER)
        store.commit([entry]).result()
    with run_service(mode="replay") as service:
        text = service.http.get(f"/page/entries/{key.hex()}")
        assert text.status_code == 200
        assert shown in unescape(text.text)
        assert key.hex() in service.http.get("/page/entries?text=x").text


def test_a_text_of_a_megabyte_is_cut_until_it_is_wanted(service, get):
    """The list and the entry stay small; all of it is one link away."""
    key = _key(service.chat("y" * 1_000_000 + "END"))
    assert len(get("/page/entries")) < 20_000
    assert len(get(f"/page/entries/{key}")) < 40_000
    assert f'href="/page/entries/{key}?whole=1"' in get(f"/page/entries/{key}")
    whole = get(f"/page/entries/{key}", whole=1)
    assert whole.count("y" * 1_000_000) >= 1


def test_a_request_of_very_many_messages_is_cut_too(service, get):
    """Messages and fields; all of them are one link away."""
    messages = [{"role": "user", "content": f"message {number}."} for number in range(150)]
    bias = {str(number): number for number in range(150)}
    body = {"model": "builtin", "messages": messages, "logit_bias": bias}
    key = _key(service.http.post("/v1/chat/completions", json=body))
    few, all_ = get(f"/page/entries/{key}"), get(f"/page/entries/{key}", whole=1)
    few, all_ = few.partition("<details>")[0], all_.partition("<details>")[0]
    assert (few.count("message "), all_.count("message ")) == (100, 150)
    assert (few.count("logit_bias."), all_.count("logit_bias.")) == (100, 150)
    assert "and 50 more messages" in few
    assert "more than is shown here" in few


def test_an_answer_that_begins_with_a_nul_is_seen_in_lists(start_hosted, upstream):
    """SQLite ends a text there."""
    service = start_hosted()
    upstream.script = [upstream.chat("\0after")]
    service.chat("one")
    assert "U+0000</i>after" in service.http.get("/page/entries").text


def test_pages_of_a_list_hold_every_entry_once(service, get):
    """The latest first; entries that come meanwhile shift none."""
    service.batch([{"text": f"text {number:03}"} for number in range(120)])
    seen, path = [], "/page/entries"
    while path:
        text = unescape(get(path))
        seen += re.findall(r"text (\d{3})", text)
        service.chat(f"meanwhile {len(seen)}")
        link = re.search(r'rel="next" href="([^"]+)"', text)
        path = link and link[1]
    assert seen == [f"{number:03}" for number in reversed(range(120))]


def test_a_run_lists_what_it_used(service, get):
    """Its own uses, the last first, with step and how they were served."""
    for step in range(3):
        service.chat("same", headers={**RUN, "X-Taco-Step": str(step)})
    service.chat("other")
    text = get("/page/run", name="demo-1a2b")
    assert re.findall(r'class="tag (\w+)"', text) == ["hit", "hit", "miss"]
    assert "other" not in text
    assert get("/page/entries", run="demo-1a2b").count("same") == 3
    assert "no run &#39;none&#39;" in get("/page/run", 404, name="none")


def test_entries_of_one_teacher(run_service, upstream, monkeypatch):
    """By name, or by the start of the digest."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    hosted = {"base_url": upstream.url, "provider": "test", "model": upstream.MODEL}
    with run_service(backend="openai", served_models=["builtin"], openai=hosted) as service:
        service.chat("asked upstream")
    with run_service() as service:
        service.chat("asked here")
        both = service.http.get("/page/entries").text
        ours = service.http.get("/page/entries?teacher=builtin").text
        reply = service.http.get("/page/entries?teacher=nobody")
    assert "asked upstream" in both
    assert "asked here" in both
    assert "asked here" in ours
    assert "asked upstream" not in ours
    assert reply.status_code == 404
    assert "no teacher matches" in reply.text


def test_entries_are_found_by_their_words(service, get):
    """Of request and answer; links keep what was asked for."""
    items = [{"text": f"Anna leads Orion{number}.", "question": "Who?"} for number in range(60)]
    service.batch([*items, {"text": "Bo leads Vega.", "question": "Who?"}], headers=RUN)
    assert "Bo <mark>leads</mark> <mark>Vega</mark>." in get("/page/entries", text="vega leads")

    def unmarked(*path, **parameters):
        return re.sub("</?mark>", "", unescape(get(*path, **parameters)))

    found = {"text": "anna LEADS", "teacher": "builtin", "run": "demo-1a2b"}
    text = unmarked("/page/entries", **found)
    assert text.count("Anna leads Orion") == 50
    link = re.search(r'rel="next" href="([^"]+)"', text)[1]
    assert unmarked(link).count("Anna leads Orion") == 10
    assert "Nothing fits" in get("/page/entries", text="anna vega")
    assert "Nothing fits" in get("/page/entries", text="?!")
    exported = get("/page/export", text="vega").splitlines()
    assert len(exported) == 3
    assert "Bo leads Vega." in exported[1]


def test_a_store_in_postgresql_has_the_same_page(start, postgres_url):
    """Every page of it, and a search."""
    service = start(store=postgres_url)
    key = _key(service.chat("Who leads Orion?\0", headers=RUN))
    for path in (*PAGES, f"/page/entries/{key}", "/page/export"):
        assert service.http.get(path).status_code == 200
    assert key in service.http.get("/page/entries?text=orion").text
    assert key not in service.http.get("/page/entries?text=vega").text
    assert key in service.http.get("/page/export?text=orion").text


@pytest.mark.parametrize(
    ("request_body", "said"),
    [
        ({"messages": [{"role": "user", "content": "one"}]}, "This is a hit"),
        (
            {"messages": [{"role": "user", "content": "one"}], "temperature": 1},
            "request.temperature",
        ),
        ({"prompt": "one"}, "request.prompt"),
        ({"prompt_template": "{transcript}", "items": [{"text": "one"}]}, "This is a hit"),
    ],
)
def test_a_miss_is_explained(shared, request_body, said):
    """For each kind of request; nothing is counted."""
    before = shared.since_start()
    body = json.dumps({"model": "builtin", **request_body})
    reply = shared.http.post("/page/miss", data={"request": body})
    assert reply.status_code == 200
    assert said in reply.text
    assert shared.since_start() == before


@pytest.mark.parametrize(
    ("pasted", "status", "said"),
    [
        ("", 400, "paste the JSON body"),
        ("{", 400, "JSON"),
        ("[1]", 400, "expected the body of"),
        ('{"model": "gpt-9", "messages": [{}]}', 404, "gpt-9"),
        ('{"model": "builtin", "messages": []}', 400, "messages"),
        ('{"model": "builtin", "messages": [{}], "x": 1e999}', 400, ""),
    ],
)
def test_what_is_no_request_is_said_beside_the_form(shared, pasted, status, said):
    """With what was pasted still in it."""
    reply = shared.http.post("/page/miss", data={"request": pasted})
    assert reply.status_code == status
    assert said in unescape(reply.text)
    assert f"{pasted}</textarea>" in unescape(reply.text)


def test_what_is_chosen_is_exported_as_the_command_does(run_service, store_path, tmp_path):
    """All of it byte for byte; certain entries, a run's, a teacher's."""
    with run_service() as service:
        keys = [_key(service.chat(text, headers=RUN)) for text in ("one", "two")]
        service.chat("three")
        whole = service.http.get("/page/export")
        some = service.http.get("/page/export", params={"key": keys})
        of_run = service.http.get("/page/export", params={"run": "demo-1a2b"})
        assert service.http.get("/page/export?key=xyz").status_code == 400
        assert service.http.get("/page/export?teacher=nobody").status_code == 404
    export_store(store_path, tmp_path / "written")
    assert whole.content == (tmp_path / "written").read_bytes()
    assert whole.headers["content-type"] == "application/x-ndjson"
    assert "attachment" in whole.headers["content-disposition"]
    assert some.content == of_run.content
    assert sorted(json.loads(line)["key"] for line in some.text.splitlines()[1:-1]) == sorted(keys)


def test_with_keys_every_page_but_the_log_in_is_closed(locked):
    """Every route of the page: a program is told 401, a person sent to the form."""
    service, _ = locked
    known = [
        (method, route.path)
        for module in (routes, entries, log_in)
        for route in module.router.routes
        for method in route.methods
    ]
    assert len(known) > 10
    for method, path in known:
        if path == "/page/login" or path.startswith("/page/static/"):
            continue
        assert service.http.request(method, path).status_code == 401
        sent = service.http.request(method, path, headers=HTML)
        assert sent.status_code == 303
        assert sent.headers["location"].startswith("/page/login")
    form = service.http.get("/page/login").text
    assert service.http.get("/v1/models").status_code == 401
    assert "builtin" not in form
    assert "record" not in form


def test_logging_in_and_out(locked):
    """A cookie that no script reads and no other site sends; the page, and nothing else."""
    service, keys = locked
    with httpx2.Client(base_url=service.url, headers=HTML) as browser:
        sent = browser.get("/page/entries?teacher=builtin")
        assert sent.headers["location"] == "/page/login?next=%2Fpage%2Fentries%3Fteacher%3Dbuiltin"
        reply = browser.post("/page/login", data={"key": f" {keys['read']} ", "next": "/page/runs"})
        assert (reply.status_code, reply.headers["location"]) == (303, "/page/runs")
        cookie = reply.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        assert keys["read"] not in cookie
        assert browser.get("/page/runs").status_code == 200
        assert browser.get("/v1/ledger").status_code == 401
        kept = dict(browser.cookies)
        assert browser.post("/page/logout").status_code == 303
        assert browser.get("/page/runs").status_code == 303
        assert (
            browser.get(
                "/page/runs", headers={"Cookie": "; ".join(f"{n}={v}" for n, v in kept.items())}
            ).status_code
            == 303
        )


def test_behind_https_the_cookie_never_goes_without(locked):
    """As a proxy on this machine says that it is."""
    service, keys = locked
    data, proxied = {"key": keys["read"]}, {"X-Forwarded-Proto": "https"}
    for headers, secure in (({}, False), (proxied, True)):
        reply = service.http.post("/page/login", data=data, headers=headers)
        assert ("Secure" in reply.headers["set-cookie"]) is secure
    service.http.cookies.clear()


@pytest.mark.parametrize(
    ("scope", "status", "said"), [("use", 403, "may use"), (None, 401, "no key of this service")]
)
def test_a_key_that_may_not_read_does_not_log_in(locked, scope, status, said):
    """What it lacks is said; no cookie is set."""
    service, keys = locked
    reply = service.http.post("/page/login", data={"key": keys.get(scope, "taco-wrong")})
    assert reply.status_code == status
    assert said in reply.text
    assert "set-cookie" not in reply.headers


def test_a_key_in_the_header_opens_the_page_too(locked):
    """For programs, and for checks of what is shown."""
    service, keys = locked
    for scope, status in (("read", 200), ("admin", 200), ("use", 403)):
        headers = {"Authorization": f"Bearer {keys[scope]}"}
        assert service.http.get("/", headers=headers).status_code == status


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1"])
def test_a_form_of_another_site_does_nothing(locked, origin):
    """Whatever cookie or key comes with it."""
    service, keys = locked
    for path, data in (
        ("/page/login", {"key": keys["read"]}),
        ("/page/logout", {}),
        ("/page/miss", {}),
    ):
        reply = service.http.post(path, data=data, headers={"Origin": origin, **HTML})
        assert reply.status_code == 403
        assert "set-cookie" not in reply.headers


def test_a_session_ends_with_its_key(start, tmp_path, monkeypatch):
    """A revoked key closes its page within a second."""
    from teacher_service import keys as keys_module

    monkeypatch.setattr(keys_module, "_LOOK_S", 0.0)
    key = add_key(tmp_path / "keys.json", "read", ["read"])
    service = start(keys_file=str(tmp_path / "keys.json"))
    assert service.http.post("/page/login", data={"key": key}).status_code == 303
    assert service.http.get("/page/runs").status_code == 200
    revoke_key(tmp_path / "keys.json", "read")
    assert service.http.get("/page/runs").status_code == 401


def test_sessions_run_out(tmp_path):
    """After twelve hours; who logged out has none any more, who was made up never had one."""
    key = add_key(tmp_path / "keys.json", "a", ["read"])
    add_key(tmp_path / "keys.json", "b", ["admin"])
    now = [1_000.5]
    held = sessions.Sessions(KeyRing(tmp_path / "keys.json"), clock=lambda: now[0])
    first, second = held.start(key), held.start(key)
    held.end(first)
    assert held.scopes_of(first) is None
    assert held.scopes_of(second) == ("read",)
    now[0] += sessions.LIFETIME_S - 1
    assert held.scopes_of(second) == ("read",)
    now[0] += 1
    assert held.scopes_of(second) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda until, nonce, signed: f"{int(until) + 1}.{nonce}.{signed}",
        lambda until, nonce, signed: f"{until}.{nonce}x.{signed}",
        lambda until, nonce, signed: f"{until}.{nonce}.{'0' * len(signed)}",
        lambda until, nonce, signed: f"{until}.{nonce}.",
        lambda until, nonce, signed: f"{until}.{nonce}.é",
        lambda until, nonce, signed: f"{'9' * 5_000}.{nonce}.{signed}",
        lambda until, nonce, signed: f"-1.{nonce}.{signed}",
        lambda until, nonce, signed: "",
    ],
)
def test_a_cookie_that_was_changed_opens_nothing(tmp_path, change):
    """Not even an hour more."""
    key = add_key(tmp_path / "keys.json", "a", ["read"])
    held = sessions.Sessions(KeyRing(tmp_path / "keys.json"))
    cookie = held.start(key)
    assert held.scopes_of(cookie) == ("read",)
    assert held.scopes_of(change(*cookie.split("."))) is None


@pytest.mark.parametrize(
    ("wanted", "where"),
    [
        ("/page/runs", "/page/runs"),
        ("/page/entries?teacher=a", "/page/entries?teacher=a"),
        ("//evil.example/page/", "/"),
        ("https://evil.example/page/", "/"),
        ("/\\evil.example", "/"),
        ("/page/\\evil", "/"),
        ("", "/"),
    ],
)
def test_a_log_in_leads_to_our_own_pages_only(wanted, where):
    """Whoever made the link."""
    assert safe_next(wanted) == where


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/page/entries?before=abc", "before"),
        ("/page/entries?before=99999999999999999999", "before"),
        ("/page/entries?before=-1", "before"),
        ("/page/run", "name"),
        ("/page/export?key=%00", "64 hexadecimal digits"),
    ],
)
def test_a_link_that_is_none_is_a_bad_request(shared, path, said):
    """Told on a page."""
    reply = shared.http.get(path)
    assert reply.status_code == 400
    assert said in reply.text


def test_a_search_that_takes_too_long_says_what_to_do(service, monkeypatch):
    """It is the person's to mend."""
    service.chat("one")
    service.http.get("/page/entries?text=one")
    monkeypatch.setattr("cache.word_file._PATIENCE_S", -1.0)
    monkeypatch.setattr("cache.word_file._INSTRUCTIONS", 1)
    reply = service.http.get("/page/entries?text=one")
    assert reply.status_code == 400
    assert "add a rarer word" in reply.text


def test_an_export_of_half_an_index_is_none(service, monkeypatch):
    """Nobody would see what is missing; a search says so."""
    service.batch([{"text": f"same {number}"} for number in range(300)])
    monkeypatch.setattr("cache.word_file._TURN_S", -1.0)
    monkeypatch.setattr("teacher_service.page.searcher._REST_S", 60.0)
    monkeypatch.setattr("teacher_service.page.entries._EXPORT_PATIENCE_S", 0.2)
    assert "0.3 % of the entries are in it" in service.http.get("/page/entries?text=same").text
    reply = service.http.get("/page/export?text=same")
    assert reply.status_code == 400
    assert "still being made" in reply.text
    assert service.http.get("/page/export").status_code == 200


def test_little_is_read_before_a_key_was_shown(locked):
    """No stranger fills the memory."""
    service, _ = locked
    assert service.http.post("/page/login", content=b"key=" + b"x" * 20_000).status_code == 413


def test_without_keys_there_is_nothing_to_log_in_to(service, get):
    """The form sends on to the page, which has no button to log out."""
    assert service.http.get("/page/login").headers["location"] == "/"
    assert "Log out" not in get("/")


def test_a_replay_server_has_the_page_too(run_service):
    """Over a store that is only read."""
    with run_service() as recorder:
        key = _key(recorder.chat("one", headers=RUN))
    with run_service(mode="replay") as service:
        for path in (*PAGES, f"/page/entries/{key}"):
            assert service.http.get(path).status_code == 200
        assert "replay" in service.http.get("/").text
