"""Runs that learn from the rollouts of others, and ask where those no longer speak for them."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import yaml

from taco.own_service import own_service
from trainer.config import Config
from trainer.errors import CheckpointError, ConfigError, ReplayError
from trainer.learning import reinforce
from trainer.learning.launch import resume, train_new
from trainer.learning.lockfile import Lock

FASTER = {"policy_lr": 4e-3}
BY_WORD = {"credit": "word"}


def _silent(_line):
    pass


@pytest.fixture(scope="module")
def recorded(document, tmp_path_factory):
    """A run with credit by word, its config, and the store that it filled."""
    folder = tmp_path_factory.mktemp("reused")
    store = folder / "completions.sqlite"
    config = Config.model_validate(document(policy=BY_WORD))
    with own_service(store=store) as url:
        result = train_new(config, "first", teacher_url=url, runs=folder / "runs", report=_silent)
    return result, store


@pytest.fixture
def train(document, recorded, teacher_url, tmp_path):
    """Train on the rollouts of `recorded` and of whatever else is named."""

    def train(name="trial", report=_silent, url=teacher_url, reuse=None, runs=(), **sections):
        folders = [recorded[0].folder, *(run.folder for run in runs)]
        sections["policy"] = BY_WORD | sections.get("policy", {})
        config = Config.model_validate(
            document(reuse={"runs": folders, **(reuse or {})}, **sections)
        )
        return train_new(config, name, teacher_url=url, runs=tmp_path, report=report)

    return train


def _steps(result):
    log = Path(result.folder) / "logs/metrics.jsonl"
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def _sources(result):
    """(run, step) of each rollout of the lock; None where it was drawn."""
    lines = Path(result.lock).read_text().splitlines()[1:-1]
    leaves = [leaf for leaf in map(json.loads, lines) if leaf["phase"] == "train"]
    return [tuple(leaf["reused"]) if "reused" in leaf else None for leaf in leaves]


def test_the_same_run_again_asks_nothing(train, recorded):
    """Every group is its own policy's: the same weights, bit for bit, for no call in training."""
    result = train()
    assert result.weights_digest == recorded[0].weights_digest
    assert result.teacher_calls == 0
    assert [step["reuse/share"] for step in _steps(result)] == [1.0] * 8
    assert [step["reward/mean"] for step in _steps(result)] == [
        step["reward/mean"] for step in _steps(recorded[0])
    ]
    assert _sources(result) == [(0, step) for step in range(1, 9) for _ in range(9)]


def test_what_the_policy_has_left_is_asked_again(train, recorded):
    """At four times the learning rate some groups are near enough, by the bound that was set."""
    result = train(hyperparams=FASTER, reuse={"max_kl": 2e-3})
    shares = [step["reuse/share"] for step in _steps(result)]
    assert shares[0] == 1.0  # Both began with the same compressor.
    assert 0.0 < sum(shares) / 8 < 1.0
    sources = _sources(result)
    asked = sum(source is None for source in sources)
    assert result.teacher_calls <= 2 * asked
    assert sum(step["teacher/calls"] for step in _steps(result)) == result.teacher_calls > 0
    assert result.weights_digest != recorded[0].weights_digest
    free = train("free", hyperparams=FASTER, reuse={"max_kl": 1.0})
    assert free.teacher_calls == 0


def test_the_effective_sample_size_is_a_guard_of_its_own(train):
    """All of it is asked for: only a policy that has not moved at all has it."""
    result = train(hyperparams=FASTER, reuse={"max_kl": 1.0, "min_effective_share": 1.0})
    assert [step["reuse/share"] for step in _steps(result)][-1] < 1.0


def test_no_more_is_asked_than_was_allowed(train, recorded):
    """Of the rest the nearest rollouts count, far as they are; without an allowance, all."""
    far = {"max_kl": 1e-9}
    none = train("none", hyperparams=FASTER, reuse=far | {"max_asked": 0.0})
    assert none.teacher_calls == 0
    third = train("third", hyperparams=FASTER, reuse=far | {"max_asked": 1 / 3})
    drawn = [step["reuse/share"] for step in _steps(third)]
    assert drawn == [1.0] + [pytest.approx(2 / 3)] * 7
    assert third.weights_digest != none.weights_digest


def test_a_third_run_takes_the_nearest_of_both(train, recorded):
    """And of the second run only what that one drew itself."""
    second = train("second", hyperparams=FASTER, reuse={"max_kl": 2e-3})
    third = train("third", runs=[second], hyperparams=FASTER, reuse={"max_kl": 2e-3})
    assert third.weights_digest == second.weights_digest
    assert third.teacher_calls == 0
    nearest = [source or (1, None) for source in _sources(second)]
    assert [source[0] for source in _sources(third)] == [source[0] for source in nearest]


