"""Ctrl-C and SIGTERM, sent for real."""

import os
import signal

import pytest

from trainer.learning.interrupt import StopSignal

SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def _send(number):
    os.kill(os.getpid(), number)


@SIGNALS
def test_a_signal_during_work_is_a_request(number):
    """Nothing is torn: whoever works asks whether to stop."""
    with StopSignal() as stop:
        assert not stop.requested
        _send(number)
        assert stop.requested


@SIGNALS
def test_a_signal_during_the_wait_stops_at_once(number):
    """No weight has changed yet, and the teacher may be slow."""
    with StopSignal() as stop:
        with pytest.raises(KeyboardInterrupt), stop.waiting():
            _send(number)
        assert stop.requested


def test_after_a_request_there_is_no_waiting():
    """The teacher is not asked any more."""
    with StopSignal() as stop:
        _send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), stop.waiting():
            pytest.fail("waited")


def test_a_second_signal_raises_anywhere(monkeypatch):
    """Somebody is in a hurry; an echo of the first one, which torchrun makes, is nobody."""
    with StopSignal() as stop:
        _send(signal.SIGINT)
        _send(signal.SIGINT)
        assert stop.requested
    monkeypatch.setattr("trainer.learning.interrupt.ECHO_S", 0.0)
    with StopSignal():
        _send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            _send(signal.SIGTERM)


def test_the_handlers_of_before_are_back_afterwards():
    """Also when the block ends with an error."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(ValueError, match="x"), StopSignal():
        raise ValueError("x")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
