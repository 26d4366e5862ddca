"""`taco report`, looked at in a real browser."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from taco.compress import model_of_run
from tests.browser import PHONE_WIDTH, watched_page
from tests.run_folders import HOSTILE, write_run
from tests.tiny_runs import tiny_config, write_meetings
from trainer.evaluation.run_report.compressed import Compressed
from trainer.evaluation.run_report.examples import NO_ANSWER, arrange
from trainer.evaluation.run_report.page import write_report
from trainer.evaluation.run_report.run_files import read_run
from trainer.learning.launch import train_new
from trainer.policy.compressor import PromptCompressorReinforce
from trainer.policy.contexts import Target
from trainer.policy.cuts import Cut
from trainer.policy.inference import Compression, compress_many
from trainer.policy.words import CompressionOptions
from trainer.tasks.data import load_examples
from trainer.types import Example, Outcome, Question, TeacherReply
from trainer.visible import visible

LARGEST = 5_000_000


@pytest.fixture
def report(taco, tmp_path):
    """Run `taco report`; gives what it said and the file's path."""

    def run(*arguments):
        output = tmp_path / "out" / "report.html"
        said = taco("report", *arguments, "--output", output)
        return said, output

    return run


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """The report of two runs."""
    folder = tmp_path_factory.mktemp("comparison")
    runs = [write_run(folder / "a"), write_run(folder / "b", 30, run={"seed": 7})]
    write_report([read_run(run) for run in runs], folder / "report.html")
    return folder / "report.html"


@pytest.fixture(scope="module")
def real_run(meetings, base, teacher_url, tmp_path_factory):
    """A finished run of four steps, with a checkpoint after the third."""
    config = tiny_config(meetings, base, hyperparams={"epochs": 1})
    runs = tmp_path_factory.mktemp("runs")
    return Path(train_new(config, "trial", teacher_url=teacher_url, runs=runs).folder)


@pytest.fixture
def held_out(tmp_path):
    """Two other meetings, with two questions each."""
    return write_meetings(tmp_path / "held_out.json", 2, seed=5)


def test_a_long_run_opens_fast_and_asks_nobody(report, tmp_path, browser):
    """Ten thousand steps in less than five megabytes, without a fault or a request."""
    said, path = report(write_run(tmp_path / "long", 10_000), "--examples", 0)
    assert said.code == 0, said.err
    assert said.out == f"report: {path}\n"
    assert path.stat().st_size < LARGEST
    with watched_page(browser) as watched:
        watched.page.goto(path.as_uri())
        assert watched.page.title() == "long: training report"
        assert watched.page.locator("#learning figure svg").count() >= 8
        assert watched.page.locator(".cards dd", has_text="240,000").count() == 1
        assert (watched.errors, watched.hosts) == ([], set())


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [PHONE_WIDTH, 1280])
def test_it_is_readable_everywhere(comparison, browser, dark, width):
    """Nothing is wider than the window, and text and lines stand out from what is behind them."""
    with watched_page(browser, width=width, dark=dark) as watched:
        watched.page.goto(comparison.as_uri())
        assert not watched.scrolls_sideways()
        ratios = watched.page.evaluate(CONTRAST)
        assert ratios.pop("dark") is dark
        assert {name: ratio for name, ratio in ratios.items() if ratio < 4.5} == {}
        assert watched.barriers() == []
        assert watched.errors == []


CONTRAST = """() => {
  const style = getComputedStyle(document.documentElement);
  const luminance = (name) => {
    const hex = style.getPropertyValue(name).trim().replace(/^#(.)(.)(.)$/, "#$1$1$2$2$3$3");
    const [r, g, b] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255)
      .map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const result = { dark: luminance("--page") < 0.5 };
  const fronts = ["--ink", "--quiet", "--accent", ...Array(8).keys()]
    .map((name) => typeof name === "number" ? `--series-${name}` : name);
  for (const back of ["--page", "--surface"]) for (const front of fronts) {
    const [low, high] = [luminance(front), luminance(back)].sort((a, b) => a - b);
    result[`${front} on ${back}`] = (high + 0.05) / (low + 0.05);
  }
  return result;
}"""
"""WCAG's contrast of every colour for text and lines on every background."""


def test_runs_are_compared_on_the_same_axes(comparison, browser):
    """A panel for each figure, a sentence for each run in it, and where their settings differ."""
    with watched_page(browser) as watched:
        watched.page.goto(comparison.as_uri())
        panel = watched.page.locator("figure", has_text="Entropy per word")
        assert panel.count() == 1
        assert panel.locator(".summary").all_inner_texts() == [
            "a: 0.492 at step 1, 0.2 at step 40, between 0.2 and 0.492",
            "b: 0.49 at step 1, 0.2 at step 30, between 0.2 and 0.49",
        ]
        differing = watched.page.get_by_label("Settings that differ").inner_text()
        assert "run.seed" in differing
        assert "compression_rate" not in differing


