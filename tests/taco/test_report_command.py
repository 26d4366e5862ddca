"""`taco report`, looked at in a real browser."""

import json

import pytest

from tests.browser import PHONE_WIDTH, watched_page
from tests.run_folders import HOSTILE, write_run
from trainer.evaluation.run_report.page import write_report
from trainer.evaluation.run_report.run_files import read_run
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


def test_a_long_run_opens_fast_and_asks_nobody(report, tmp_path, browser):
    """Ten thousand steps in less than five megabytes, without a fault or a request."""
    said, path = report(write_run(tmp_path / "long", 10_000))
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
        assert panel.locator("p.unseen").inner_text() == (
            "a: 0.492 at step 1, 0.2 at step 40, between 0.2 and 0.492; "
            "b: 0.49 at step 1, 0.2 at step 30, between 0.2 and 0.49"
        )
        differing = watched.page.get_by_label("Settings that differ").inner_text()
        assert "run.seed" in differing
        assert "compression_rate" not in differing


def test_hostile_texts_are_shown_as_text(report, tmp_path, browser):
    """In names, settings, an evaluation and damaged lines: nothing runs or turns round."""
    folder = write_run(
        tmp_path / "<b>$bold$ 中", task={"prompt": HOSTILE, "gpt_model": "x" * 1_000_000}
    )
    (folder / "evaluation").mkdir()
    score = {HOSTILE: {"mean": 0.5, "scored": 1, "of": 1, "interval": [0.4, 0.6]}}
    row = {"row": HOSTILE, "requested_rate": 0.3, "achieved_rate": 0.29, "agreement": score}
    evaluation = {"signature": {HOSTILE: HOSTILE}, "rows": [row]}
    (folder / "evaluation/report.json").write_text(json.dumps(evaluation))
    with (folder / "logs/rewards_logs_updated.csv").open("a") as file:
        file.write(f'ValR,"{HOSTILE}",x,y\n')
    said, path = report(folder)
    assert said.code == 0, said.err
    assert path.stat().st_size < LARGEST / 10
    with watched_page(browser) as watched:
        asked = []
        watched.page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
        watched.page.goto(path.as_uri())
        watched.page.evaluate("document.querySelectorAll('details').forEach((e) => e.open = true)")
        assert watched.page.locator("h1").inner_text() == "<b>$bold$ 中"
        everything = watched.page.inner_text("body")
        assert everything.count(visible(HOSTILE)) >= 4
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
    said = taco("report", folder)
    assert said.out.splitlines()[-1] == f"report: {folder / 'report.html'}"
    assert "the validation cannot be shown" in said.out
    assert taco("report", folder, write_run(tmp_path / "b", 3)).out.endswith(
        "report: report.html\n"
    )
    assert "the validation cannot be shown" in (tmp_path / "report.html").read_text()
