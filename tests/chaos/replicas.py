"""`python -m tests.chaos.replicas`: a run of several learners, one fault after another, and what must hold after each.

    python -m tests.chaos.replicas --seconds 600 --seed 7 --learners 3

A learner is killed, the first or another, or stands still; its clients do; a client or a frontend is killed; the whole
run is stopped, and goes on with another number of learners. After each fault all learners must train again. Updates
are lost only with the first learner, back to the last checkpoint, and a fault that nobody dies of restarts nobody. The
same seed gives the same schedule; what it meets is as random as the machine.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil

from seedbed.server.run.checkpoint import load_newest
from tests.chaos.arena import ChaosError
from tests.system.processes import Program, read_metrics
from tests.system.replica_runs import LONG, clients_of, newest, replicas, state_of, trains

PATIENCE_S = 2.0
_CHECKPOINT_S = 3.0
_OPTIONS = ("--checkpoint-interval-s", _CHECKPOINT_S, "--replica-patience-s", PATIENCE_S)
_MORE_UPDATES = 5


class Kind(StrEnum):
    """What is done to it."""

    KILL_FIRST = "kill -9 the first learner"
    KILL_OTHER = "kill -9 another learner"
    FREEZE = "stop a learner for a while"
    STARVE = "stop all clients of a learner past its patience"
    KILL_CLIENT = "kill -9 a client"
    KILL_FRONTEND = "kill -9 a frontend"
    RESIZE = "SIGTERM, and another number of learners"


DEADLY = frozenset({Kind.KILL_FIRST, Kind.KILL_OTHER})
"""All are started again after these alone."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One entry of the schedule.

    Attributes:
        victim: 0 to 1, which of those that it can hit.
        seconds: until it is healed, where there is something to heal.
    """

    kind: Kind
    victim: float
    seconds: float


def make_schedule(seed: int) -> Iterator[Fault]:
    """Faults without end: in rounds, each of which holds every kind once, shuffled."""
    generator = random.Random(seed)
    while True:
        kinds = list(Kind)
        generator.shuffle(kinds)
        for kind in kinds:
            longest_s = 5.0 if kind is Kind.FREEZE else 2 * PATIENCE_S
            yield Fault(kind, generator.random(), generator.uniform(longest_s / 2, longest_s))


def violations_of(
    kind: Kind, before: int, saved: int, resumed: int, restarts: int, *, learners_began: bool = True
) -> list[str]:
    """What does not hold after a fault.

    Args:
        kind: of fault.
        before: updates that metrics told of when it happened.
        saved: updates in the newest checkpoint then.
        resumed: updates in the newest checkpoint or metrics once all train again, no later than that.
        restarts: starts of all learners meanwhile.
        learners_began: all of them had made updates by then.
    """
    found = []
    if kind not in DEADLY and restarts:
        found.append(f"{kind}: all learners were started again")
    if kind in DEADLY and learners_began and not restarts:
        found.append(f"{kind}: nobody noticed")
    least = saved if kind is Kind.KILL_FIRST else before
    if resumed < least:
        found.append(f"{kind}: expected no fewer than {least} updates afterwards, got {resumed}")
    return found


class Field:
    """The run under test."""

    def __init__(self, run_dir: Path, learners: int, stack: ExitStack) -> None:
        self.run_dir = run_dir
        self.learners = learners
        self._stack = stack
        self._program = self._start()

    def _start(self) -> Program:
        program = Program(*LONG, "--learners", self.learners, "--run-dir", self.run_dir, *_OPTIONS)
        self._stack.enter_context(program)
        trains(program, self.run_dir, newest(self.run_dir).get("updates", 0) + _MORE_UPDATES, self.learners)
        return program

    def suffer(self, fault: Fault) -> list[str]:
        """One fault, until all train again. Returns what was violated.

        Raises:
            ChaosError: they do not train again, or something failed that nobody touched.
        """
        saved = state_of(self.run_dir).updates if load_newest(self.run_dir / "checkpoints") else 0
        before, restarts = newest(self.run_dir)["updates"], self._restarts
        lines = len(read_metrics(self.run_dir))
        self._act(fault)
        if fault.kind in DEADLY:  # until then metrics tell of those before
            self._program.eventually(lambda: self._restarts > restarts, "another start of all")
            served = (self._restarts + 1) * self.learners
            self._program.eventually(lambda: self._program.stderr.count("serving on") >= served, "servers that serve")
            lines = len(read_metrics(self.run_dir))
        self._program.eventually(lambda: len(read_metrics(self.run_dir)) > lines, "a line of metrics")
        resumed = read_metrics(self.run_dir)[lines]["updates"]
        began = 0 if fault.kind is Kind.RESIZE else restarts
        trains(self._program, self.run_dir, resumed + _MORE_UPDATES, self.learners)
        return violations_of(fault.kind, before, saved, resumed, self._restarts - began)

    def end(self) -> list[str]:
        """Stops it in order. Returns what was violated."""
        self._program.send(signal.SIGTERM)
        code, found = self._program.wait(), []
        self._program.assert_alone()
        if code:
            found.append(f"expected exit code 0 after SIGTERM, got {code}")
        if "Traceback" in self._program.stderr:
            found.append("a traceback")
        state = state_of(self.run_dir)
        for rank in range(1, self.learners):
            told = newest(self.run_dir / "replicas" / str(rank)).get("updates", 0)
            if told > state.updates:
                found.append(f"learner {rank} told of {told} updates, the last checkpoint has {state.updates}")
        return found

    @property
    def _restarts(self) -> int:
        return self._program.stderr.count("starting all again")

    def _act(self, fault: Fault) -> None:
        found = replicas(self._program)
        if len(found) < self.learners:
            raise ChaosError(f"expected {self.learners} learners, got {sorted(found)}")
        rank = int(fault.victim * self.learners)
        clients = clients_of(found[rank])
        actions: dict[Kind, Callable[[], None]] = {
            Kind.KILL_FIRST: found[0].kill,
            Kind.KILL_OTHER: found[1 + int(fault.victim * (self.learners - 1))].kill,
            Kind.FREEZE: lambda: _stop([found[rank]], fault.seconds),
            Kind.STARVE: lambda: _stop(clients, fault.seconds),
            Kind.KILL_CLIENT: clients[0].kill,
            Kind.KILL_FRONTEND: self._program.frontends()[rank].kill,
            Kind.RESIZE: self._resize,
        }
        actions[fault.kind]()

    def _resize(self) -> None:
        if found := self.end():
            raise ChaosError("; ".join(found))
        self.learners = 2 if self.learners > 2 else 3
        self._program = self._start()


def _stop(processes: Sequence[psutil.Process], seconds: float) -> None:
    for process in processes:
        process.suspend()
    time.sleep(seconds)
    for process in processes:
        process.resume()


def run(run_dir: Path, learners: int, faults: Iterator[Fault], until_s: float, at_least: int) -> int:
    """Faults until a monotonic time, but so many at least. Returns the number of violations, and prints all."""
    done: Counter[str] = Counter()
    violations: list[str] = []
    with ExitStack() as stack:
        field = Field(run_dir, learners, stack)
        while time.monotonic() < until_s or done.total() < at_least:
            fault, began_s = next(faults), time.monotonic()
            violations += field.suffer(fault)
            done[fault.kind] += 1
            print(
                f"{fault.kind}: all {field.learners} train again {time.monotonic() - began_s:.1f} s after", flush=True
            )
        violations += field.end()
    print("\n".join(f"{number:5}  {kind}" for kind, number in sorted(done.items())))
    print("\n".join([f"{done.total()} faults, {len(violations)} violations", *violations]))
    return len(violations)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs. Returns 0 if nothing was violated, otherwise 1."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.replicas",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=600.0, help="of the whole run (default: 600)")
    parser.add_argument("--seed", type=int, help="of the schedule (default: a random one, printed)")
    parser.add_argument("--learners", type=int, default=2, help="at the start (default: 2)")
    parser.add_argument("--at-least", type=int, default=1, metavar="N", help="faults, however long they take")
    given = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # leaves no process behind either
    seed = random.randrange(2**31) if given.seed is None else given.seed
    print(f"chaos of {given.learners} learners: seed {seed}, {given.seconds:g} s", flush=True)
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        until_s = time.monotonic() + given.seconds
        return 1 if run(Path(folder) / "run", given.learners, make_schedule(seed), until_s, given.at_least) else 0


if __name__ == "__main__":
    sys.exit(main())