def test_imitation_holds_a_run_to_what_drew_its_rollouts(train):
    """The dearer it is to leave, the nearer it stays; the log says how near."""
    options = {"hyperparams": FASTER, "policy": {"passes": 2}}
    last = [
        _steps(train(reuse={"max_kl": 10.0, "imitation": weight}, **options))[-1]["reuse/kl"]
        for weight in (0.0, 1.0)
    ]
    assert 0.0 < last[1] < 0.5 * last[0]


def test_words_are_weighted_by_how_likely_they_are_now(train, monkeypatch):
    """Without a bound on the weights a run comes elsewhere than with one."""
    options = {"hyperparams": FASTER, "reuse": {"max_kl": 10.0, "imitation": 0.0}}
    bounded = train("bounded", **options)
    monkeypatch.setattr(reinforce, "MAX_WEIGHT", 1.0)
    assert train("lower", **options).weights_digest != bounded.weights_digest


def test_several_passes_and_other_weights_work_too(train):
    """Rewards come from the recorded completions, by the metric of the run that learns."""
    result = train(policy={"passes": 2, "kl_coeff": 0.01}, reward={"metric": "rougeL"})
    assert result.teacher_calls == 0
    assert _steps(result)[0]["loss/passes"] == 2


def test_such_a_run_goes_on_bit_for_bit(train, teacher_url):
    """What it drew itself is cut back to the checkpoint, too, and there for others."""
    options = {"hyperparams": FASTER, "reuse": {"max_kl": 2e-3}}
    whole = train("whole", **options)

    def stop(line):
        if "step 4/8" in line:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train("stopped", stop, **options)
    folder = Path(whole.folder).with_name("stopped")
    with (folder / "behaviour.jsonl").open("a") as file:
        file.write('{"step": 5, "ex')
    resumed = resume(folder, teacher_url=teacher_url, report=_silent)
    assert resumed.weights_digest == whole.weights_digest
    assert resumed.lock_root == whole.lock_root
    kept = [(Path(run.folder) / "behaviour.jsonl").read_bytes() for run in (whole, resumed)]
    assert kept[0] == kept[1] != b""


@pytest.mark.parametrize("locked_masks", [False, True])
def test_such_a_run_replays(train, teacher_store, document, tmp_path, locked_masks):
    """From the store and the reused run's folder, to the same weights and the same root."""
    result = train(hyperparams=FASTER, reuse={"max_kl": 2e-3})
    lock = Lock(Path(result.lock))
    assert [set(each) for each in lock.header["reused"]] == [{"lock_root", "behaviour_digest"}]
    with own_service(mode="replay", store=teacher_store) as url:
        again = train_new(
            Config.model_validate(lock.header["config"]),
            "again",
            teacher_url=url,
            runs=tmp_path,
            replay=lock,
            locked_masks=locked_masks,
            report=_silent,
        )
    assert again.lock_root == result.lock_root
    assert again.weights_digest == result.weights_digest


@pytest.fixture
def copied(recorded, tmp_path):
    """A copy of the reused run, which a test may change."""
    return Path(shutil.copytree(recorded[0].folder, tmp_path / "copy"))


def _train_on(folder, document, url, runs, **sections):
    sections["policy"] = BY_WORD | sections.get("policy", {})
    config = Config.model_validate(document(reuse={"runs": [str(folder)]}, **sections))
    return train_new(config, "trial", teacher_url=url, runs=runs, report=_silent)


def test_a_replay_needs_the_rollouts_as_they_were(copied, document, teacher_url, tmp_path):
    """Changed since: the lock's own name for them no longer fits."""
    result = _train_on(copied, document, teacher_url, tmp_path)
    behaviour = copied / "behaviour.jsonl"
    behaviour.write_text("\n".join(behaviour.read_text().splitlines()[:-1]) + "\n")
    lock = Lock(Path(result.lock))
    config = Config.model_validate(lock.header["config"])
    with pytest.raises(ReplayError, match=r"reuse\.runs are not the recorded ones"):
        train_new(
            config, "again", teacher_url=teacher_url, runs=tmp_path, replay=lock, report=_silent
        )
    (Path(result.folder) / "result.json").unlink()
    with pytest.raises(CheckpointError, match=r"reuse\.runs are not the recorded ones"):
        resume(Path(result.folder), teacher_url=teacher_url, report=_silent)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "behaviour.jsonl").unlink(), "No such file"),
        (lambda folder: (folder / "behaviour.jsonl").write_text("{}\n"), "changed or damaged"),
        (lambda folder: (folder / "run.lock").unlink(), "expected a lock file"),
    ],
)
def test_what_cannot_be_read_is_said(copied, document, teacher_url, tmp_path, spoil, message):
    """Before anything is asked; the run's name stays free."""
    spoil(copied)
    with pytest.raises(ReplayError, match=message):
        _train_on(copied, document, teacher_url, tmp_path)
    assert not (tmp_path / "trial").exists()


