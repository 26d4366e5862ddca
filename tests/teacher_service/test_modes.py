"""Record, replay, and what a client may ask of the cache."""

import sqlite3
from contextlib import closing

import pytest

import cache.store
from cache import Completion, CompletionStore, Fingerprint, NewEntry, content_digest
from cache.promoting import promote_alternate
from cache.records import read_records
from teacher_service import StartError, create_app, load_settings


def test_a_restarted_service_serves_what_it_had(run_service):
    """Bit for bit, with no further call."""
    with run_service() as service:
        first = service.chat("one")
    with run_service() as service:
        again = service.chat("one")
        assert service.since_start()["backend_calls"] == 0
    assert first.json() == again.json()


def test_replay_needs_no_backend(start, run_service, start_hosted, upstream, monkeypatch):
    """No key, no upstream: the teacher's identity comes from the store."""
    recorder = start_hosted()
    recorded = recorder.chat("one")
    monkeypatch.delenv("TEST_UPSTREAM_KEY")
    with run_service(backend="openai", mode="replay", served_models=["builtin"]) as replay:
        assert replay.chat("one").json() == recorded.json()
        stats = replay.http.get("/v1/cache/stats").json()
        assert stats["mode"] == "replay"
        assert stats["teacher"] == recorder.http.get("/v1/cache/stats").json()["teacher"]
        assert replay.http.get("/readyz").status_code == 200
    assert len(upstream.requests) == 1


def test_a_replay_miss_says_what_was_looked_for(run_service):
    """In a batch it is one item's failure; what is stored is served beside it."""
    with run_service() as recorder:
        recorder.batch([{"text": "a"}])
    with run_service(mode="replay") as replay:
        hit, miss = replay.batch([{"text": "a"}, {"text": "b"}]).json()["data"]
        assert hit["cache"] == "hit"
        assert miss["outcome"] == "failed"
        assert miss["error"]["type"] == "cache_miss"
        assert miss["key"] in miss["error"]["message"]
        alone = replay.chat("never asked")
        assert alone.status_code == 504
        assert alone.headers["x-should-retry"] == "false"
        counts = replay.since_start()
    assert (counts["hits"], counts["misses"], counts["failed"]) == (1, 2, 2)
    assert counts["backend_calls"] == 0


def test_a_replay_miss_is_explained_by_the_nearest_stored_request(run_service):
    """Fields by name in the message, values beside it: a log of messages quotes no prompt."""
    with run_service() as recorder:
        near = recorder.chat("What did Anna say?", temperature=0)
        recorder.batch([{"text": "The secret plan."}], max_tokens=5)
    with run_service(mode="replay") as replay:
        error = replay.chat("What did Anna say?", temperature=0.7).json()["error"]
        [item] = replay.batch([{"text": "The secret plan."}], max_tokens=6).json()["data"]
    assert error["message"].endswith("differs in: request.temperature")
    assert error["explanation"]["nearest"].startswith(near.json()["id"].removeprefix("chatcmpl-"))
    assert error["explanation"]["differences"] == [
        {"field": "request.temperature", "stored": "0", "asked": "0.7"}
    ]
    assert item["error"]["explanation"]["differences"] == [
        {"field": "request.max_tokens", "stored": "5", "asked": "6"}
    ]
    assert "secret" not in item["error"]["message"]


def test_an_answer_is_served_by_its_digest_whatever_became_the_keys(run_service, store_path):
    """A replay names the recorded answer; a completion that was promoted since is not it."""
    ask = {"text": "Anna leads Zeta.", "question": "Who?"}
    with run_service() as recorder:
        [item] = recorder.batch([ask]).json()["data"]
    with CompletionStore.open(store_path) as store:
        [record] = store.query(lambda connection: list(read_records(connection)))
        asked = Fingerprint(record.key, record.document)
        other = Completion("Berta.", "stop")
        store.commit([NewEntry(asked, record.teacher_digest, None, other)]).result()
    digest = content_digest(other).hex()
    promote_alternate(store_path, item["key"], digest)
    with run_service(mode="replay") as replay:
        asks = [ask, {**ask, "content_digest": item["content_digest"]}]
        plain, wanted = replay.batch(asks).json()["data"]
    assert (plain["text"], plain["content_digest"]) == ("Berta.", digest)
    assert wanted == {**item, "index": 1, "cache": "hit"}


