"""Signals that say stop: all of them are heard, ignored ones stay ignored, and only urgent ones hurry."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable

import pytest

from seedbed.common.stop_signals import STOP_SIGNALS

# Says when it is ready and what it has heard; ends a while after the first, as a run that saves does.
LISTENER = """
import signal, sys, time
from seedbed.server.training.stop_signal import StopSignal
stop = StopSignal().catch()
print("ready", flush=True)
while stop.name is None:
    time.sleep(0.01)
print(stop.name, flush=True)
time.sleep(float(sys.argv[1]))
print("saved", flush=True)
"""


def heard(
    numbers: Iterable[signal.Signals], *, saving_s: float = 0.0, ignored: Iterable[signal.Signals] = ()
) -> tuple[int, list[str]]:
    """Exit code and lines of a program that is sent these, one after the other."""

    def ignore() -> None:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)

    command = [sys.executable, "-c", LISTENER, str(saving_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=ignore) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        for number in numbers:
            os.kill(program.pid, number)
            time.sleep(0.2)
        out, _ = program.communicate(timeout=60)
    return program.returncode, out.split()


@pytest.mark.parametrize("number", STOP_SIGNALS, ids=lambda number: number.name)
def test_each_asks_to_finish_in_order(number: signal.Signals) -> None:
    assert heard([number]) == (0, [number.name, "saved"])


def test_what_was_ignored_stays_ignored() -> None:
    """As `nohup` and `trap "" USR1` leave it."""
    ignored = (signal.SIGHUP, signal.SIGUSR1)
    assert heard([*ignored, signal.SIGTERM], ignored=ignored) == (0, ["SIGTERM", "saved"])


@pytest.mark.parametrize(
    "numbers",
    [
        (signal.SIGHUP, signal.SIGHUP),  # a terminal and its shell
        (signal.SIGTERM, signal.SIGHUP),  # systemd's SendSIGHUP
        (signal.SIGHUP, signal.SIGTERM),
        (signal.SIGUSR1, signal.SIGTERM),  # Slurm's warning and its end
    ],
)
def test_company_hurries_nobody(numbers: tuple[signal.Signals, ...]) -> None:
    assert heard(numbers, saving_s=1.0) == (0, [numbers[0].name, "saved"])


@pytest.mark.parametrize("numbers", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM)])
def test_a_second_urgent_one_ends_it_at_once(numbers: tuple[signal.Signals, ...]) -> None:
    assert heard(numbers, saving_s=60.0) == (-numbers[1], [numbers[0].name])
