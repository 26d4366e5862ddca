"""Answers that are kept in memory: the same as without, and never older than the store."""

import sqlite3
from contextlib import closing
from functools import partial

import pytest

from cache import CompletionStore, StoreLocked
from cache.backup import back_up_store
from cache.forgetting import forget_keys, forget_run, forget_text
from cache.importing import import_store
from cache.ledger import uses_of_key
from cache.merging import merge_stores
from cache.promoting import promote_alternate
from cache.pruning import prune_store
from cache.selection import Selection
from cache.verifying import verify_store
from teacher_service.recent import Recent


def _said(reply):
    assert reply.status_code == 200, reply.text
    return reply.json()["choices"][0]["message"]["content"]


def _key(reply):
    return reply.headers["Cache-Status"].partition('key="')[2].rstrip('"')


def test_what_was_not_used_for_longest_goes_first():
    """Three of 40 bytes do not fit into 100; to look one up is to use it."""
    recent = Recent[str, int](100)
    recent.put("a", 1, 40)
    recent.put("b", 2, 40)
    assert recent.get("a") == 1
    recent.put("c", 3, 40)
    assert [recent.get(key) for key in "abc"] == [1, None, 3]


def test_what_is_put_again_takes_its_room_once():
    """And what is larger than all the room is not kept, nor is anything moved out for it."""
    recent = Recent[str, int](100)
    for value in range(5):
        recent.put("a", value, 40)
    recent.put("b", 7, 60)
    recent.put("c", 8, 101)
    assert [recent.get(key) for key in "abc"] == [4, 7, None]


def test_a_hit_from_memory_asks_the_store_nothing_and_verify_sees_the_damage(
    run_service, store_path
):
    """The row is spoilt behind the service's back: who asks gets what was stored, verify tells."""
    with run_service() as service:
        asked = [service.chat("one") for _ in range(2)]
        with closing(sqlite3.connect(store_path)) as other, other:
            other.execute("UPDATE completions SET text = 'spoilt'")
        assert _said(service.chat("one")) == _said(asked[0]) != "spoilt"
        assert service.http.post("/v1/cache/verify").json()["bad"] == 1
    with run_service() as service:
        assert _said(service.chat("one")) == "spoilt"
    assert verify_store(store_path).bad == 1


def test_every_hit_is_counted_whether_from_memory_or_not(run_service, store_path):
    """In the runs' uses and in the counters, exactly."""
    with run_service() as service:
        replies = [service.chat("one", headers={"X-Taco-Run": "r"}) for _ in range(5)]
        replies += [service.batch([{"text": "a"}] * 3, headers={"X-Taco-Run": "r"})]
        assert service.since_start()["hits"] == 4
        batched = service.batch([{"text": "a"}] * 3, headers={"X-Taco-Run": "r"}).json()["data"]
        assert service.since_start()["hits"] == 7
    with CompletionStore.open(store_path, read_only=True) as store:
        for key, served in ((_key(replies[0]), 4), (batched[0]["key"], 3)):
            uses = store.query(partial(uses_of_key, key=bytes.fromhex(key)))
            assert sum(use.uses for use in uses if use.served == "hit") == served


def test_a_completion_wins_over_a_refusal_that_was_served(start_hosted, upstream):
    """Also where the refusal was a hit before."""
    service = start_hosted()
    upstream.script = [upstream.error(400, "content_filter")]
    assert [service.chat("one").json()["choices"][0]["finish_reason"] for _ in range(3)] == [
        "content_filter"
    ] * 3
    service.chat("one", headers={"Cache-Control": "no-cache"})
    assert _said(service.chat("one")) == "Anna."
    assert len(upstream.requests) == 2


def test_what_could_change_an_answer_waits_until_the_service_is_stopped(
    run_service, store_path, tmp_path
):
    """Every command that removes or replaces answers of a file wants the service's lock."""
    with run_service() as service:
        [key, _] = [_key(service.chat("one", headers={"X-Taco-Run": "r"})) for _ in range(2)]
        copy, export = tmp_path / "copy.sqlite", tmp_path / "export.ndjson"
        back_up_store(store_path, copy)
        export.write_bytes(service.http.get("/v1/cache/export").content)
        for change in (
            partial(forget_text, store_path, "one"),
            partial(forget_keys, store_path, [key]),
            partial(forget_run, store_path, "r"),
            partial(promote_alternate, store_path, key, "00"),
            partial(prune_store, store_path, Selection(keys=[bytes.fromhex(key)])),
            partial(import_store, store_path, export),
            partial(merge_stores, store_path, [copy]),
        ):
            with pytest.raises(StoreLocked):
                change()
        assert "hit" in service.chat("one").headers["Cache-Status"]
    forget_keys(store_path, [key])
    with run_service() as service:
        assert "fwd=miss" in service.chat("one").headers["Cache-Status"]


def test_an_answer_that_was_promoted_on_a_shared_store_is_served_at_once(
    start, upstream, postgres_url, monkeypatch
):
    """Whoever shares a database may change it at any time: nothing is kept in memory there."""
    monkeypatch.setenv("TEST_UPSTREAM_KEY", "sk-secret")
    hosted = {"base_url": upstream.url, "model": upstream.MODEL, "api_key_env": "TEST_UPSTREAM_KEY"}
    service = start(backend="openai", store=postgres_url, openai={"provider": "test", **hosted})
    upstream.script = [upstream.chat("first"), upstream.chat("second")]
    key = _key(service.chat("one"))
    service.chat("one", headers={"Cache-Control": "no-cache"})
    assert _said(service.chat("one")) == "first"
    [other] = service.http.get(f"/v1/cache/entries/{key}").json()["alternates"]
    promote_alternate(postgres_url, key, other["content_digest"])
    assert _said(service.chat("one")) == "second"
