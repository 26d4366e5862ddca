"""Fixed prompts, asked of a real backend at registration, at each start and on demand."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from teacher_service import canary, load_settings
from teacher_service.backends import builtin
from teacher_service.canary import PROMPTS
from teacher_service.errors import SettingsError

ROUNDS = 3


@pytest.fixture
def start_hosted_canary(run_service, upstream, monkeypatch):
    """A service whose teacher is the scripted upstream, and which asks the canary."""
    monkeypatch.setenv("TEST_UPSTREAM_KEY", "sk-secret")
    section = {
        "base_url": upstream.url,
        "provider": "test",
        "model": upstream.MODEL,
        "api_key_env": "TEST_UPSTREAM_KEY",
    }
    return lambda canary="auto", **others: run_service(
        backend="openai", served_models=["builtin"], openai=section, canary=canary, **others
    )


@pytest.fixture
def builtin_says(monkeypatch):
    """Let the built-in teacher answer everything with one text: its rules, changed."""

    def say(text):
        monkeypatch.setattr(builtin, "answer", lambda messages: text)

    return say


def wait_for_canary(service, index=-1):
    """The canary of a listed teacher, once it was checked."""
    give_up = time.monotonic() + 20
    while time.monotonic() < give_up:
        teachers = service.http.get("/v1/teachers").json()["data"]
        if teachers and (found := teachers[index]["canary"]):
            return found
        time.sleep(0.02)
    raise AssertionError("no canary was recorded")


def answers(upstream, *texts):
    """Let the upstream say these to the next questions, whatever they are."""
    upstream.script = [upstream.chat(text) for text in texts]


def test_a_teacher_is_asked_three_times_when_it_is_met_and_once_at_each_start(
    start_hosted_canary, upstream
):
    """At temperature 0; nothing of it counts as a client's request or is stored as one."""
    with start_hosted_canary() as service:
        found = wait_for_canary(service)
        assert (found["prompts"], found["counting"]) == (len(PROMPTS), len(PROMPTS))
        assert found["changed"] == []
        assert len(upstream.requests) == ROUNDS * len(PROMPTS)
        assert {one["messages"][0]["content"] for one in upstream.requests} == set(PROMPTS)
        assert {one["temperature"] for one in upstream.requests} == {0}
        assert service.since_start()["requests"] == service.completions_stored() == 0
    with start_hosted_canary() as service:
        assert (
            service.http.post("/v1/teachers/canary").json()["recorded_at"] == (found["recorded_at"])
        )
        assert service.chat("one").status_code == 200
    assert len(upstream.requests) == (ROUNDS + 2) * len(PROMPTS) + 1


def test_only_prompts_that_are_answered_alike_each_time_count(
    start_hosted_canary, upstream, caplog
):
    """The answers come in no order, so that here all differ in one round: none is left."""
    answers(upstream, *["Anna."] * 4, *["Otto."] * 4, *["Anna."] * 4)
    with start_hosted_canary("refuse") as service:
        found = wait_for_canary(service)
        assert (found["prompts"], found["counting"]) == (len(PROMPTS), 0)
        answers(upstream, *["Ida."] * 4)
        assert service.http.post("/v1/teachers/canary").json()["changed"] == []
        assert service.chat("one").status_code == 200
    assert "if it changes, nobody notices" in caplog.text


def test_a_changed_hosted_teacher_is_warned_of(start_hosted_canary, upstream, caplog):
    """Its answers are still kept; the list of teachers shows what it said and says."""
    with start_hosted_canary() as service:
        wait_for_canary(service)
    answers(upstream, *["Otto."] * len(PROMPTS))
    with start_hosted_canary() as service:
        give_up = time.monotonic() + 20
        while "canary: warn" not in caplog.text:
            assert time.monotonic() < give_up
            time.sleep(0.02)
        changed = wait_for_canary(service)["changed"]
        assert {one["prompt"] for one in changed} == set(PROMPTS)
        assert (changed[0]["recorded"], changed[0]["seen"]) == ("Anna.", "Otto.")
        assert service.chat("one").status_code == 200
        assert service.http.get("/readyz").status_code == 200


def test_a_changed_deterministic_teacher_makes_nothing_new(run_service, builtin_says):
    """What is stored is served; readiness says why nothing else is; unchanged again, it goes on."""
    with run_service(canary="auto") as service:
        assert service.chat("stored").status_code == 200
    builtin_says("Something else.")
    with run_service(canary="auto") as service:
        refused = service.chat("new")
        assert refused.status_code == 502
        assert refused.json()["error"]["type"] == "teacher_changed"
        assert "canary: warn" in refused.json()["error"]["message"]
        assert refused.headers["x-should-retry"] == "false"
        assert service.completions_stored() == 1
        assert "hit" in service.chat("stored").headers["Cache-Status"]
        ready = service.http.get("/readyz")
        assert (ready.status_code, ready.json()["reason"]) == (
            503,
            refused.json()["error"]["message"],
        )


def test_it_goes_on_once_it_answers_as_before(run_service, builtin_says, monkeypatch):
    """The check on demand decides anew."""
    before = builtin.answer
    with run_service(canary="auto") as service:
        wait_for_canary(service)
        builtin_says("Something else.")
        changed = service.http.post("/v1/teachers/canary").json()["changed"]
        assert len(changed) == len(PROMPTS)
        metrics = service.http.get("/metrics").text
        assert f"taco_canary_changed {len(PROMPTS)}.0" in metrics
        assert service.chat("one").status_code == 502
        monkeypatch.setattr(builtin, "answer", before)
        assert service.http.post("/v1/teachers/canary").json()["changed"] == []
        assert service.chat("one").status_code == 200


