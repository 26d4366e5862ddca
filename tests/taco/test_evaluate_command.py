"""`taco evaluate`: a trained compressor beside its base and simple rules, from a real service."""

import json
from pathlib import Path

import pytest
import yaml

from taco.own_service import own_service
from tests.tiny_runs import tiny_config, write_meetings
from trainer.evaluation.plot import can_plot
from trainer.learning.launch import train_new

ROWS = ["none", "first words", "random", "stop words", "rarest", "base", "trained"]


@pytest.fixture(scope="module")
def run(meetings, base, teacher_url, tmp_path_factory):
    """A finished run of a few steps."""
    config = tiny_config(meetings, base, hyperparams={"epochs": 1})
    folder = tmp_path_factory.mktemp("runs")
    return Path(train_new(config, "trial", teacher_url=teacher_url, runs=folder).folder)


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    """Eight other meetings; of one question a human thinks otherwise than the teacher."""
    path = write_meetings(tmp_path_factory.mktemp("held_out") / "data.json", 8, seed=5)
    records = json.loads(path.read_text(encoding="utf-8"))
    records["0"]["questions"][0]["answer"] = "Nobody knows"
    path.write_text(json.dumps(records), encoding="utf-8")
    return path


@pytest.fixture
def evaluate(taco, teacher_url, monkeypatch, tmp_path, held_out):
    """Run `taco evaluate` at the tests' service; gives what it said and the report."""

    def run(*arguments, url=teacher_url):
        monkeypatch.setenv("TACO_TEACHER_URL", url)
        output = tmp_path / "report"
        said = taco("evaluate", *arguments, "--data", held_out, "--output", output)
        path = output / "report.json"
        return said, json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    return run


def test_every_row_is_measured_at_every_rate(evaluate, run, tmp_path):
    """By every metric, against the teacher and humans, with intervals, costs and signatures."""
    said, report = evaluate(
        run, "--rates", "0.3,0.5", "--metrics", "f1, 0.5*exact_match + 0.5*rougeL",
        "--usd-per-million", "10", "--usd-per-hour", "1",
    )  # fmt: skip
    assert said.code == 0, said.err
    metrics = ["f1", "0.5*exact_match + 0.5*rougeL"]
    assert list(report["signature"]["metrics"]) == metrics
    assert report["signature"]["teacher"].startswith("builtin ")
    assert [(row["row"], row["requested_rate"]) for row in report["rows"]] == [
        (name, 1.0 if name == "none" else rate) for rate in (0.3, 0.5) for name in ROWS
    ]
    by_name = {row["row"]: row for row in report["rows"][: len(ROWS)]}
    none = by_name["none"]
    assert (none["achieved_rate"], none["numbers_kept"], none["entities_kept"]) == (1.0, 1.0, 1.0)
    assert none["agreement"]["f1"]["of"] == none["correctness"]["f1"]["of"] == 8 * 2
    assert none["agreement"]["f1"]["mean"] == 1.0
    assert none["correctness"]["f1"]["mean"] == pytest.approx(15 / 16)
    for name in ("first words", "random", "stop words", "rarest"):
        # A rule may not get more than the compressor used.
        assert by_name[name]["achieved_rate"] <= by_name["trained"]["achieved_rate"] + 0.01
    saved = by_name["trained"]["tokens_saved_per_prompt"]
    assert by_name["trained"]["usd_saved_per_1000_prompts"] == pytest.approx(saved / 100)
    assert f"| {saved:.1f} | {saved / 100:.4g} |" in said.out
    at_first = [each for each in report["differences"] if each["requested_rate"] == 0.3]
    assert len(at_first) == 2 * len(metrics) * (len(ROWS) - 1)
    assert {each["ours"] for each in at_first} == {"trained"}
    beside_none = next(each for each in at_first if each["theirs"] == "none")
    assert beside_none["interval"]["difference"] == pytest.approx(
        by_name["trained"]["agreement"]["f1"]["mean"] - none["agreement"]["f1"]["mean"]
    )
    assert [each["name"] for each in report["deployment"]] == ["base", "trained"]
    assert {line["row"] for line in report["break_even"]} == {"base", "trained"}
    markdown = (tmp_path / "report/report.md").read_text(encoding="utf-8")
    assert markdown in said.out
    if can_plot():
        assert (tmp_path / "report/quality.png").read_bytes().startswith(b"\x89PNG")


def test_an_evaluation_repeated_asks_no_model(evaluate, run, tmp_path):
    """The second time every answer comes from the store, and every score is the same."""
    with own_service(store=tmp_path / "fresh.sqlite") as url:
        _, first = evaluate(run, "--rates", "0.4", url=url)
        _, again = evaluate(run, "--rates", "0.4", url=url)
    assert first["teacher"]["generated"] > 0
    assert again["teacher"] == {**first["teacher"], "from_the_store": again["teacher"]["asked"],
                                "generated": 0}  # fmt: skip
    assert (again["rows"], again["differences"]) == (first["rows"], first["differences"])