def test_an_answer_that_changed_in_the_file_is_not_served_to_a_replay(run_service, store_path):
    """It would train on it in silence: the digest that it asks by is in the same row."""
    ask = {"text": "Anna leads Zeta.", "question": "Who?"}
    with run_service() as recorder:
        [item] = recorder.batch([ask]).json()["data"]
    with closing(sqlite3.connect(store_path)) as connection, connection:
        connection.execute("UPDATE completions SET text = 'Arna'")
    with run_service(mode="replay") as replay:
        reply = replay.batch([{**ask, "content_digest": item["content_digest"]}])
    assert reply.status_code == 500
    for part in (item["key"], "is not the one that was stored", "taco cache verify", "backup"):
        assert part in reply.json()["error"]["message"]


def test_a_digest_that_is_not_stored_is_a_miss_of_any_server(run_service):
    """No model can be asked for it; who records goes upstream for the other items alone."""
    ask = {"text": "Anna leads Zeta."}
    wanted = {**ask, "content_digest": "0" * 64}
    with run_service() as recorder:
        first, second = recorder.batch([wanted, ask]).json()["data"]
        [third] = recorder.batch([wanted]).json()["data"]
        assert recorder.since_start()["backend_calls"] == 1
    assert second["outcome"] == "completed"
    for item in (first, third):
        assert item["error"]["type"] == "cache_miss"
        assert f"no answer {'0' * 64} of teacher" in item["error"]["message"]
    assert third["error"]["message"].endswith("Under this key is another answer")


def test_only_the_first_misses_of_a_request_are_explained(run_service):
    """They mostly have one cause."""
    with run_service() as recorder:
        recorder.batch([{"text": "a"}])
    with run_service(mode="replay") as replay:
        for headers in ({}, {"Accept": "application/x-ndjson"}):
            reply = replay.batch([{"text": text} for text in "abcdef"], headers=headers)
            explained = ["explanation" in line for line in reply.text.split('"index":')[1:]]
            assert explained == [False, True, True, True, False, False]


@pytest.mark.parametrize("directive", ["no-cache", "max-age=0"])
def test_a_replay_server_goes_upstream_for_nobody(run_service, directive):
    """A client that wants a fresh answer gets none, not an old one."""
    with run_service() as recorder:
        recorder.chat("one")
    with run_service(mode="replay") as replay:
        reply = replay.chat("one", headers={"Cache-Control": directive})
    assert reply.status_code == 504
    assert reply.json()["error"]["type"] == "cache_miss"
    assert "explanation" not in reply.json()["error"]


def test_several_teachers_and_none_named_is_a_start_error(start_hosted, run_service, store_path):
    """The message lists them; naming one helps."""
    with run_service() as builtin:
        builtin.chat("one")
        digest = builtin.http.get("/v1/cache/stats").json()["teacher"]["digest"]
    start_hosted().chat("one")
    with pytest.raises(StartError, match="2 teachers match") as caught:
        create_app(load_settings(None, {"mode": "replay", "store": store_path}))
    assert digest in str(caught.value)
    with run_service(mode="replay", teacher="builtin") as replay:
        assert replay.chat("one").status_code == 200


def test_replay_of_a_missing_store_is_a_start_error(store_path):
    """And creates no file."""
    with pytest.raises(StartError):
        create_app(load_settings(None, {"mode": "replay", "store": store_path}))
    assert not store_path.exists()


def test_only_if_cached_never_goes_upstream(service):
    """504, as RFC 9111 has it."""
    reply = service.chat("one", headers={"Cache-Control": "only-if-cached"})
    assert reply.status_code == 504
    assert service.since_start()["backend_calls"] == 0


