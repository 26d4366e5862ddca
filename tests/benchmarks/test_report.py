from benchmarks import report
from benchmarks.browsing import BARE, open_page
from trainer.evaluation.run_report.page import write_report
from trainer.evaluation.run_report.panels import LEARNING, TEACHER
from trainer.evaluation.run_report.run_files import read_run


def test_the_report_that_is_measured_has_all_that_a_report_can_have(tmp_path, browser):
    """Every panel, an evaluation, examples with answers at each rate: none is quick for a lack."""
    report.write_run(tmp_path / "run", 60)
    run = read_run(tmp_path / "run")
    assert run.problems == ()
    write_report([run], tmp_path / "report.html", report.gallery())
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    assert page.locator(".plot").count() == len(LEARNING) + len(TEACHER)
    assert page.locator(".example").count() == 3
    assert page.locator("#held-out table.figures").count() >= len(report.RATES)
    page.close()


def test_opening_is_timed_in_a_real_browser(tmp_path, browser):
    """Whatever comes first, both have come."""
    (tmp_path / "bare.html").write_text(BARE)
    assert min(open_page(browser, (tmp_path / "bare.html").as_uri())) > 0