def test_runs_of_another_question_are_refused(copied, document, teacher_url, tmp_path):
    """With everything that differs."""
    with pytest.raises(ConfigError) as refused:
        _train_on(
            copied,
            document,
            teacher_url,
            tmp_path,
            task={"prompt": "{question} {transcript}"},
            hyperparams={"compression_rate": 0.5},
            policy={"rollouts_per_example": 4},
        )
    said = str(refused.value)
    assert "reuse.runs: 3 problems" in said
    assert "task.prompt was 'Transcript:" in said
    assert (
        "hyperparams.compression_rate was 0.4 when its rollouts were recorded, and is 0.5" in said
    )
    assert "the number of rollouts per example was 3" in said


def test_rollouts_of_another_rate_are_none_of_this_one(train):
    """With several rates and another seed, an example aims elsewhere than it did: it is asked."""
    rates = {"rates": [0.3, 0.5]}
    first = train("rates", reuse={"runs": []}, policy=rates)
    second = train(
        "others", reuse={"runs": [first.folder], "max_asked": 0.0}, policy=rates, run={"seed": 1}
    )
    shares = [step["reuse/share"] for step in _steps(second)]
    assert 0.0 < sum(shares) / 8 < 1.0
    assert second.teacher_calls > 0


def test_answers_belong_to_the_very_texts_that_were_judged(copied, document, teacher_url, tmp_path):
    """Where a mask leaves other words than it did, nothing is learnt from what was said then."""
    behaviour = copied / "behaviour.jsonl"
    digests = [json.loads(line)["texts"] for line in behaviour.read_text().splitlines()[:2]]
    behaviour.write_text(behaviour.read_text().replace(digests[0], digests[1]))
    with pytest.raises(ReplayError, match=r"leave other texts here than in run 0 of reuse\.runs"):
        _train_on(copied, document, teacher_url, tmp_path)


def test_failures_of_the_reused_run_do_not_stop_this_one(document, teacher_url, tmp_path):
    """They were allowed there, and count for nothing here."""
    store = tmp_path / "empty.sqlite"
    with own_service(store=store):
        pass
    config = Config.model_validate(document(policy=BY_WORD, teacher={"max_failed_share": 1.0}))
    with own_service(mode="replay", store=store) as url:
        failed = train_new(config, "failed", teacher_url=url, runs=tmp_path, report=_silent)
    result = _train_on(failed.folder, document, teacher_url, tmp_path)
    assert result.teacher_calls == 0


@pytest.mark.parametrize(
    ("sections", "why"),
    [
        ({"policy": {"sampler": "exact_count"}}, "needs words that are drawn independently"),
        ({"policy": {"loss": "greedy"}}, "what the run's policy would deploy"),
        ({"hyperparams": {"use_context_level_filter": True}}, "masks are of other texts"),
    ],
)
def test_what_recorded_rollouts_cannot_serve_is_refused(document, sections, why):
    """Where the config is read."""
    with pytest.raises(ValueError, match=rf"reuse\.runs: .*{why}"):
        Config.model_validate(document(reuse={"runs": ["a"]}, **sections))


def test_the_command_names_runs(taco, recorded, document, teacher_url, tmp_path, monkeypatch):
    """`--reuse`; a bundle of such a run would lack what it learnt from, and is refused."""
    result, store = recorded
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(document(policy=BY_WORD, run={"name": "again"})))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TACO_TEACHER_URL", teacher_url)
    assert taco("train", path, "--reuse", result.folder).code == 0
    assert json.loads(Path("runs/again/result.json").read_text())["teacher_calls"] == 0
    bundled = taco("cache", "bundle", "runs/again", "--store", store, "-o", "a.tar.gz")
    assert (bundled.code, "learnt from the rollouts of other runs" in bundled.err) == (1, True)
    alone = taco("train", "--resume", "runs/again", "--reuse", result.folder)
    assert alone.err.startswith("--reuse: expected a config with it")
