"""Runs against a teacher whose upstream goes wrong: the same weights, or a stop that loses nothing.

The upstream answers by the built-in rules, so that the run without faults is `finished`.
"""

import json
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from taco.own_service import own_service
from tests.faulty_upstream import faulty_upstream
from trainer.config import Config
from trainer.errors import TeacherError, TeacherSpent, TooManyFailures
from trainer.learning.launch import resume, train_new
from trainer.learning.run_folder import saved_weights_digest

RETRIES = {"retry_share": 0.5, "retry_reserve": 20, "breaker_rest_s": 1.5}


@pytest.fixture
def faulty():
    """An upstream that can be told what goes wrong."""
    with faulty_upstream() as upstream:
        yield upstream


@pytest.fixture
def start_on(faulty, tmp_path):
    """Start a service process on that upstream, over the test's own store."""
    with ExitStack() as stack:

        def start_it(**changes):
            settings = tmp_path / "service.yaml"
            settings.write_text(yaml.safe_dump(faulty.settings(upstream=RETRIES, **changes)))
            store = tmp_path / "completions.sqlite"
            service = ExitStack()
            url = service.enter_context(own_service(settings, store=store))
            stack.push(service)
            return url, service.close

        yield start_it


def test_faults_on_three_calls_of_ten_change_no_weight(
    start_on, faulty, config, finished, tmp_path
):
    """Each kind of fault that passes was met, within the retry budget."""
    url, _ = start_on()
    faulty.share = 0.3
    result = train_new(config, "trial", teacher_url=url, runs=tmp_path, report=lambda _: None)
    assert result.weights_digest == finished.weights_digest
    assert result.teacher_calls == finished.teacher_calls
    retries = faulty.calls.total() - len(faulty.calls)
    assert 0 < faulty.met.total() == retries
    assert set(faulty.met) == set(faulty.faults)
    assert retries <= RETRIES["retry_reserve"] + RETRIES["retry_share"] * len(faulty.calls)


def _go_wrong_at(faulty, text, *faults):
    """A report that makes every call fail once a line contains `text`."""

    def report(line):
        if text in line:
            faulty.share, faulty.faults = 1.0, faults or faulty.faults

    return report


def test_an_outage_stops_the_run_with_everything_saved(
    start_on, faulty, document, finished, tmp_path
):
    """Within its deadline; once the upstream is back, it goes on to the same weights."""
    config = Config.model_validate(document(teacher={"timeout_s": 8}))
    url, _ = start_on(openai={"total_timeout_s": 2})
    report = _go_wrong_at(faulty, "step 4/8")
    with pytest.raises(TooManyFailures, match="the step was not trained on"):
        train_new(config, "trial", teacher_url=url, runs=tmp_path, report=report)
    faulty.share = 0.0
    result = resume(tmp_path / "trial", teacher_url=url, report=lambda _: None)
    assert result.weights_digest == finished.weights_digest


@pytest.mark.parametrize("fault", ["exhausted quota", "empty choices"])
def test_no_lasting_fault_becomes_a_reward(start_on, faulty, document, fault, tmp_path):
    """The first step is refused, and nothing was learnt from it."""
    config = Config.model_validate(document(teacher={"timeout_s": 3}))
    url, _ = start_on(openai={"total_timeout_s": 0.5})
    faulty.share, faulty.faults = 1.0, [fault]
    with pytest.raises(TeacherError):
        train_new(config, "trial", teacher_url=url, runs=tmp_path, report=lambda _: None)
    assert not list((tmp_path / "trial/logs").glob("rewards*")) or (
        len((tmp_path / "trial/logs/rewards_logs_updated.csv").read_text().splitlines()) == 1
    )


def test_a_refusal_is_masked_and_only_the_references_loss_pays_for_it(
    start_on, faulty, document, base, tmp_path
):
    """Where every text of the right length is refused, nothing is learnt from it.

    The tolerance is so wide that every text is asked about.
    """
    url, _ = start_on()
    faulty.share, faulty.faults = 1.0, ["filtered prompt", "filtered answer"]

    def train(loss):
        changes = {
            "policy": {"loss": loss, "rollouts_per_example": 2, "length_tokenizer": "policy"}
        }
        # All are asked: the tolerance is the whole text, and no text has lost nine in ten words.
        config = Config.model_validate(
            document(**changes, reward={"compression_tolerance": 1.0}, hyperparams={"epochs": 1})
        )
        return train_new(config, loss, teacher_url=url, runs=tmp_path, report=lambda _: None)

    masked, paid = train("leave_one_out"), train("reference")
    for run in (masked, paid):
        lines = (Path(run.folder) / "logs/rollouts.jsonl").read_text().splitlines()
        outcomes = {json.loads(line)["outcome"] for line in lines}
        assert outcomes == {"refused"}
    assert masked.weights_digest == saved_weights_digest(base)
    assert paid.weights_digest != saved_weights_digest(base)


def test_a_budget_stops_the_run_cleanly(start_on, faulty, config, finished, tmp_path):
    """Nothing is asked beyond it; with more of it, what was bought is not bought again."""
    url, stop = start_on(budget={"calls": 60})
    lines = []
    with pytest.raises(TeacherSpent, match=r"budget_exhausted: .*budget\.calls allows 60"):
        train_new(config, "trial", teacher_url=url, runs=tmp_path, report=lines.append)
    assert lines[-1] == f"saved; go on with: taco train --resume {tmp_path / 'trial'}"
    assert faulty.calls.total() == 60
    stop()
    url, _ = start_on(budget={"calls": 100_000})
    result = resume(tmp_path / "trial", teacher_url=url, report=lambda _: None)
    assert result.weights_digest == finished.weights_digest
    assert faulty.calls.total() == len(faulty.calls)
