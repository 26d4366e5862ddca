"""What a run may cost: told before it begins, and held while it goes on."""

import json
import re
from pathlib import Path

import httpx2
import pytest
import yaml

from taco.own_service import own_service
from tests.tiny_runs import write_meetings
from trainer.config import Config
from trainer.errors import ConfigError, TeacherSpent
from trainer.evaluation.run_report.page import money
from trainer.learning.launch import resume, train_new

PRICED = "prices: {input_per_million: 2.0, output_per_million: 8.0}\n"


@pytest.fixture
def settings(tmp_path):
    """Settings of a service that knows its prices."""
    path = tmp_path / "priced.yaml"
    path.write_text(PRICED)
    return path


@pytest.fixture
def url(settings, tmp_path):
    """Such a service, with a store of its own that is empty."""
    with own_service(settings, store=tmp_path / "priced.sqlite") as own:
        yield own


def _silent(_line):
    pass


def _spent(url, folder):
    run_id = json.loads((folder / "run.json").read_text())["run_id"]
    [line] = httpx2.get(f"{url}/v1/ledger", params={"run": run_id}).json()["data"]
    return line["spent"]


def test_a_budget_of_calls_is_never_exceeded_and_can_be_raised(
    document, url, finished, tmp_path, taco, monkeypatch
):
    """Stopped before the step that would not fit; with more, the same run as one without limit."""
    config = Config.model_validate(document(budget={"calls": 40}))
    said = []
    with pytest.raises(TeacherSpent, match=r"budget\.calls allows 40, \d+ are bought") as stopped:
        train_new(config, "trial", teacher_url=url, runs=tmp_path, report=said.append)
    folder = tmp_path / "trial"
    assert "--resume" in str(stopped.value)
    assert said[-1] == f"saved; go on with: taco train --resume {folder}"
    assert 20 < _spent(url, folder)["answers"] <= 40
    with pytest.raises(TeacherSpent, match="allows 45"):  # Kept for the next resume, too.
        resume(folder, ["budget.calls=45"], teacher_url=url, report=_silent)
    with pytest.raises(TeacherSpent, match="allows 45"):
        resume(folder, teacher_url=url, report=_silent)
    monkeypatch.setenv("TACO_TEACHER_URL", url)
    assert taco("train", "--resume", folder, "budget.calls=10000").code == 0
    result = json.loads((folder / "result.json").read_text())
    assert result["weights_digest"] == finished.weights_digest
    assert result["lock_root"] == finished.lock_root


def test_stored_answers_are_free(document, teacher_url, finished, tmp_path):
    """A run that buys nothing ends on a budget of nothing."""
    config = Config.model_validate(document(budget={"calls": 0}))
    result = train_new(config, "again", teacher_url=teacher_url, runs=tmp_path, report=_silent)
    assert result.lock_root == finished.lock_root


def test_a_budget_of_money_stops_after_the_step_that_used_it_up(document, url, tmp_path):
    """The ledger's sum is at the limit by then, and not more than a step above."""
    config = Config.model_validate(document(budget={"usd": 0.005}))
    with pytest.raises(TeacherSpent, match=r"budget\.usd allows 0\.005, and 0\.0\d+ are spent"):
        train_new(config, "trial", teacher_url=url, runs=tmp_path, report=_silent)
    spent = _spent(url, tmp_path / "trial")
    a_step = spent["money"] / spent["answers"] * 18
    assert 0.005 <= spent["money"] < 0.005 + 2 * a_step


def test_a_run_says_what_it_spent_and_saved(document, url, tmp_path):
    """As the ledger has it; what a second run finds stored is what the first one paid."""
    config = Config.model_validate(document(hyperparams={"epochs": 1}))
    first, second = (
        train_new(config, "trial", teacher_url=url, runs=tmp_path, report=_silent) for _ in range(2)
    )
    assert first.spent_usd == pytest.approx(_spent(url, Path(first.folder))["money"])
    assert first.spent_usd > 0
    assert second.spent_usd == 0
    assert second.saved_usd == pytest.approx(first.spent_usd + first.saved_usd)
    assert money(json.loads((tmp_path / "trial-2/result.json").read_text())) == (
        f"$0.0000 spent, ${second.saved_usd:.4f} saved"
    )