def test_no_cache_gives_a_fresh_answer_and_leaves_the_first_in_place(start_hosted, upstream):
    """The fresh one is this caller's alone; everyone else still gets the first."""
    service = start_hosted()
    upstream.script = [upstream.chat("first"), upstream.chat("second")]
    assert _text(service.chat("one")) == "first"
    fresh = service.chat("one", headers={"Cache-Control": "no-cache"})
    assert _text(fresh) == "second"
    assert fresh.headers["Cache-Status"].startswith("taco; fwd=request; stored; key=")
    assert _text(service.chat("one")) == "first"
    assert service.http.get("/v1/cache/stats").json()["store"]["alternates"] == 1


def test_a_stale_answer_is_asked_for_again(start_hosted, upstream):
    """`max-age=0` accepts nothing that was there before."""
    service = start_hosted()
    upstream.script = [upstream.chat("first"), upstream.chat("second")]
    service.chat("one")
    assert _text(service.chat("one", headers={"Cache-Control": "max-age=3600"})) == "first"
    stale = service.chat("one", headers={"Cache-Control": "max-age=0"})
    assert _text(stale) == "second"
    assert stale.headers["Cache-Status"].startswith("taco; fwd=stale; stored; key=")


def test_no_store_reads_but_never_stores(service):
    """A miss is answered and forgotten; what is stored is served all the same."""
    headers = {"Cache-Control": "no-store"}
    first = service.chat("one", headers=headers)
    assert first.headers["Cache-Status"].startswith("taco; fwd=miss; key=")
    assert service.completions_stored() == 0
    service.chat("one")
    assert service.chat("one", headers=headers).headers["Cache-Status"].startswith("taco; hit")


def test_refresh_asks_for_everything_anew(start_hosted, upstream):
    """As if every request said `no-cache`; the first answer stays the one that is kept."""
    service = start_hosted(mode="refresh")
    upstream.script = [upstream.chat("first"), upstream.chat("second")]
    assert [_text(service.chat("one")) for _ in range(2)] == ["first", "second"]
    only_stored = service.chat("one", headers={"Cache-Control": "only-if-cached"})
    assert only_stored.status_code == 504
    stats = service.http.get("/v1/cache/stats").json()
    assert (stats["mode"], stats["store"]["completions"], stats["store"]["alternates"]) == (
        "refresh",
        1,
        1,
    )


def test_off_neither_reads_nor_keeps(start_hosted, upstream):
    """Every request goes upstream alone, and leaves nothing behind."""
    service = start_hosted(mode="off")
    upstream.script = [upstream.chat("first"), upstream.chat("second")]
    replies = [service.chat("one") for _ in range(2)]
    assert [_text(reply) for reply in replies] == ["first", "second"]
    assert replies[0].headers["Cache-Status"].startswith("taco; fwd=bypass; key=")
    assert service.completions_stored() == 0


def test_a_full_store_serves_what_it_has_and_asks_for_nothing(start_hosted, upstream, monkeypatch):
    """507 before the upstream is asked: an answer that cannot be kept is not paid for."""
    service = start_hosted()
    service.batch([{"text": "stored"}])
    monkeypatch.setattr(cache.sqlite_database, "_RESERVE_BYTES", 2**62)
    assert service.batch([{"text": "stored"}]).json()["data"][0]["cache"] == "hit"
    for reply in (service.chat("new"), service.batch([{"text": "stored"}, {"text": "new"}])):
        assert reply.status_code == 507
        assert reply.json()["error"]["type"] == "store_unavailable"
        assert reply.headers["x-should-retry"] == "false"
    assert len(upstream.requests) == 1
    ready = service.http.get("/readyz")
    assert ready.status_code == 503
    assert "free" in ready.json()["reason"]
    unstored = service.chat("new", headers={"Cache-Control": "no-store"})
    assert unstored.status_code == 200


def _text(reply) -> str:
    return reply.json()["choices"][0]["message"]["content"]
