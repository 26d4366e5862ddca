"""A run whose reward asks the teacher twice: for an answer, and as a judge of it."""

import json
from pathlib import Path

import httpx2
import pytest

from cache.run_locks import needed_answers
from taco.bundling import bundle_run
from taco.own_service import own_service
from taco.unbundling import unbundle
from trainer.config import Config
from trainer.config_file import load_config
from trainer.errors import TeacherSpent, TooManyFailures
from trainer.learning.launch import resume, train_new
from trainer.learning.lockfile import Lock

TRAIN = {"hyperparams": {"epochs": 1}, "reward": {"metric": "0.5*f1 + 0.5*judge"}}


def _silent(*_said):
    pass


@pytest.fixture(scope="module")
def judged(document, tmp_path_factory):
    """A run of four steps with validation, its config, and its store."""
    folder = tmp_path_factory.mktemp("judged")
    config = Config.model_validate(document(**TRAIN))
    store = folder / "completions.sqlite"
    with own_service(store=store) as url:
        result = train_new(config, "run", teacher_url=url, runs=folder / "runs", report=_silent)
    return result, config, store


def _leaves(lock):
    return [json.loads(line) for line in Path(lock).read_text().splitlines()[1:-1]]


def _replay(config, lock, store, runs):
    with own_service(mode="replay", store=store) as url:
        return train_new(
            config, "again", teacher_url=url, runs=runs, replay=Lock(Path(lock)), report=_silent
        )


def test_its_judgements_are_in_the_lock(judged):
    """With key and digest, for each answer that has words; and they decide the reward."""
    result, _, _ = judged
    leaves = _leaves(result.lock)
    scored = [leaf for leaf in leaves if leaf["outcome"] == "scored"]
    assert {leaf["phase"] for leaf in scored} == {"train", "val"}
    assert all(len(leaf["judgements"]) == len(leaf["replies"]) for leaf in scored)
    needed = {answer.key.hex() for answer in needed_answers(Path(result.lock))}
    assert {key for leaf in scored for _, key, _ in leaf["judgements"]} <= needed
    logs = Path(result.folder, "logs")
    rollouts = [json.loads(line) for line in (logs / "rollouts.jsonl").read_text().splitlines()]
    said = {text for rollout in rollouts for text in rollout["judgements"]}
    assert said <= set("12345")
    assert len(said) > 1
    metrics = [json.loads(line) for line in (logs / "metrics.jsonl").read_text().splitlines()]
    assert all(
        step["judge/calls"] == step["teacher/calls"]
        == step["judge/hit"] + step["judge/miss"] + step["judge/collapsed"]
        for step in metrics
    )  # fmt: skip


def test_a_replay_asks_nobody(judged, tmp_path):
    """Neither as a teacher nor as a judge; the weights are the same bit for bit."""
    result, config, store = judged
    assert result.backend_calls > 0
    again = _replay(config, result.lock, store, tmp_path)
    assert again.backend_calls == 0
    assert again.weights_digest == result.weights_digest
    assert again.lock_root == result.lock_root


def test_a_bundle_has_the_judgements(judged, tmp_path, monkeypatch):
    """So that the run is done again where there is nothing else."""
    result, _, store = judged
    bundle_run(Path(result.folder), tmp_path / "run.tar.gz", store, _silent)
    unpacked = unbundle(tmp_path / "run.tar.gz", tmp_path / "elsewhere", _silent)
    monkeypatch.chdir(unpacked.folder)
    [lock] = Path("runs").rglob("run.lock")
    again = _replay(load_config(Path("config.yaml")), lock, Path("completions.sqlite"), Path("new"))
    assert (again.backend_calls, again.weights_digest) == (0, result.weights_digest)


def test_a_budget_counts_judgements(document, tmp_path):
    """Stopped in the middle of a step or before it, it goes on and buys nothing twice."""
    config = Config.model_validate(document(**TRAIN, budget={"calls": 40}))
    store = tmp_path / "completions.sqlite"
    with own_service(store=store) as url:
        with pytest.raises(TeacherSpent, match=r"budget\.calls allows 40"):
            train_new(config, "run", teacher_url=url, runs=tmp_path, report=_silent)
        result = resume(tmp_path / "run", ["budget.calls=100000"], teacher_url=url, report=_silent)
        stats = httpx2.get(f"{url}/v1/cache/stats").json()
        bought = stats["since_start"]["backend_calls"]
    kinds = ("replies", "judgements")
    keys = {
        key for leaf in _leaves(result.lock) for kind in kinds for _, key, _ in leaf.get(kind, ())
    }
    assert bought == len(keys)


def test_an_evaluation_by_the_judge_repeated_costs_nothing(judged, taco, tmp_path, monkeypatch):
    """All answers and judgements are stored; the signature names the judge's template."""
    result, _, store = judged
    arguments = ("evaluate", result.folder, "--metrics", "f1,judge", "--rates", "0.4")
    with own_service(store=store) as url:
        monkeypatch.setenv("TACO_TEACHER_URL", url)
        first = taco(*arguments, "--output", tmp_path / "one")
        second = taco(*arguments, "--output", tmp_path / "two")
    assert first.code == second.code == 0, first.err + second.err
    one, two = (
        json.loads((tmp_path / name / "report.json").read_text()) for name in ("one", "two")
    )
    assert one["teacher"]["generated"] > 0
    assert two["teacher"]["generated"] == 0
    assert two["teacher"]["asked"] == one["teacher"]["asked"]
    assert one["rows"] == two["rows"]
    assert one["signature"]["metrics"]["judge"].startswith("1*[judge|scale:1-5|template:")
    assert one["rows"][0]["agreement"]["judge"]["mean"] == 1.0  # Nothing dropped: the same answers.


def test_a_dry_run_counts_the_judge(document, taco, tmp_path):
    """As many judgements as answers, at most; each of at most so many tokens."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(document(**TRAIN)))
    said = taco("train", path, "--dry-run", "judge.max_tokens=3").out
    lines = {line[:18].strip(): line[18:].strip() for line in said.splitlines()}

    def calls(name):
        return int(lines[name].split(" calls")[0].rsplit(" ", 1)[1].replace(",", ""))

    answers = calls("training") + calls("validation")
    assert calls("judging") == answers
    assert f"at most {answers * (32 + 3):,} (task.max_tokens: 32 a call" in said
    plain = taco("train", path, "--dry-run", "reward.metric=f1").out
    assert "judging" not in plain


def test_a_judge_that_cannot_be_read_stops_the_run(document, teacher_url, tmp_path):
    """Not one reward of zero is learnt from; the message shows what it said."""
    judge = {"prompt": "Transcript: {completion} {reference}"}
    config = Config.model_validate(document(**TRAIN, judge=judge))
    with pytest.raises(TooManyFailures, match=r"no score that can be read \(judge\.scale\)"):
        train_new(config, "run", teacher_url=teacher_url, runs=tmp_path, report=_silent)