def test_the_exact_rule_lands_nearer_to_the_rate(evaluate, run):
    """It is measured beside the stock rule's deviation, and used where the config says so."""
    _, report = evaluate(run, "evaluation.rate=exact", "--rates", "0.4")
    trained = report["deployment"][1]
    assert trained["exact_deviation"]["0.4"] < trained["stock_deviation"]["0.4"]
    assert trained["exact_deviation"]["0.4"] < 2
    rows = {row["row"]: row for row in report["rows"]}
    assert rows["trained"]["achieved_rate"] == pytest.approx(0.4, abs=0.01)
    assert rows["base"]["achieved_rate"] == pytest.approx(0.4, abs=0.01)
    assert report["signature"]["rate_rule"] == "exact"


def test_runs_of_other_seeds_widen_what_is_compared(evaluate, run):
    """Each is a row of its own, and the intervals draw seeds too."""
    _, report = evaluate(run, "--seed-run", run, "--rates", "0.4", "--examples", "4")
    assert [row["row"] for row in report["rows"]][-2:] == ["trained", "trained-2"]
    assert "trained-2" not in {each["theirs"] for each in report["differences"]}


def test_a_config_evaluates_its_base_alone(evaluate, config_file):
    """Before anything is trained: is there something to win?"""
    said, report = evaluate(config_file, "--examples", "4")
    assert said.code == 0, said.err
    assert [row["row"] for row in report["rows"]] == ROWS[:-1]
    assert {each["ours"] for each in report["differences"]} == {"base"}


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--rates", "0.2,much"], "--rates: expected numbers such as 0.2,0.5; got '0.2,much'"),
        (["--rates", "1.5"], "--rates: expected numbers between 0 and 1"),
        (["--metrics", "rouge"], "expected one of bleu, chrf"),
        (["hyperparams.epoch=1"], "hyperparams.epoch: no such key"),
    ],
)
def test_what_cannot_be_measured_is_said_before_anything_is_asked(evaluate, run, arguments, part):
    """One message each."""
    said, report = evaluate(run, *arguments)
    assert (said.code, report) == (1, None)
    assert part in said.err


def test_a_run_that_is_not_finished_says_so(evaluate, run, tmp_path):
    """Also as another seed's."""
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "run.json").write_text((run / "run.json").read_text(encoding="utf-8"))
    said, _ = evaluate(unfinished)
    assert f"taco train --resume {unfinished}" in said.err
    said, _ = evaluate(run, "--seed-run", unfinished)
    assert f"{unfinished}: expected a finished run" in said.err


def test_no_validation_data_is_said(taco, config_file):
    """The tiny config holds nothing out."""
    document = yaml.safe_load(config_file.read_text(encoding="utf-8"))
    assert document["evaluation"]["val_share"] == 0.0
    said = taco("evaluate", config_file)
    assert "leaves no example to evaluate on; name a file with --data" in said.err


def test_the_model_card_is_written_from_the_run(taco, run, held_out, teacher_url, monkeypatch):
    """Digests, rate, template and licence; the figures, once there are some."""
    monkeypatch.setenv("TACO_TEACHER_URL", teacher_url)
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    said = taco("card", run)
    assert said.code == 0, said.err
    assert f"run `taco evaluate {run}` first" in said.out
    path = Path(result["model_path"]) / "README.md"
    text = path.read_text(encoding="utf-8")
    assert text.startswith("---\nlibrary_name: transformers\n")
    for part in (result["weights_digest"], result["lock_root"], "rate=0.4", "Question: {question}"):
        assert part in text
    assert "None yet." in text
    assert "\nlicense:" not in text
    said = taco("evaluate", run, "--examples", "2", "--data", held_out)
    assert said.code == 0, said.err
    taco("card", run, "--licence", "mit")
    text = path.read_text(encoding="utf-8")
    assert "| trained |" in text
    assert "\nlicense: mit\n" in text


def test_one_threshold_for_all_texts(evaluate, run):
    """Each compressor by its own, calibrated on the run's texts: near the rate as a whole."""
    said, report = evaluate(run, "evaluation.rate=threshold", "--rates", "0.4")
    assert said.code == 0, said.err
    assert report["signature"]["rate_rule"] == "threshold"
    rows = {row["row"]: row for row in report["rows"]}
    for name in ("base", "trained"):
        assert rows[name]["achieved_rate"] == pytest.approx(0.4, abs=0.15)  # Of 12 other texts.
    exactly = evaluate(run, "evaluation.rate=exact", "--rates", "0.4")[1]
    assert report["rows"] != exactly["rows"]
