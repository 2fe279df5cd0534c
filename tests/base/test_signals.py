"""Signals that ask for the end: which are heard, and when a second one counts."""

import os
import signal
from types import SimpleNamespace

import pytest

from clouds.base import signals
from clouds.base.signals import noted_signals


@pytest.fixture
def handled():
    """SIGHUP as a terminal's processes have it, put back afterwards: the tests may run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_is_noted_and_its_echo_is_not(handled, number):
    before = signal.getsignal(number)
    with noted_signals() as came:
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        assert came == [number]
    assert signal.getsignal(number) is before


def test_ctrl_c_counts_each_time():
    with noted_signals():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_the_end_of_a_terminal_is_not_heard_under_nohup(handled):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with noted_signals() as came:
        os.kill(os.getpid(), signal.SIGHUP)
        assert came == []


def test_the_time_between_two_signals_is_not_the_clocks(monkeypatch):
    now = 100.0
    monkeypatch.setattr(signals, "time", SimpleNamespace(monotonic=lambda: now))
    with noted_signals(note=lambda _: None) as came:
        for seconds, count in ((0.0, 1), (signals.ECHO / 2, 1), (signals.ECHO * 2, 2)):
            now += seconds
            os.kill(os.getpid(), signal.SIGTERM)
            assert len(came) == count