def test_a_changed_teacher_can_be_a_teacher_of_its_own(run_service, builtin_says, monkeypatch):
    """Its answers have other keys; whichever of the two is met again is known again."""
    before = builtin.answer
    with run_service(canary="new") as service:
        first = service.chat("one").json()
    builtin_says("Something else.")
    with run_service(canary="new") as service:
        second = service.chat("one").json()
        assert service.completions_stored() == 2
    with run_service(canary="new") as service:
        assert "hit" in service.chat("one").headers["Cache-Status"]
        digests = {one["digest"] for one in service.http.get("/v1/teachers").json()["data"]}
    assert first["system_fingerprint"] != second["system_fingerprint"]
    assert digests == {first["system_fingerprint"], second["system_fingerprint"]}
    monkeypatch.setattr(builtin, "answer", before)
    with run_service(canary="new") as service:
        assert service.chat("one").json()["system_fingerprint"] == first["system_fingerprint"]
        assert service.completions_stored() == 2


def test_a_teacher_that_changes_under_way_gets_keys_of_its_own(run_service, builtin_says):
    """On demand, too; answers made before keep theirs, and the store is sound."""
    with run_service(canary="new") as service:
        first = service.chat("one").json()["system_fingerprint"]
        builtin_says("Something else.")
        service.http.post("/v1/teachers/canary")
        assert service.chat("one").json()["system_fingerprint"] != first
        verified = service.http.post("/v1/cache/verify").json()
        assert verified["bad"] == 0


def test_an_answer_under_way_stays_the_teachers_that_was_asked(start_hosted_canary, upstream):
    """The canary finds a change meanwhile: the key and the teacher of the row still agree."""
    with start_hosted_canary("new") as service, ThreadPoolExecutor(1) as pool:
        first = service.http.get("/v1/teachers").json()["data"][0]["digest"]
        release = upstream.hold()
        late = pool.submit(service.chat, "one")
        asked = len(upstream.requests)
        while len(upstream.requests) == asked:
            time.sleep(0.01)
        answers(upstream, *["Otto."] * ROUNDS * len(PROMPTS))
        second = service.http.post("/v1/teachers/canary").json()["teacher"]
        assert second != first
        release()
        key = late.result().headers["Cache-Status"].partition('key="')[2][:64]
        of_first = service.http.get("/v1/cache/export", params={"teacher": first}).text
        of_second = service.http.get("/v1/cache/export", params={"teacher": second}).text
        assert key in of_first
        assert key not in of_second


def test_other_prompts_are_recorded_beside_the_old_ones(run_service, monkeypatch):
    """A newer program may ask others; a teacher that was met before is asked three times again."""
    with run_service(canary="auto") as service:
        wait_for_canary(service)
    monkeypatch.setattr(canary, "PROMPTS", ("Name a river.", "Name a city."))
    with run_service(canary="auto") as service:
        assert service.http.post("/v1/teachers/canary").json()["counting"] == 2
        assert service.chat("one").status_code == 200


def test_an_upstream_that_is_away_keeps_nobody_from_starting(start_hosted_canary, upstream, caplog):
    """Refused with a bad key: the log says that the canary could not be asked."""
    upstream.script = [upstream.error(401)] * len(PROMPTS)
    with start_hosted_canary() as service:
        give_up = time.monotonic() + 20
        while "the canary could not be asked" not in caplog.text:
            assert time.monotonic() < give_up
            time.sleep(0.02)
        assert service.http.get("/livez").status_code == 200
        assert service.http.get("/v1/teachers").json()["data"][0]["canary"] is None


def test_prompts_that_the_teacher_refuses_do_not_count(start_hosted_canary, upstream):
    """A model that takes no temperature rejects them all, and is used all the same."""
    upstream.script = [upstream.error(400)] * ROUNDS * len(PROMPTS)
    with start_hosted_canary() as service:
        assert wait_for_canary(service)["counting"] == 0
        assert service.chat("one").status_code == 200


def test_a_replay_asks_nobody(run_service):
    """It has no backend; what was recorded is still shown."""
    with run_service(canary="auto") as service:
        wait_for_canary(service)
    with run_service(canary="auto", mode="replay") as replay:
        assert wait_for_canary(replay)["counting"] == len(PROMPTS)
        asked = replay.http.post("/v1/teachers/canary")
        assert asked.status_code == 400
        assert "mode is replay" in asked.json()["error"]["message"]


def test_a_strict_identity_holds_where_answers_come_from(start_hosted_canary, upstream):
    """Another system_fingerprint: refused while it runs, a teacher of its own at the next start."""

    def stamped(stamp):
        return upstream.chat(system_fingerprint=stamp)

    asked = ROUNDS * len(PROMPTS)
    upstream.script = [stamped("fp_1")] * (asked + 1) + [stamped("fp_2")]
    with start_hosted_canary(identity="strict") as service:
        first = service.chat("one")
        assert first.status_code == 200, first.text
        foreign = service.chat("two")
        assert foreign.status_code == 502
        assert foreign.json()["error"]["code"] == "wrong_provenance"
        assert "system_fingerprint" in foreign.json()["error"]["message"]
        assert service.completions_stored() == 1
    upstream.script = [stamped("fp_2")] * (asked + 1)
    with start_hosted_canary(identity="strict") as service:
        second = service.chat("one").json()
        teachers = service.http.get("/v1/teachers").json()["data"]
    assert second["system_fingerprint"] != first.json()["system_fingerprint"]
    stamps = [one["definition"]["provenance"]["system_fingerprint"] for one in teachers]
    assert stamps == ["fp_1", "fp_2"]


def test_a_strict_identity_needs_the_canary():
    """It learns from it where answers come from."""
    with pytest.raises(SettingsError, match="identity: strict learns from the canary"):
        load_settings(None, {"identity": "strict", "canary": "off"})