def test_the_values_of_a_plot_can_be_read(comparison, browser):
    """By pointing at it, and by arrow keys alone; a run is silent where it had ended."""
    with watched_page(browser) as watched:
        page = watched.page
        page.goto(comparison.as_uri())
        plot = page.locator("figure", has_text="Entropy per word").locator(".plot")
        said = plot.locator(".said")
        assert said.evaluate("e => getComputedStyle(e).opacity") == "0"
        plot.hover(position={"x": 0.17 * plot.bounding_box()["width"], "y": 60})
        assert said.inner_text() == "step 1: a 0.492, b 0.49"
        assert said.evaluate("e => getComputedStyle(e).opacity") == "1"
        reader = page.get_by_label("Entropy per word: values by step")
        reader.focus()
        page.keyboard.press("End")
        assert reader.get_attribute("aria-valuetext") == "step 40: a 0.2"
        for _ in range(10):
            page.keyboard.press("ArrowLeft")
        assert reader.get_attribute("aria-valuetext") == "step 30: a 0.275, b 0.2"
        at, whole = plot.locator(".line").bounding_box(), plot.bounding_box()
        assert 0.7 < (at["x"] - whole["x"]) / whole["width"] < 0.8
        assert page.locator("figure", has_text="Seconds by phase").locator("svg title").count() == 4
        assert watched.errors == []


def test_hostile_texts_are_shown_as_text(tmp_path, browser):
    """In names, settings, an evaluation, damaged lines, examples: nothing runs or turns round."""
    task = {"prompt": HOSTILE, "gpt_model": "x" * 1_000_000}
    folder = write_run(tmp_path / "<b>$bold$ 中", task=task)
    (folder / "evaluation").mkdir()
    score = {HOSTILE: {"mean": 0.5, "scored": 1, "of": 1, "interval": [0.4, 0.6]}}
    row = {"row": HOSTILE, "requested_rate": 0.3, "achieved_rate": 0.29, "agreement": score}
    evaluation = {"signature": {HOSTILE: HOSTILE}, "rows": [row]}
    (folder / "evaluation/report.json").write_text(json.dumps(evaluation))
    with (folder / "logs/rewards_logs_updated.csv").open("a") as file:
        file.write(f'ValR,"{HOSTILE}",x,y\n')
    words = ("</script><script>alert(1)</script>", "<img/src=x/onerror=alert(1)>", "\u202eon")
    cut = Compression("", (Cut(words, np.array([True, False, True])),), 3, 2)
    example = Example(HOSTILE, ("x",), (Question(HOSTILE, HOSTILE),))
    answer = TeacherReply(Outcome.SCORED, HOSTILE + "y" * 1_000_000)
    sides = [Compressed(HOSTILE, ((cut,), (cut,)))]
    gallery = arrange(sides, [example], (0.3, 0.5), 0.3, [(answer, 0.5)] * 2, "f1")
    path = tmp_path / "report.html"
    write_report([read_run(folder)], path, gallery, [HOSTILE])
    assert path.stat().st_size < LARGEST / 10
    with watched_page(browser) as watched:
        asked = []
        watched.page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
        watched.page.goto(path.as_uri())
        watched.page.evaluate("document.querySelectorAll('details').forEach((e) => e.open = true)")
        assert watched.page.locator("h1").inner_text() == "<b>$bold$ 中"
        for key in ("Home", "End"):  # As it was written, and as the script puts it.
            assert " ".join(watched.page.locator("#side-0-0 .text").inner_text().split()) == (
                "</script><script>alert(1)</script> <img/src=x/onerror=alert(1)> ⟨U+202E⟩on"
            )
            assert watched.page.inner_text("#answer-0-0-0 dd").startswith(visible(HOSTILE))
            watched.page.press("#rate", key)
        everything = watched.page.inner_text("body")
        assert everything.count(visible(HOSTILE)) >= 8
        assert "\u202e" not in everything
        assert (asked, watched.errors) == ([], [])


def test_a_folder_of_no_run_is_one_sentence(report, tmp_path):
    """And nothing is written."""
    said, path = report(tmp_path)
    assert (said.code, path.exists()) == (1, False)
    assert "expected a run's folder" in said.err


