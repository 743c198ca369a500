"""The learner thread: order of its turn, its counts, and looks at it from other threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seedbed.server.experience.source import Empty
from seedbed.server.learning.exchange.alone import Alone
from seedbed.server.learning.learner import Update
from seedbed.server.learning.loop import LearnerLoop
from seedbed.server.shared.vitals import VitalsTable
from tests.reference.clock import StoppedClock


class CountingLearner:
    """Its weights and its optimiser's state are the number of updates; an update takes two steps, so it can tear."""

    def __init__(self, tape: list[Any]) -> None:
        self.network = nn.Linear(50, 50).requires_grad_(False)
        self.num_updates = 0
        self.moment = torch.zeros(50)
        self.tape = tape
        self.prioritises = False
        self.exchange = Alone()
        self._fill()

    def _fill(self) -> None:
        for tensor in (*self.network.parameters(), self.moment):
            tensor.fill_(float(self.num_updates))

    def update(self, batch: Any, progress: float) -> Update:
        self.tape.append(("update", batch.name, progress))
        self.num_updates += 1
        self._fill()
        metrics = {
            "loss": torch.tensor(float(self.num_updates)),
            "lag_max": torch.tensor(self.num_updates),
            "gradient_norm": torch.tensor(float("nan") if batch.name == "!" else 1.0),
        }
        return Update(metrics, torch.tensor([1.0, 2.0]) if self.prioritises else None)

    def gather(self) -> None:
        """Nothing is kept elsewhere."""

    def get_state(self) -> dict[str, Any]:
        return {
            "learnt": self.network.state_dict(),
            "optimisers": {"all": {"state": [{"moment": self.moment}]}},
            "num_updates": self.num_updates,
        }


class TapeParameters:
    """Writes down what was published: the version and the number its weights hold."""

    def __init__(self, tape: list[Any]) -> None:
        self.tape = tape

    def publish(self, source: nn.Module, version: int) -> None:
        self.tape.append(("publish", version, float(next(source.parameters())[0, 0])))


class Batches:
    """A source that gives named batches of two unrolls, with six transitions to train on, five of them valid."""

    def __init__(self, names: Iterator[str], tape: list[Any]) -> None:
        self.names = names
        self.tape = tape

    def get(self, size: int, timeout_s: float) -> Any:
        """A space among the names is no batch, yet."""
        name = next(self.names, None)
        self.tape.append(("get", size))
        if name in (None, " "):
            return Empty.CLOSED if name is None else Empty.NOT_YET
        return SimpleNamespace(name=name, num_transitions=6, num_valid=torch.tensor(5))

    def update_priorities(self, batch: Any, priorities: Tensor) -> None:
        self.tape.append(("priorities", batch.name, priorities.tolist()))


def make_loop(
    names: Iterator[str], tape: list[Any], publish_every: int = 1, clock: StoppedClock | None = None
) -> LearnerLoop:
    return LearnerLoop(
        CountingLearner(tape),  # type: ignore[arg-type]
        Batches(names, tape),  # type: ignore[arg-type]
        TapeParameters(tape),  # type: ignore[arg-type]
        2,
        clock or StoppedClock(0.25),
        VitalsTable(0).device,
        publish_every,
    )


def test_one_turn_takes_updates_and_publishes() -> None:
    tape: list[Any] = []
    make_loop(iter("ab"), tape).run()
    assert tape == [
        ("get", 2),
        ("update", "a", 0.25),
        ("publish", 1, 1.0),
        ("get", 2),
        ("update", "b", 0.25),
        ("publish", 2, 2.0),
        ("get", 2),
    ]


def test_parameters_may_be_published_late() -> None:
    tape: list[Any] = []
    make_loop(iter("abcdefg"), tape, publish_every=3).run()
    assert [event for event in tape if event[0] == "publish"] == [("publish", 3, 3.0), ("publish", 6, 6.0)]


