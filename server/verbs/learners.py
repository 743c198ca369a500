"""`seedbed train --learners N`: N replicas of one run on this machine, started, watched and restarted together.

Each is a server with a learner of its own. They find one another through a file in a folder that nobody else may enter,
so nothing listens but what a server listens on, and gloo on loopback. When one dies the others end by themselves, the
first of them with a checkpoint, and all are started again; what another start would not mend ends the run. Learners
that gossip go on without one that has died, unless it is the first, which writes the run.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from seedbed.common.counting import count
from seedbed.common.cpu import usable_cores
from seedbed.common.errors import BrokenError, ConfigError, UsageError
from seedbed.common.logs import setup_logging
from seedbed.common.report import passed_on
from seedbed.common.restarts import RestartBudget
from seedbed.common.stop_signals import STOP_SIGNALS
from seedbed.server.run.directory import RunDirectory
from seedbed.server.training.place import STORE_VARIABLE, Place, place_of
from seedbed.server.training.stop_signal import StopSignal
from seedbed.server.verbs.seeds import patient_signal

logger = logging.getLogger(__name__)

FLAG = "--learners"
MAX_LEARNERS = 4096
_MAX_RESTARTS, _WINDOW_S = 10, 600.0
_MOST_PER_CORE = 8
_RETRY = 75  # see common/errors.py
_POLL_S = 0.1
_LEAVE_S = 60.0  # for the others, when one has died: they save, and their clients leave


def take_learners(argv: Sequence[str]) -> tuple[int, list[str]]:
    """Splits a command line into the number of learners, 1 if it has no `--learners`, and the rest.

    Raises:
        UsageError: that is no number of learners.
    """
    words = list(argv)
    place = next((place for place, word in enumerate(words) if word.partition("=")[0] == FLAG), None)
    if place is None:
        return 1, words
    word = words.pop(place)
    text = word.partition("=")[2] if "=" in word else words.pop(place) if place < len(words) else ""
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_LEARNERS):
        raise UsageError(f"expected {FLAG} to be a number from 1 to {MAX_LEARNERS}, got {text!r}")
    if any(word.partition("=")[0] == FLAG for word in words):
        raise UsageError(f"expected {FLAG} once, got it twice")
    if not place_of(os.environ).is_alone:
        raise UsageError(f"expected {FLAG} or torchrun, got both: RANK and WORLD_SIZE are set")
    return int(text), words


def check_room(num_learners: int) -> None:
    """Refuses what a slip of the finger asks for: that many whole servers would stop this machine, and nothing more.

    Raises:
        UsageError: they are too many for its cores.
    """
    cores = usable_cores()
    if num_learners > _MOST_PER_CORE * cores:
        raise UsageError(
            f"expected {FLAG} to be at most {_MOST_PER_CORE * cores} on {count(cores, 'core')}, got {num_learners}: "
            "each learner is a server of several processes, with environments of its own"
        )


@contextlib.contextmanager
def place_of_dry_run(num_learners: int) -> Iterator[Place]:
    """The first of so many, the others of which are never started."""
    with tempfile.TemporaryDirectory(prefix="seedbed-") as folder:
        yield Place(world=num_learners, local_world=num_learners, store=Path(folder) / "store")


def run_learners(
    verb: str, argv: Sequence[str], num_learners: int, stop: StopSignal, goes_on: Callable[[], bool] = lambda: False
) -> int:
    """Starts all replicas, again when one has died, until the run ends.

    Args:
        verb: train or server.
        argv: the command line without `--learners`.
        num_learners: how many.
        stop: says when somebody asks to finish.
        goes_on: whether the learners of this run go on when one of them has died; asked when one has.

    Returns:
        The exit code of the run.

    Raises:
        BrokenError: replicas die again and again.
    """
    setup_logging("learners")
    budget = RestartBudget(_MAX_RESTARTS, _WINDOW_S)
    with tempfile.TemporaryDirectory(prefix="seedbed-") as folder:
        attempt = 0
        while True:
            codes = _attempt(verb, argv, num_learners, Path(folder) / f"store-{attempt}", stop, goes_on)
            failed = [code for code in codes if code]
            permanent = [code for code in failed if _is_permanent(code)]
            if not permanent and codes[0] == 0 and goes_on():  # the others came to the end of the run
                return 0
            if not failed or permanent:
                return permanent[0] if permanent else 0
            if stop.name is not None:  # one that had not begun ends by the signal, and the others miss it
                return 0 if all(code == _RETRY or -code in STOP_SIGNALS for code in failed) else _RETRY
            restarts = budget.spend(time.monotonic())
            if restarts is None:
                raise BrokenError(
                    f"learners ended {_MAX_RESTARTS} times within {_WINDOW_S / 60:g} minutes; see their messages above"
                )
            wait_s = 0.0 if restarts == 1 else 2.0 ** min(restarts - 2, 6)
            logger.warning("exit codes of the learners: %s; starting all again in %g s", _told(codes), wait_s)
            attempt += 1
            _sleep(wait_s, stop)


def gossips(directory: RunDirectory) -> bool:
    """Whether the learners of the run in a directory go on without one that has died."""
    try:
        run = directory.read()
    except ConfigError:
        return False
    replicas = {} if run is None else run.config.get("replicas", {})
    return bool(replicas.get("exchange") == "gossip")


def _attempt(
    verb: str,
    argv: Sequence[str],
    num_learners: int,
    store: Path,
    stop: StopSignal,
    goes_on: Callable[[], bool],
) -> list[int]:
    """One start of all of them. Returns their exit codes, by rank."""
    with _started(verb, argv, num_learners, store) as replicas:
        told, failed_s = False, None
        missed: set[int] = set()
        while any(replica.poll() is None for replica in replicas):
            time.sleep(_POLL_S)
            failed = {rank: code for rank, replica in enumerate(replicas) if (code := replica.poll())}
            ends = stop.name is not None or (any(map(_is_permanent, failed.values())) and goes_on())
            if ends and not told:
                told = True
                for replica in replicas:
                    replica.send_signal(patient_signal())
            for rank, code in failed.items():
                if rank not in missed and rank and not told and goes_on():
                    missed.add(rank)
                    logger.warning(
                        "learner %d ended with %d: the others go on; the next start has it again", rank, code
                    )
            is_left = len(missed) == num_learners - 1 and _stands_still(replicas[0].pid)  # the others gave it up
            if failed_s is None and (failed.keys() - missed or is_left):
                failed_s = time.monotonic()
            if failed_s is not None and time.monotonic() - failed_s > _LEAVE_S:
                logger.error("a learner does not leave though another has, killing it")
                break
    return [replica.wait() for replica in replicas]


@contextlib.contextmanager
def _started(verb: str, argv: Sequence[str], world: int, store: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """All of them; none is left behind the block."""
    replicas: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(world):
            replicas.append(_start(verb, argv, rank, world, store))
        yield replicas
    finally:
        for replica in replicas:
            if replica.poll() is None:
                replica.kill()
            if replica.stdin is not None:
                replica.stdin.close()


def _start(verb: str, argv: Sequence[str], rank: int, world: int, store: Path) -> subprocess.Popen[bytes]:
    """In a session of its own: Ctrl-C reaches this process, which tells all of them once. When it is gone, their
    standard input ends.
    """
    variables = {"RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": world}
    reports, descriptors = passed_on() if rank == 0 else ({}, ())
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "seedbed.server", verb, *argv],
        stdin=subprocess.PIPE,
        env={**os.environ, **{name: str(value) for name, value in variables.items()}, STORE_VARIABLE: str(store)}
        | reports,
        pass_fds=descriptors,
        start_new_session=True,
    )


def _stands_still(pid: int) -> bool:
    """Whether somebody has stopped a process, by SIGSTOP or a debugger."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    except (OSError, IndexError):
        return False


def _is_permanent(code: int) -> bool:
    """Whether another start would not mend it."""
    return code > 0 and code != _RETRY


def _told(codes: Sequence[int]) -> str:
    return ", ".join(f"{rank}: {code}" for rank, code in enumerate(codes))


def _sleep(seconds: float, stop: StopSignal) -> None:
    deadline_s = time.monotonic() + seconds
    while time.monotonic() < deadline_s and stop.name is None:
        time.sleep(_POLL_S)
