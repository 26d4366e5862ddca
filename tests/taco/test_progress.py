"""The moving line of a training run."""

import io
import re

from rich.console import Console

from taco.progress import live_progress

FIGURES = {
    "reward/mean": 0.35,
    "rate/achieved": 0.28,
    "outcome/out_of_range": 0.2,
    "policy/entropy_per_word": 0.4,
    "reuse/share": 0.0,
    "teacher/calls": 24,
    "teacher/hit": 6,
    "teacher/calls_so_far": 1234,
}


def test_a_terminal_shows_the_figures_that_matter():
    """Step, of how many, and the last step's figures; other lines stand above."""
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=160, color_system=None)
    with live_progress(console) as watch:
        watch(3, 8, FIGURES)
        console.print("validation reward 0.5")
    shown = output.getvalue()
    assert "3/8" in shown
    assert (
        "reward 0.350  rate 0.280  out of range 20%  entropy/word 0.400  calls 1234, 25% stored"
        in shown
    )
    assert "validation reward 0.5\n" in shown


def test_a_narrow_terminal_cuts_the_figures_alone():
    """Where the run is, and when it ends, can be read in eighty columns."""
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=80, color_system=None)
    with live_progress(console) as watch:
        watch(3, 8, FIGURES)
    shown = output.getvalue()
    assert re.search(r"step 3/8 +\S+ +--:-- reward 0.350  rate 0.280  out of range 20%", shown)


def test_a_log_file_gets_no_moving_line():
    """There a run reports its own lines."""
    output = io.StringIO()
    with live_progress(Console(file=output)) as watch:
        assert watch is None
    assert output.getvalue() == ""