def test_money_needs_prices(document, teacher_url, tmp_path):
    """Without them nothing would ever be spent; the run's name stays free."""
    config = Config.model_validate(document(budget={"usd": 1.0}))
    with pytest.raises(ConfigError, match=r"budget\.usd.*\n.*prices in USD.*input_per_million"):
        train_new(config, "trial", teacher_url=teacher_url, runs=tmp_path, report=_silent)
    assert not (tmp_path / "trial").exists()


def test_a_resume_changes_nothing_but_the_budget(finished, teacher_url):
    """Anything else would make it another run."""
    with pytest.raises(ConfigError, match=r"hyperparams\.epochs=9.*override of the budget"):
        resume(Path(finished.folder), ["hyperparams.epochs=9"], teacher_url=teacher_url)


@pytest.fixture
def config_file(document, tmp_path):
    """A config to be run by the command."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(document()))
    return path


def _figures(said):
    """The numbers of each line, by its title."""
    lines = (re.match(r"(\w+(?: \w+)?) {2,}(.*)", line) for line in said.out.splitlines())
    return {
        match[1]: [float(number.replace(",", "")) for number in re.findall(r"[\d,.]*\d", match[2])]
        for match in lines
        if match
    }


def test_a_dry_run_tells_the_most_that_a_run_can_ask(taco, config_file, settings, url, tmp_path):
    """Nothing is asked, no folder is made; a run then asks less, and costs less."""
    said = taco("train", config_file, "--dry-run", "--teacher", settings)
    assert said.code == 0, said.err
    figures = _figures(said)
    assert figures["examples"] == [12, 2]
    assert figures["references"] == [28, 28]
    assert figures["training"] == [12 * 2 * 3 * 2]  # examples, epochs, masks, questions
    assert figures["validation"] == [3, 2 * 2 * 3]
    assert "upper bounds" in said.out
    calls = figures["training"][0] + figures["validation"][1]
    assert figures["completion tokens"][0] == calls * 32
    tokens_in, tokens_out = figures["prompt tokens"][0], figures["completion tokens"][0]
    price = figures["highest price"][0]
    assert price == pytest.approx((2 * tokens_in + 8 * tokens_out) / 1e6, abs=0.005)
    assert httpx2.get(f"{url}/v1/cache/stats").json()["since_start"]["requests"] == 0

    config = Config.model_validate(yaml.safe_load(config_file.read_text()))
    result = train_new(config, "trial", teacher_url=url, runs=tmp_path, report=_silent)
    spent = _spent(url, Path(result.folder))
    assert spent["answers"] <= calls
    assert 0 < spent["money"] <= price


def test_prices_come_from_flags_or_from_the_service_at_hand(taco, config_file, url, monkeypatch):
    """A flag wins; without either, what is missing is said."""
    monkeypatch.setattr("trainer.rollouts.connection.DEFAULT_URL", "http://127.0.0.1:9")
    unknown = taco("train", config_file, "--dry-run")
    assert "highest price      unknown: give --input-per-million" in unknown.out
    monkeypatch.setenv("TACO_TEACHER_URL", url)
    assert "USD at 2 (prompt) and 8 (completion)" in taco("train", config_file, "--dry-run").out
    flags = ("--input-per-million", "0.5", "--output-per-million", "1.5")
    given = taco("train", config_file, "--dry-run", *flags)
    assert "USD at 0.5 (prompt) and 1.5 (completion)" in given.out


def test_missing_references_are_counted_too(taco, document, tmp_path):
    """Filling them costs a call each, on the whole text."""
    data = write_meetings(tmp_path / "data.json", 3)
    records = json.loads(data.read_text())
    del records["1"]["questions"][0]["gpt_output"]
    data.write_text(json.dumps(records))
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(document(data={"train_file_path": str(data)})))
    said = taco("train", path, "--dry-run", "--input-per-million", "1")
    assert "9 of 10 are filled; `taco prepare` asks for the others: 1 calls" in said.out


def test_a_dry_run_wants_a_config(taco):
    """A resumed run's or a lock's costs are not told."""
    said = taco("train", "--dry-run", "--resume", "runs/a")
    assert (said.code, said.err) == (1, "--dry-run: expected a config, whose run is meant\n")