def test_priorities_go_back_to_the_source_after_publishing() -> None:
    tape: list[Any] = []
    loop = make_loop(iter("a"), tape)
    loop.learner.prioritises = True  # type: ignore[attr-defined]
    loop.run()
    assert tape[2:4] == [("publish", 1, 1.0), ("priorities", "a", [1.0, 2.0])]


def test_transitions_are_counted_with_and_without_the_masked_ones() -> None:
    clock = StoppedClock()
    loop = make_loop(iter("abc"), [], clock=clock)
    loop.run()
    assert clock.consumed == 3 * 6
    loop.take_metrics()
    assert loop.trained == 3 * 5


def test_a_batch_that_is_late_is_asked_for_again() -> None:
    tape: list[Any] = []
    clock = StoppedClock()
    loop = make_loop(iter(" a  "), tape, clock=clock)
    loop.run()
    assert [event[0] for event in tape] == ["get", "get", "update", "publish", "get", "get", "get"]
    assert clock.consumed == 6


def test_metrics_are_means_or_maxima_since_the_last_look() -> None:
    loop = make_loop(iter("abcd"), [])
    assert loop.take_metrics() == {}
    loop.run()
    assert loop.take_metrics() == {"loss": 2.5, "lag_max": 4.0, "gradient_norm": 1.0}
    assert loop.take_metrics() == {}


@pytest.mark.parametrize(("batches", "streak", "lost"), [("ab", 0, 0), ("a!!b", 0, 2), ("!ab!!", 2, 3), ("!!!", 3, 3)])
def test_updates_without_a_finite_gradient_are_counted_in_a_row(batches: str, streak: int, lost: int) -> None:
    loop = make_loop(iter(batches), [])
    loop.run()
    loop.take_metrics()
    assert loop.lost_streak == streak
    assert loop._vitals["lost_updates"] == lost


def test_a_batch_in_hand_shows_in_the_vitals() -> None:
    """Set while there is one, zero while the learner waits: that is what tells a stuck learner from an idle one."""
    seen: list[float] = []
    loop = make_loop(iter("a"), [])
    update = loop.learner.update

    def watched_update(batch: Any, progress: float) -> Update:
        seen.append(loop._vitals["taken_s"])
        return update(batch, progress)

    loop.learner.update = watched_update  # type: ignore[method-assign]
    loop.run()
    assert seen[0] > 0
    assert loop._vitals["taken_s"] == 0
    assert loop._vitals["update_s"] >= seen[0]


def test_a_snapshot_is_a_copy() -> None:
    loop = make_loop(iter("ab"), [])
    before = loop.snapshot()
    loop.run()
    assert before["num_updates"] == 0
    assert not before["learnt"]["weight"].any()
    assert not before["optimisers"]["all"]["state"][0]["moment"].any()
    assert loop.snapshot()["learnt"]["weight"][0, 0] == 2.0


def test_a_snapshot_is_taken_between_two_updates_never_within_one() -> None:
    stop = threading.Event()
    loop = make_loop(iter(lambda: None if stop.is_set() else "x", None), [])
    thread = threading.Thread(target=loop.run)
    thread.start()
    seen: set[int] = set()
    try:
        while len(seen) < 20:
            state = loop.snapshot()
            version = state["num_updates"]
            numbers = {float(x) for x in state["learnt"]["weight"].unique()}
            numbers |= {float(x) for x in state["optimisers"]["all"]["state"][0]["moment"].unique()}
            assert numbers == {float(version)}
            seen.add(version)
    finally:
        stop.set()
        thread.join(10)


def test_what_the_learner_raises_is_not_swallowed() -> None:
    loop = make_loop(iter("a"), [])

    def fail(batch: Any, progress: float) -> Update:
        raise FloatingPointError("loss is not finite")

    loop.learner.update = fail  # type: ignore[method-assign]
    with pytest.raises(FloatingPointError, match="not finite"):
        loop.run()
    assert loop.snapshot()["num_updates"] == 0, "and the lock is free again"
    assert loop._vitals["taken_s"] == 0, "and the watchdog takes it for no stuck learner"
