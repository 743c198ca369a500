"""Gossip: what the mean keeps, how fast learners come together, and that nobody waits for the slowest."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seedbed.common.errors import BrokenError, PeerLostError, UsageError
from seedbed.common.options import override
from seedbed.server.algorithms.batch_reading import batch_inputs
from seedbed.server.algorithms.interface import moments_within
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.source import Empty
from seedbed.server.learning.exchange.gossip import Gossip
from seedbed.server.learning.exchange.link import Link
from seedbed.server.learning.exchange.meeting import Report, Silence, Stop, Told
from seedbed.server.learning.exchange.mixture import Mixture
from seedbed.server.learning.exchange.ring import Ring
from seedbed.server.learning.exchange.survivors import Survivors
from seedbed.server.learning.learner import Learner
from seedbed.server.networks.value_head import ValueHead
from seedbed.server.training.place import Place
from seedbed.server.training.replica import check_exchange
from seedbed.server.training.resolve import defaults_of
from tests.reference.replicas import together, well
from tests.reference.unequal import a_batch, make, numbers, same

SCALED = {"network.normalise_observations": "on", "algorithm_options.popart": "on"}
PLAIN = {"network.normalise_observations": "off", "algorithm_options.popart": "off"}


def flat(parameters: list[nn.Parameter]) -> Mixture:
    return Mixture(parameters, [], None)


def test_a_ring_of_four_halves() -> None:
    """Golden: [4, 0, 0, 0] becomes [2, 0, 0, 2] or its mirror image, and the mean stays; in step it is exact."""
    values = [nn.Parameter(torch.tensor([value])) for value in (4.0, 0.0, 0.0, 0.0)]
    rows = []
    for _ in range(3):
        messages = [flat([value]).message() for value in values]
        for number, value in enumerate(values):
            flat([value]).mix(messages[number - 1], nn.Module())
        rows.append([float(value.detach()) for value in values])
    assert rows == [[2, 2, 0, 0], [1, 2, 1, 0], [0.5, 1.5, 1.5, 0.5]]


def test_policies_stay_within_the_bound_of_their_steps() -> None:
    """GALA's proposition: what parts learners from their mean is at most sqrt(n) L b / (1 - b), b = cos(pi / n)."""
    size, bound = 0.01, 0.04828  # of four learners
    generator = torch.Generator().manual_seed(3)
    for kind in ("random", "apart"):
        values, worst = [nn.Parameter(torch.zeros(8)) for _ in range(4)], 0.0
        for _ in range(200):
            for number, value in enumerate(values):
                step = torch.randn(8, generator=generator)
                if kind == "apart":  # the pattern that a ring forgets last
                    step = torch.zeros(8)
                    step[0], step[1] = math.cos(math.pi * number / 2), math.sin(math.pi * number / 2)
                value.data += size * step / step.norm()
            messages = [flat([value]).message() for value in values]
            for number, value in enumerate(values):
                flat([value]).mix(messages[number - 1], nn.Module())
            after = torch.stack([value.detach() for value in values])
            worst = max(worst, float((after - after.mean(0)).norm()))
        assert worst <= bound
        assert worst > size / 2, "what is compared is not nothing"


def test_scaled_heads_are_mixed_as_functions() -> None:
    """What the mean of two value heads says is the mean of what they say, whatever their moments are."""
    ours, theirs = make("vtrace", SCALED), make("vtrace", SCALED)
    for seed in range(3):
        theirs.update(a_batch(theirs, 6, seed), 0.0)
        scaled = a_batch(ours, 6, seed + 10)
        scaled.fields["reward"].mul_(50.0)
        ours.update(scaled, 0.0)
    head, other = ours.network.value, theirs.network.value
    assert isinstance(head, ValueHead)
    assert isinstance(other, ValueHead)
    assert abs(float(head.spread) - float(other.spread)) > 1, "moments differ"
    features = torch.randn(5, head.in_features)
    with torch.no_grad():
        expected = (head(features) + other(features)) / 2
        spread = head.spread.clone()
        ours.mixture.mix(theirs.mixture.message(), ours.learnt)
        torch.testing.assert_close(head(features), expected, rtol=1e-4, atol=1e-4)
        assert torch.equal(head.spread, spread), "its own moments stay"


def test_moments_of_observations_become_those_of_both() -> None:
    ours, theirs = make("vtrace", SCALED), make("vtrace", SCALED)
    for seed in range(2):
        ours.update(a_batch(ours, 6, seed), 0.0)
        batch = a_batch(theirs, 6, seed + 5)
        batch.observations[0].add_(3.0)
        theirs.update(batch, 0.0)
    mine, other = moments_within(ours.learnt), moments_within(theirs.learnt)
    assert mine is not None
    assert other is not None
    first, second = float(mine.mean[0]), float(other.mean[0])
    count = float(mine.count)
    ours.mixture.mix(theirs.mixture.message(), ours.learnt)
    assert float(mine.mean[0]) == pytest.approx((first + second) / 2, rel=1e-5)
    assert float(mine.squares[0] / mine.count) > ((first - second) / 2) ** 2
    assert float(mine.count) == count
    inputs = batch_inputs(a_batch(ours, 4))
    assert ours.network.unroll(inputs, ours.network.initial_state(4))[0].policy.isfinite().all()


