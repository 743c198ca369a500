"""All-reduce: several learners are one with all their batches, equal to the last bit, and end together."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from seedbed.common.errors import DivergedError, PeerLostError
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.source import Empty
from seedbed.server.learning.exchange.all_reduce import AllReduce
from seedbed.server.learning.exchange.link import Link
from seedbed.server.learning.exchange.meeting import (
    Event,
    Report,
    Silence,
    Standing,
    Stop,
    Told,
    from_row,
    to_row,
)
from seedbed.server.learning.exchange.whole import whole_update
from seedbed.server.learning.learner import Learner
from seedbed.server.networks.moments import COUNT
from tests.reference.replicas import together, well
from tests.reference.unequal import a_batch, algorithm_of, make, numbers, part, same, state_of

MEAN: Mapping[str, Any] = {"algorithm_options.popart": "off"}
SUM: Mapping[str, Any] = {**MEAN, "algorithm_options.reduction": "sum"}
ONE_MINIBATCH: Mapping[str, Any] = {"algorithm_options.epochs": 3, "algorithm_options.minibatches": 1}
SHARES = ([0, 1, 2], [3, 4, 5, 6, 7])
Empties = TrainBatch | Empty


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def far(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """The largest difference."""
    return max(float((x.double() - y.double()).abs().max()) for x, y in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("vtrace", MEAN),
        ("vtrace", SUM),
        ("vtrace", {"algorithm_options.popart": "on"}),
        ("a2c", MEAN),
        ("ppo", {**MEAN, **ONE_MINIBATCH}),
        ("ppo", {"algorithm_options.popart": "on", **ONE_MINIBATCH}),
        ("r2d2", {"algorithm_options.burn_in": 0, "algorithm_options.period": 3}),
    ],
    ids=["vtrace", "sum", "popart", "a2c", "ppo", "ppo-popart", "r2d2"],
)
def test_learners_are_one_with_all_their_batches(name: str, changes: Mapping[str, Any]) -> None:
    """Their weights differ, so the plain mean of their gradients is another one, and so do moments within a loss: the
    spread of value targets, and the mean and deviation that PPO normalises advantages by. The third has no rows.
    """
    whole = make(name, changes)
    batches = []
    for seed in range(3):
        batches.append(a_batch(whole, 8, seed))
        whole.update(batches[-1], 0.1)

    def learn(link: Link) -> list[Tensor]:
        learner = make(name, changes, AllReduce(link, 10.0))
        link.wait_for_all()  # the threads share one generator: PPO would draw while another's weights are drawn
        for batch in batches:
            if link.rank == 2:
                learner.update_without_batch(0.1)
            else:
                learner.update(part(batch, SHARES[link.rank]), 0.1)
        assert learner.num_updates == 3
        return numbers(learner.get_state())

    ours, theirs, idle = well(together(3, learn))
    assert same(ours, theirs)
    assert same(ours, idle)
    assert far(ours, numbers(whole.get_state())) < 1e-6


def test_statistics_are_of_all_rows() -> None:
    changes = {"network.normalise_observations": "on", "algorithm_options.popart": "on"}
    whole = make("vtrace", changes)
    batch = a_batch(whole, 8)
    observed = algorithm_of(whole).observed(whole.learnt, batch)
    whole.update(batch, 0.0)

    def learn(link: Link) -> tuple[list[Tensor], dict[str, Any]]:
        learner = make("vtrace", changes, AllReduce(link, 10.0))
        if link.rank == 2:
            learner.update_without_batch(0.0)
        else:
            learner.update(part(batch, SHARES[link.rank]), 0.0)
        return numbers(learner.get_state()), state_of(learner)["learnt"]

    (ours, state), (theirs, _), (idle, _) = well(together(3, learn))
    assert same(ours, theirs)
    assert same(ours, idle)
    expected = whole.learnt.state_dict()
    names = [name for name, tensor in expected.items() if tensor.dtype == torch.float64]
    assert float(observed[COUNT]) == int(batch.valid.sum()), "what is compared is not nothing"
    for name in names:
        torch.testing.assert_close(state[name], expected[name], rtol=1e-6, atol=1e-9)


def starving(learner: Learner, seed: int, poison: bool) -> Any:
    """A source that has a batch now and then; some are poisoned."""
    chance = random.Random(seed)

    def get(timeout_s: float) -> TrainBatch | Empty:
        if chance.random() < 0.3:
            time.sleep(min(timeout_s, 0.02))
            return Empty.NOT_YET
        batch = a_batch(learner, 6, chance.randrange(1000))
        if poison and chance.random() < 0.3:
            reward = torch.full_like(batch.fields["reward"], torch.nan)
            batch = replace(batch, fields={**batch.fields, "reward": reward})
        return batch

    return get


@pytest.mark.parametrize("name", ["vtrace", "ppo"])
def test_parameters_are_equal_after_many_updates(name: str) -> None:
    """Some starve, some are poisoned, and weights are never the same."""
    changes: dict[str, Any] = {"network.normalise_observations": "on", "algorithm_options.popart": "on"}
    if name == "ppo":
        changes |= {"algorithm_options.epochs": 2, "algorithm_options.minibatches": 4}

    def learn(link: Link) -> tuple[list[Tensor], int, int, int]:
        exchange = AllReduce(link, 0.05)
        learner = make(name, changes, exchange)
        link.wait_for_all()  # as above
        get, rejected = starving(learner, link.rank, poison=link.rank == 1), 0
        for _ in range(30):
            batch = exchange.turn(get)
            if isinstance(batch, Empty):
                learner.update_without_batch(0.0)
            else:
                rejected += int(learner.update(batch, 0.0).metrics["replica_rejected"] > 0)
        return numbers(learner.get_state()), learner.num_updates, exchange.batches, rejected

    results = well(together(3, learn))
    assert all(same(results[0][0], one[0]) for one in results)
    assert all(tensor.isfinite().all() for tensor in results[0][0])
    assert [one[1] for one in results] == [30, 30, 30]
    assert all(0 < one[2] <= 30 for one in results)
    assert results[0][3] > 0, "a poisoned gradient was seen by the others"


def test_where_all_gradients_are_poisoned_the_update_counts_as_lost() -> None:
    def learn(link: Link) -> tuple[float, list[Tensor], list[Tensor]]:
        learner = make("vtrace", MEAN, AllReduce(link, 10.0))
        before = numbers(learner.learnt.state_dict())
        batch = a_batch(learner, 4)
        reward = torch.full_like(batch.fields["reward"], torch.nan)
        update = learner.update(replace(batch, fields={**batch.fields, "reward": reward}), 0.0)
        return float(update.metrics["gradient_norm"]), before, numbers(learner.learnt.state_dict())

    for norm, before, after in well(together(2, learn)):
        assert norm != norm
        assert same(before, after)


def test_a_healthy_learner_is_waited_for() -> None:
    """One needs longer for its batches than the other: it is in every update all the same."""

    def learn(link: Link) -> int:
        exchange = AllReduce(link, 2.0)
        learner = make("vtrace", MEAN, exchange)

        def get(timeout_s: float) -> TrainBatch | Empty:
            if link.rank == 1:
                time.sleep(min(timeout_s, 0.05))
                if timeout_s < 0.05:
                    return Empty.NOT_YET
            return a_batch(learner, 4)

        for _ in range(10):
            batch = exchange.turn(get)
            if isinstance(batch, Empty):
                learner.update_without_batch(0.0)
            else:
                learner.update(batch, 0.0)
        return exchange.batches

    assert well(together(2, learn)) == [10, 10]


def test_a_learner_without_clients_stops_nobody_and_comes_back() -> None:
    has_clients = threading.Event()

    def learn(link: Link) -> tuple[int, list[Tensor]]:
        exchange = AllReduce(link, 0.2)
        learner = make("vtrace", MEAN, exchange)

        def get(timeout_s: float) -> TrainBatch | Empty:
            if link.rank == 0 or has_clients.wait(timeout_s):
                return a_batch(learner, 4)
            return Empty.NOT_YET

        for number in range(12):
            if number == 6:
                has_clients.set()
            batch = exchange.turn(get)
            if isinstance(batch, Empty):
                learner.update_without_batch(0.0)
            else:
                learner.update(batch, 0.0)
        return exchange.batches, numbers(learner.get_state())

    (first, ours), (second, theirs) = well(together(2, learn))
    assert first == 12
    assert 5 <= second <= 7
    assert same(ours, theirs)


def test_where_patience_stands_still_everybody_waits() -> None:
    """A round that has begun is waited for, however long it takes."""

    def learn(link: Link) -> int:
        exchange = AllReduce(link, 0.1)
        learner = make("vtrace", MEAN, exchange)
        exchange.waits = lambda: True
        begun_s = time.monotonic()

        def get(timeout_s: float) -> TrainBatch | Empty:
            if link.rank == 1 and time.monotonic() - begun_s < 0.7:
                time.sleep(min(timeout_s, 0.1))
                return Empty.NOT_YET
            return a_batch(learner, 4)

        assert not isinstance(exchange.turn(get), Empty)
        return exchange.batches

    assert well(together(2, learn)) == [1, 1]


def test_nobody_has_a_batch() -> None:
    """No update, and hardly a meeting."""
    meetings = []

    class Counting(Silence):
        def tell(self, room: int) -> Told:
            meetings.append(1)
            return Told(Report(stop=Stop.ASKED if time.monotonic() > end_s else Stop.NONE), ())

    end_s = time.monotonic() + 1.5

    def learn(link: Link) -> Empties:
        exchange = AllReduce(link, 0.1)
        exchange.meetings.floor = Counting()

        def get(timeout_s: float) -> TrainBatch | Empty:
            time.sleep(timeout_s)
            return Empty.NOT_YET

        return exchange.turn(get)

    results: list[Empties | BaseException] = together(2, learn)
    assert results == [Empty.CLOSED, Empty.CLOSED]
    assert len(meetings) < 2 * 8


@pytest.mark.parametrize("who", [0, 1])
def test_all_end_after_the_same_update(who: int) -> None:
    class Stopping(Silence):
        def __init__(self, learner: Learner, link: Link) -> None:
            self.learner, self.rank = learner, link.rank

        def tell(self, room: int) -> Told:
            stops = self.rank == who and self.learner.num_updates >= 4
            return Told(Report(stop=Stop.ASKED if stops else Stop.NONE), ())

    def learn(link: Link) -> tuple[int, int]:
        exchange = AllReduce(link, 10.0)
        learner = make("vtrace", MEAN, exchange)
        exchange.meetings.floor = Stopping(learner, link)
        while isinstance(batch := exchange.turn(lambda _: a_batch(learner, 4)), TrainBatch):
            learner.update(batch, 0.0)
        return learner.num_updates, exchange.unused

    assert well(together(2, learn)) == [(4, 4 * 6), (4, 4 * 6)]


def test_a_learner_that_dies_in_an_update_costs_nothing_of_the_one_before() -> None:
    """PPO makes eight steps of it; one learner goes after the third."""
    changes = {"algorithm_options.epochs": 2, "algorithm_options.minibatches": 4, "algorithm_options.popart": "on"}

    def learn(link: Link) -> tuple[list[Tensor], list[Tensor]]:
        exchange = AllReduce(link, 10.0)
        learner = make("ppo", changes, exchange)
        learner.update(a_batch(learner, 8), 0.0)
        before = numbers(learner.get_state())
        steps, share = [0], exchange.gradients

        def mortal(*args: Any, **kwargs: Any) -> Any:
            steps[0] += 1
            if link.rank == 1 and steps[0] == 4:
                raise SystemExit
            return share(*args, **kwargs)

        exchange.gradients = mortal  # type: ignore[method-assign]
        with pytest.raises(PeerLostError, match="one of them is gone"), whole_update(learner, 2):
            learner.update(a_batch(learner, 8), 0.0)
        assert steps[0] == 4
        return before, numbers(learner.get_state())

    survivor, dead = together(2, learn, timeout_s=2.0)
    assert isinstance(dead, SystemExit)
    assert isinstance(survivor, tuple)
    assert same(*survivor)


def test_rounds_of_unequal_size_make_as_many_steps() -> None:
    """Three unrolls in four minibatches, and five."""
    changes = {"algorithm_options.epochs": 4, "algorithm_options.minibatches": 4}

    def learn(link: Link) -> int:
        learner = make("ppo", changes, AllReduce(link, 10.0))
        learner.update(a_batch(learner, 3 + 2 * link.rank), 0.0)
        return learner.optimiser_steps

    assert well(together(2, learn)) == [16, 16]


def test_a_step_that_nobody_has_rows_for_is_not_made() -> None:
    """As in a learner that is alone."""

    def learn(link: Link) -> int:
        learner = make("ppo", {"algorithm_options.epochs": 1, "algorithm_options.minibatches": 4}, AllReduce(link, 9.0))
        learner.update(a_batch(learner, 3), 0.0)
        return learner.optimiser_steps

    assert well(together(2, learn)) == [3, 3]


def test_unequal_parameters_end_the_run() -> None:
    def learn(link: Link) -> None:
        exchange = AllReduce(link, 10.0)
        exchange.meetings.checksum = lambda: (1000, 17 + link.rank)
        exchange.turn(lambda _: Empty.NOT_YET)

    for error in together(2, learn):
        assert isinstance(error, DivergedError)
        assert "11 after 1000 updates, 12 after 1000 updates" in str(error)


def test_what_is_told_is_heard() -> None:
    told = Told(Report(agent_steps=2.0**40 + 1, stop=Stop.REACHED), [Event(3, 2**20 + 5, -1.25, 10, 40)] * 3)
    assert from_row(to_row(told, 5)) == told


def test_events_wait_for_room() -> None:
    """Each is heard once, in order, and room grows with what waits."""

    class Busy(Silence):
        def __init__(self) -> None:
            self.waiting = [Event(3, index) for index in range(500)]
            self.heard: list[float] = []
            self.meetings = 0

        def tell(self, room: int) -> Told:
            told, self.waiting = self.waiting[:room], self.waiting[room:]
            stop = Stop.NONE if self.meetings < 4 else Stop.ASKED
            return Told(Report(stop=stop, pending=len(self.waiting)), told)

        def hear(self, told: Any) -> None:
            self.meetings += 1
            self.heard += [event.environment for one in told for event in one.events]

    def learn(link: Link) -> tuple[list[float], int]:
        exchange = AllReduce(link, 0.01)
        exchange.meetings.floor = floor = Busy()
        exchange.turn(lambda _: Empty.NOT_YET)
        return floor.heard, floor.meetings

    for heard, _ in well(together(2, learn)):
        assert sorted(heard) == sorted([*range(500)] * 2)


def test_a_learner_that_has_been_away_is_waited_for_longer_the_next_time() -> None:
    """Three times its longest absence, which all of them know; before the first meeting nothing counts."""

    def learn(link: Link) -> list[float]:
        exchange = AllReduce(link, 10.0)
        time.sleep(0.3)
        for seconds in (0.4, 0.9):
            exchange.meetings.meet(Standing.BATCH, 0)
            if link.rank == 1:
                time.sleep(seconds)
            link.sum(torch.zeros(3))
        reports = exchange.meetings.meet(Standing.BATCH, 0)
        return [one.away_s for one in reports]

    for first, second in well(together(2, learn, timeout_s=0.7)):
        assert first < 0.2
        assert second >= 0.9
