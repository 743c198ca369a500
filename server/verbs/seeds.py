"""`seedbed train --seeds 0,1,2`: one run after another, each of a seed, in a process and a folder of its own.

The folders are RUN/seed-0, RUN/seed-1 ...; `seedbed plot RUN` draws their mean within the band from worst to best.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from seedbed.common.errors import UsageError
from seedbed.common.stop_signals import STOP_SIGNALS, URGENT
from seedbed.server.training.stop_signal import StopSignal

FLAG = "--seeds"
FOLDER = "seed-"
_POLL_S = 0.1


def take_seeds(argv: Sequence[str]) -> tuple[list[int], list[str]]:
    """Splits a command line into the seeds that it names, none if it has no `--seeds`, and the rest.

    Raises:
        UsageError: they are no seeds, or there are other options of what belongs to each run.
    """
    words = list(argv)
    place = next((place for place, word in enumerate(words) if word.partition("=")[0] == FLAG), None)
    if place is None:
        return [], words
    word = words.pop(place)
    text = word.partition("=")[2] if "=" in word else words.pop(place) if place < len(words) else ""
    seeds = [int(part) for part in text.split(",") if part.strip().isdecimal()]
    if not seeds or len(seeds) != len(set(seeds)) or len(seeds) != len(text.split(",")):
        raise UsageError(f"expected {FLAG} to be different numbers such as 0,1,2, got {text!r}")
    if any(word.partition("=")[0] in ("--seed", FLAG) for word in words):
        raise UsageError(f"expected --seed or {FLAG} once, got both or two")
    return seeds, words


def run_seeds(verb: str, argv: Sequence[str], seeds: Sequence[int], folder: Path, stop: StopSignal) -> int:
    """Makes the runs in turn; one that is stopped or fails is the last.

    Args:
        verb: train or server.
        argv: the command line without `--seeds`.
        seeds: of the runs.
        folder: that theirs are in.
        stop: says when somebody asks to finish.

    Returns:
        The exit code of the last one.
    """
    for number, seed in enumerate(seeds, start=1):
        run_dir = folder / f"{FOLDER}{seed}"
        print(f"run {number} of {len(seeds)}: {run_dir}", file=sys.stderr, flush=True)
        command = [sys.executable, "-P", "-m", "seedbed.server", verb, *argv, f"--seed={seed}", f"--run-dir={run_dir}"]
        code = _run(command, stop)
        if code or stop.name is not None:
            return code
    return 0


def _run(command: Sequence[str], stop: StopSignal) -> int:
    """One of them. What says stop is handed on, by a signal that hurries nobody.

    Ctrl-C and whoever signals a whole process group have told the run already: a second SIGTERM would end it at once.
    """
    process = subprocess.Popen(command)
    try:
        while process.poll() is None and stop.name is None:
            time.sleep(_POLL_S)
        if stop.name is not None:
            process.send_signal(patient_signal())
        return process.wait()
    finally:
        if process.poll() is None:
            process.kill()


def patient_signal() -> signal.Signals:
    """One that says stop, means no more when it comes second, and that children do not ignore."""
    patient = [one for one in STOP_SIGNALS if one not in URGENT and signal.getsignal(one) != signal.SIG_IGN]
    return patient[-1] if patient else signal.SIGTERM