def test_a_learner_that_is_mixed_with_itself_stays_what_it_is() -> None:
    learner = make("vtrace", SCALED)
    for seed in range(3):
        learner.update(a_batch(learner, 6, seed), 0.0)
    before = numbers(learner.learnt.state_dict())
    distance = learner.mixture.mix(learner.mixture.message(), learner.learnt)
    assert float(distance) < 1e-5
    for x, y in zip(before, numbers(learner.learnt.state_dict()), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


def test_messages_of_a_ring() -> None:
    """The newest counts, once; and all leave together."""

    def run(link: Link) -> float:
        ring = Ring(link, 2)
        ring.start()
        for number in range(20):
            ring.post(torch.tensor([float(link.rank), float(number)]))
        seen = [torch.zeros(2)]
        deadline_s = time.monotonic() + 10
        while float(seen[-1][1]) < 19 and time.monotonic() < deadline_s:
            message = ring.take(0.2)
            if message is not None:
                assert float(message[0]) == (link.rank - 1) % link.world
                assert float(message[1]) >= float(seen[-1][1])
                seen.append(message)
        assert ring.take() is None, "each is taken once"
        ring.leave()
        assert ring.failure is None
        return float(seen[-1][1])

    assert well(together(3, run)) == [19, 19, 19]


class Ends(Silence):
    """Ends when it is told to."""

    def __init__(self, end: threading.Event) -> None:
        self._end = end

    def tell(self, room: int) -> Told:
        return Told(Report(stop=Stop.ASKED if self._end.is_set() else Stop.NONE), ())


def gossiping(link: Link, end: threading.Event, **options: Any) -> tuple[Gossip, Learner]:
    exchange = Gossip(link, **options)
    exchange.meetings.floor = Ends(end)
    learner = make("a2c", PLAIN, exchange)
    exchange.prepare(learner.mixture)
    return exchange, learner


def test_nobody_waits_for_the_slowest_and_policies_stay_close() -> None:
    """One makes an update for every ten of the first; nobody is held up by it, and all of them are mixed."""
    end = threading.Event()
    done = [0, 0, 0]

    def wait_for_ten_more() -> None:
        deadline_s = time.monotonic() + 2.0  # where the first waits for this one
        while done[0] < 10 * (done[2] + 1) and not end.is_set() and time.monotonic() < deadline_s:
            time.sleep(0.01)

    def learn(link: Link) -> tuple[int, int, list[Tensor]]:
        exchange, learner = gossiping(link, end)
        mixed = 0

        def get(timeout_s: float) -> TrainBatch | Empty:
            if link.rank == 2:
                wait_for_ten_more()
            return a_batch(learner, 4, learner.num_updates)

        while isinstance(batch := exchange.turn(get), TrainBatch):
            metrics = learner.update(batch, 0.0).metrics
            done[link.rank] += 1
            mixed += "gossip_distance" in metrics
            if link.rank == 0 and learner.num_updates == 60:
                end.set()
        return learner.num_updates, mixed, numbers(learner.learnt.state_dict())

    results = well(together(3, learn))
    fast, slow = results[0][0], results[2][0]
    assert fast >= 60
    assert slow < fast / 2, "the slowest is waited for"
    assert all(mixed > 0 for _, mixed, _ in results)
    assert not same(results[0][2], results[1][2]), "each has its own parameters"
    apart = max(float((x - y).abs().max()) for x, y in zip(results[0][2], results[1][2], strict=True))
    assert apart < 0.5


def test_news_of_a_certain_age_are_waited_for() -> None:
    end = threading.Event()

    def learn(link: Link) -> int:
        exchange, learner = gossiping(link, end, max_age=2)
        oldest = 0

        def get(timeout_s: float) -> TrainBatch | Empty:
            if link.rank == 1:
                time.sleep(0.05)
            return a_batch(learner, 4)

        while isinstance(batch := exchange.turn(get), TrainBatch):
            metrics = learner.update(batch, 0.0).metrics
            oldest = max(oldest, int(metrics.get("gossip_age_max", 0)))
            if learner.num_updates == 12:
                end.set()
        return oldest

    assert all(0 < oldest <= 3 for oldest in well(together(2, learn)))


def test_with_learning_rate_zero_learners_come_together() -> None:
    """The mean of all parameters is kept up to what is lost between messages, and they end equal."""
    end = threading.Event()

    def learn(link: Link) -> Tensor:
        exchange = Gossip(link, 1)
        exchange.meetings.floor = Ends(end)
        learner = make("a2c", {**PLAIN, "optimiser.learning_rate": 0.0}, exchange)
        with torch.no_grad():
            for parameter in learner.learnt.parameters():
                parameter.fill_(float(link.rank))
        exchange.prepare(learner.mixture)
        while isinstance(batch := exchange.turn(lambda _: a_batch(learner, 2)), TrainBatch):
            learner.update(batch, 0.0)
            if learner.num_updates == 60:
                end.set()
        return torch.cat([x.detach().flatten() for x in learner.learnt.parameters()])

    first, second = well(together(2, learn))
    torch.testing.assert_close(first, second, atol=1e-3, rtol=0)
    assert 0 < float(first.mean()) < 1


class Mortal(Ends):
    """Dies at a meeting, as if its process were gone, once it has made some updates.

    Attributes:
        missed: whom it was told to miss.
        heard: of how many learners at the last meeting, and their environments.
    """

    def __init__(self, end: threading.Event, learner: Learner, dies: bool) -> None:
        super().__init__(end)
        self.missed: list[int] = []
        self.heard: list[float] = []
        self._learner, self._dies = learner, dies

    def tell(self, room: int) -> Told:
        if self._dies and self._learner.num_updates >= 10:
            raise BrokenError("as if it were gone")
        told = super().tell(room)
        return told._replace(report=told.report._replace(live_rows=4.0))

    def miss(self, rank: int) -> None:
        self.missed.append(rank)

    def hear(self, told: Sequence[Told]) -> None:
        self.heard = [one.report.live_rows for one in told]


def mourning(world: int, who: int) -> list[Any]:
    """What becomes of learners one of which dies; those that go on end after fifty mixes without it."""
    end = threading.Event()

    def learn(link: Link) -> tuple[Mortal, int]:
        exchange, learner = gossiping(link, end, settle_s=1.0)
        exchange.meetings.floor = floor = Mortal(end, learner, link.rank == who)
        del link
        mixed = 0
        try:
            while isinstance(batch := exchange.turn(lambda _: a_batch(learner, 4)), TrainBatch):
                metrics = learner.update(batch, 0.0).metrics
                mixed += bool(floor.missed) and "gossip_distance" in metrics
                after = exchange.meetings.floor is floor and floor.missed and learner.num_updates > 40
                if after and (mixed >= 20 or world == 2):
                    end.set()
        finally:
            if exchange.rank == who:  # a process would end here, and its threads with it
                assert exchange._ring is not None
                exchange._ring.abandon()
                exchange._ring = None
        return floor, mixed

    results = together(world, learn, timeout_s=2.0)
    deadline_s = time.monotonic() + 5
    while any(thread.name == "ring-receives" for thread in threading.enumerate()):  # of rings that are no more
        assert time.monotonic() < deadline_s, "somebody waits for ever"
        time.sleep(0.02)
    return results


def test_when_one_dies_the_others_go_on_in_a_ring_of_their_own() -> None:
    first, dead, third = mourning(3, 1)
    assert isinstance(dead, BrokenError)
    for floor, mixed in (first, third):
        assert floor.missed == [1]
        assert floor.heard == [4, 0, 4]
        assert mixed > 0


def test_one_that_is_left_goes_on_alone() -> None:
    (floor, mixed), dead = mourning(2, 1)
    assert isinstance(dead, BrokenError)
    assert (floor.missed, floor.heard, mixed) == ([1], [4, 0], 0)


def test_without_the_first_which_writes_the_run_all_end() -> None:
    dead, second, third = mourning(3, 0)
    assert isinstance(dead, BrokenError)
    assert isinstance(second, PeerLostError)
    assert isinstance(third, PeerLostError)


def test_survivors_agree_though_one_is_late() -> None:
    """Whoever comes after the others have decided is not waited for, and ends."""

    def run(link: Link) -> Sequence[int]:
        survivors = Survivors(link, 0.3)
        if link.rank == 2:
            time.sleep(1.0)
        survivors.find(PeerLostError("one is gone"))
        return survivors.members

    first, second, late = together(3, run)
    assert (first, second) == ([0, 1], [0, 1])
    assert isinstance(late, PeerLostError)


def test_algorithms_that_remember_older_parameters_are_refused_by_name() -> None:
    place = Place(0, 2, 0, 2)
    for name in ("vtrace", "a2c", "a3c", "ppo"):
        check_exchange(place, override(defaults_of(name), {"replicas.exchange": "gossip"}))
    for name in ("r2d2", "sac", "n_step_q"):
        with pytest.raises(UsageError, match=rf"--algorithm {name}, got gossip: .* are vtrace, a2c, a3c, ppo$"):
            check_exchange(place, override(defaults_of(name), {"replicas.exchange": "gossip"}))


def test_one_learner_has_nobody_to_exchange_with() -> None:
    """All-reduce of one learner is what it does anyway; the others would be silently nothing."""
    for name in ("gossip", "parameter_server"):
        with pytest.raises(
            UsageError, match=rf"expected several learners with --exchange {name}, got one: .*--learners"
        ):
            check_exchange(Place(), override(defaults_of("a2c"), {"replicas.exchange": name}))
    check_exchange(Place(), override(defaults_of("a2c"), {"replicas.exchange": "all_reduce"}))