def test_it_goes_into_the_run_that_it_is_about(taco, tmp_path, monkeypatch):
    """One run's into its folder, a comparison into the current one; a damaged file is said."""
    monkeypatch.chdir(tmp_path)
    folder = write_run(tmp_path / "trial", 3)
    (folder / "logs/rewards_logs_updated.csv").unlink()
    said = taco("report", folder, "--examples", 0)
    assert said.out.splitlines()[-1] == f"report: {folder / 'report.html'}"
    assert "the validation cannot be shown" in said.out
    assert taco("report", folder, write_run(tmp_path / "b", 3), "--examples", 0).out.endswith(
        "report: report.html\n"
    )
    assert "the validation cannot be shown" in (tmp_path / "report.html").read_text()


def test_the_slider_shows_what_is_deployed_at_each_rate(
    report, real_run, held_out, base, browser, teacher_url, monkeypatch
):
    """By keyboard alone: base beside trained, the words kept, both answers, the rewards."""
    monkeypatch.setenv("TACO_TEACHER_URL", teacher_url)
    rates = (0.25, 0.4, 0.7)
    asked = ["--rates", "0.25,0.4,0.7", "--data", held_out, "--ask", "--examples", 2]
    said, path = report(real_run, *asked)
    assert said.code == 0, said.err
    assert "asked 24," in said.out
    trained = PromptCompressorReinforce(model_of_run(real_run), "cpu", length_tokenizer="policy")
    contexts = load_examples(held_out)[1].contexts
    with watched_page(browser) as watched:
        page = watched.page
        page.goto(path.as_uri())
        page.locator("#rate").focus()
        assert page.inner_text("#rate-shown") == "0.4"
        page.keyboard.press("Home")
        for rate in rates:
            assert page.get_attribute("#rate", "aria-valuetext") == f"rate {rate}"
            [expected] = compress_many(trained, [contexts], CompressionOptions(), Target(rate))
            side = page.locator("#side-1-1")
            kept = " ".join(side.locator("mark").all_inner_texts())
            assert kept.replace(" .", ".").split() == expected.text.replace(" .", ".").split()
            assert f"rate {expected.rate:.3f}" in side.inner_text()
            assert side.locator(".reward").inner_text().startswith("reward ")
            assert page.locator("#answer-1-0-0 dd").inner_text() != NO_ANSWER
            page.keyboard.press("ArrowRight")
        assert page.locator("#side-0-0 .name").inner_text() == "base"
        assert watched.barriers() == []
        assert (watched.errors, watched.hosts) == ([], set())


def test_no_answer_is_bought_unless_one_asks_for_it(report, real_run, held_out, tmp_path):
    """A service over the store answers from it alone; where there is none, the report says so."""
    store = tmp_path / "store.sqlite"
    options = ["--data", held_out, "--rates", "0.4", "--store", store]
    said, path = report(real_run, *options)
    assert said.code == 0, said.err
    assert "expected a store at" in said.out
    assert "expected a store at" in path.read_text()
    said, _ = report(real_run, *options, "--ask")
    assert "asked 8, 8 generated" in said.out
    said, path = report(real_run, *options[:2], "--rates", "0.4,0.8", "--store", store)
    assert said.out.splitlines() == [f"report: {path}"]
    data = json.loads(path.read_text().split('id="examples-data">')[1].split("</script>")[0])
    answers = [
        [[answer and answer["score"] for answer in moment["answers"]] for moment in side["at"]]
        for example in data["examples"]
        for side in example["sides"]
    ]
    assert all(None not in at_first for at_first, _ in answers)
    assert any(None in at_other for _, at_other in answers)


def test_a_killed_run_shows_its_last_checkpoint(report, real_run, held_out, tmp_path):
    """Beside the base; without one there is the base alone, and a sentence."""
    folder = tmp_path / "killed"
    shutil.copytree(real_run, folder)
    (folder / "result.json").unlink()
    options = ["--data", held_out, "--rates", "0.4", "--store", tmp_path / "none.sqlite"]
    said, path = report(folder, *options)
    assert said.code == 0, said.err
    assert "trained, step 3" in path.read_text()
    shutil.rmtree(folder / "checkpoints")
    said, path = report(folder, *options)
    assert said.code == 0, said.err
    assert "expected a checkpoint" in said.out
    assert '<span class="name">base</span>' in path.read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (["--rates", "0.2,1"], 1, "--rates: expected numbers between 0 and 1"),
        (["--data", "nowhere.json"], 0, "no examples: nowhere.json"),
        (["--examples", "0"], 0, "report: "),
    ],
)
def test_what_cannot_be_shown_is_said(report, real_run, arguments, code, part):
    """A wrong option stops; a missing file costs the examples alone."""
    said, path = report(real_run, *arguments)
    assert said.code == code
    assert part in said.out + said.err
    assert path.exists() == (code == 0)
