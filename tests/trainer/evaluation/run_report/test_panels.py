"""What is drawn of a run, and what is said of it."""

import numpy as np
import pytest

from trainer.evaluation.run_report.panels import LEARNING, Panel, column, draw, target_rate
from trainer.evaluation.run_report.run_files import RunRecord


def run_of(steps=4, settings=None, **metrics):
    """A run that was never read from a folder; `__` in a name is a slash."""
    columns = {name.replace("__", "/"): np.array(each) for name, each in metrics.items()}
    return RunRecord(
        folder=None,
        description={"config": settings or {}},
        result=None,
        steps=np.arange(1.0, steps + 1),
        metrics=columns,
        validation=(),
        evaluation=None,
        problems=(),
    )


@pytest.mark.parametrize(
    ("panel", "expected"),
    [
        (Panel("Seconds", "seconds/", ""), [3.0, 2.0, 8.0, np.nan]),
        (Panel("Calls", "teacher/calls", "", cumulative=True), [10.0, 30.0, 30.0, 70.0]),
        (Panel("Stored", "teacher/hit", "", of="teacher/calls"), [0.5, 0.25, np.nan, 1.0]),
        (Panel("Unknown", "policy/unknown", ""), [np.nan] * 4),
    ],
)
def test_a_figure_is_added_up_divided_or_left_out(panel, expected):
    """A phase that a step had no part in is no hole, and nothing of no calls is no share."""
    run = run_of(
        seconds__teacher=[1.0, 2.0, 3.0, np.nan],
        seconds__save=[2.0, np.nan, 5.0, np.nan],
        teacher__calls=[10.0, 20.0, 0.0, 40.0],
        teacher__hit=[5.0, 5.0, 0.0, 40.0],
    )
    np.testing.assert_array_equal(column(panel, run), expected)


def test_what_never_happened_is_named_and_not_drawn():
    """Where any run refused something, the panel is there for all."""
    quiet, refusing = run_of(outcome__refused=[0.0] * 4), run_of(outcome__refused=[0, 0, 0.5, 0.25])
    drawn, empty = draw(LEARNING, {"a": quiet})
    assert (drawn, empty) == ((), ("Refused",))
    [panel], empty = draw(LEARNING, {"a": quiet, "b": refusing})
    assert empty == ()
    assert panel.summary == (
        "a: 0% throughout",
        "b: 0% at step 1, 25% at step 4, between 0% and 50%",
    )


def test_a_picture_has_no_colours_or_names_of_its_own():
    """It takes them from the page; a metric's name cannot become markup or mathematics."""
    [panel], _ = draw([Panel("x", "a/b", "")], {"<b>$x$": run_of(a__b=[1.0, 2.0, 3.0, 4.0])})
    assert "var(--series-0)" in panel.svg
    assert "#0102" not in panel.svg
    assert "<style" not in panel.svg
    assert "<b>" not in panel.svg


@pytest.mark.parametrize(
    ("hyperparams", "policy", "expected"),
    [
        ({"compression_rate": 0.3, "target_token": -1}, {"rates": []}, 0.3),
        ({"compression_rate": 0.3, "target_token": 50}, {"rates": []}, None),
        ({"compression_rate": 0.3, "target_token": -1}, {"rates": [0.2, 0.5]}, None),
        ({}, {}, None),
    ],
)
def test_the_target_is_drawn_where_there_is_one(hyperparams, policy, expected):
    """Not for a length, nor for several rates, nor where the settings are lost."""
    run = run_of(settings={"hyperparams": hyperparams, "policy": policy})
    assert target_rate(run) == expected
