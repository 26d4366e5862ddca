import subprocess
import sys
import threading
import time

import pytest

from trainer.rollouts.parallel import map_concurrently


def test_results_are_in_the_order_of_the_arguments():
    """Whichever call ends first."""

    def slow_first(number):
        time.sleep(0.05 / (number + 1))
        return number * number

    assert map_concurrently(slow_first, range(8), 8) == [0, 1, 4, 9, 16, 25, 36, 49]


def test_at_most_so_many_at_a_time():
    """The limit is reached and never passed."""
    lock, running, most = threading.Lock(), 0, 0

    def work(_):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1

    map_concurrently(work, range(12), 3)
    assert most == 3


def test_an_error_ends_it_after_what_is_under_way():
    """The first error is raised, nothing new is begun, and nothing is left running."""
    begun, ended = [], []

    def work(number):
        begun.append(number)
        if number == 0:
            raise KeyError("first")
        time.sleep(0.1)
        ended.append(number)

    with pytest.raises(KeyError, match="first"):
        map_concurrently(work, range(100), 2)
    assert len(begun) < 10
    assert sorted(ended) == sorted(begun)[1:]


def test_an_interrupt_waits_for_nothing():
    """Ctrl-C ends the program although calls are under way."""
    code = (
        "import os, signal, threading, time\n"
        "from trainer.rollouts.parallel import map_concurrently\n"
        # Ignored in what a shell started in the background, unless somebody asks for it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "map_concurrently(lambda _: time.sleep(60), range(4), 2)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert "KeyboardInterrupt" in done.stderr
