"""The client against the real service, its real store and its built-in teacher, on loopback."""

import socket
import threading
import time
from contextlib import contextmanager

import httpx2
import pytest
import uvicorn

from teacher_service import create_app, load_settings
from trainer.errors import TeacherRejected
from trainer.rollouts.chat_wire import ChatWire
from trainer.rollouts.hop import Deadline, Hop
from trainer.rollouts.teacher_client import TeacherClient, recognise
from trainer.rollouts.teacher_counts import TeacherCounts
from trainer.types import Outcome, Served, TeacherItem

TEMPLATE = "Text: {transcript}\nQuestion: {question}\nAnswer:"
SAMPLING = {"max_tokens": 20, "temperature": 0, "top_p": 1, "seed": 42}
REPORT = TeacherItem("Ann will write the report by Friday.", "Who will write the report?")
ITEMS = [
    REPORT,
    TeacherItem("Bob Ray said {question} {transcript} twice.", "Who said it?"),
    REPORT,
    TeacherItem("", "Who?"),
]


@contextmanager
def service(store, port=0, **settings):
    """The service in a thread; its URL."""
    app = create_app(load_settings(overrides={"store": str(store), **settings}))
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def connect(url, model="gpt-35-turbo", **settings):
    """The client as a run connects it."""
    return TeacherClient.connect(
        url,
        model=model,
        prompt_template=TEMPLATE,
        system_message="You are a helpful assistant.",
        sampling=SAMPLING,
        timeout_s=30,
        **settings,
    )


def test_answers_are_bought_once(tmp_path):
    """Equal items are one generation, and asked again all are hits with the same digests."""
    with service(tmp_path / "store.sqlite") as url, connect(url) as teacher:
        assert recognise(url)
        first = teacher.complete(ITEMS)
        assert [reply.outcome for reply in first] == [Outcome.SCORED] * 4
        assert first[0].text == "Ann"
        assert first[0].fingerprint == first[2].fingerprint != first[1].fingerprint
        assert teacher.counts == TeacherCounts(asked=4, misses=3, collapsed=1)

        again = teacher.complete(ITEMS)
        assert {reply.served for reply in again} == {Served.HIT}
        assert [(reply.text, reply.fingerprint, reply.content_digest) for reply in again] == [
            (reply.text, reply.fingerprint, reply.content_digest) for reply in first
        ]
        assert teacher.stats()["since_start"]["backend_calls"] == 3


def test_both_wires_ask_the_same(tmp_path):
    """What we render ourselves is what the service renders: every chat finds the batch's answer."""
    with service(tmp_path / "store.sqlite") as url, connect(url) as teacher:
        batch = teacher.complete(ITEMS)
        hop = Hop(f"{url}/v1")
        fields = {"model": "gpt-35-turbo", **SAMPLING}
        chats = ChatWire(hop, fields, TEMPLATE, "You are a helpful assistant.").ask(
            ITEMS, Deadline.after(30), {}
        )
        hop.close()
        assert [attempt.reply.text for attempt in chats] == [reply.text for reply in batch]
        assert teacher.stats()["since_start"]["backend_calls"] == 3


def test_the_service_learns_which_run_asks_and_at_which_step(tmp_path):
    """Before a run is named, and from a client that is no run, it learns nothing."""
    with service(tmp_path / "store.sqlite") as url, connect(url) as teacher:
        teacher.complete([REPORT])
        assert httpx2.get(f"{url}/v1/runs").json()["data"] == []
        teacher.name_run("demo-1a2b3c4d")
        teacher.complete(ITEMS, step=3)
        teacher.complete([REPORT], step=5)
        teacher.complete([REPORT])
        run = httpx2.get(f"{url}/v1/runs/demo-1a2b3c4d").json()
    assert (run["first_step"], run["last_step"]) == (3, 5)
    assert sum(run["answers"].values()) == len(ITEMS) + 2


def test_a_replay_answers_from_the_store_alone(tmp_path):
    """What was recorded is served; the rest fails as a cache miss and is not asked again."""
    store = tmp_path / "store.sqlite"
    with service(store) as url, connect(url) as teacher:
        [recorded] = teacher.complete([REPORT])
    with service(store, mode="replay") as url, connect(url) as teacher:
        hit, miss = teacher.complete([REPORT, TeacherItem("Never asked.", "Who?")])
        assert (hit.text, hit.content_digest) == (recorded.text, recorded.content_digest)
        assert miss.outcome is Outcome.FAILED
        assert miss.error.startswith("cache_miss: ")
        assert teacher.counts == TeacherCounts(asked=2, hits=1, failed=1)
        counted = teacher.stats()["since_start"]
        assert (counted["requests"], counted["backend_calls"]) == (2, 0)


def test_a_replay_asks_no_model_of_a_recording_service(tmp_path):
    """Whatever the service's mode: only what is stored comes back."""
    with service(tmp_path / "store.sqlite") as url, connect(url, stored_only=True) as teacher:
        [miss] = teacher.complete([REPORT])
        assert miss.error.startswith("cache_miss: ")
        assert teacher.stats()["since_start"]["backend_calls"] == 0


def test_an_unknown_model_is_refused_with_the_names_that_are_served(tmp_path):
    """The service's own words reach the user."""
    with (
        service(tmp_path / "store.sqlite") as url,
        connect(url, model="gpt-9") as teacher,
        pytest.raises(TeacherRejected, match=r"gpt-9.*gpt-35-turbo"),
    ):
        teacher.complete([REPORT])


def test_a_service_that_restarts_is_waited_for(tmp_path):
    """A connection lost between two steps costs a pause, no run; nothing bought is lost."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = tmp_path / "store.sqlite"
    with service(store, port) as url:
        teacher = connect(url)
        before = teacher.complete([REPORT])
    replies = []
    with teacher:
        caller = threading.Thread(target=lambda: replies.extend(teacher.complete([REPORT])))
        caller.start()
        time.sleep(0.3)
        with service(store, port):
            caller.join()
    assert replies[0].text == before[0].text
    assert replies[0].served is Served.HIT
