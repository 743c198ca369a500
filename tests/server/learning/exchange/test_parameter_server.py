"""The parameter server: what it computes, what it refuses, and that every gradient is accounted for."""

from __future__ import annotations

import copy
import math
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from seedbed.common.errors import UsageError
from seedbed.common.options import override
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.source import Empty
from seedbed.server.learning.exchange.link import Link
from seedbed.server.learning.exchange.meeting import Report, Silence, Stop, Told
from seedbed.server.learning.exchange.parameter_server import ParameterServer, Sent
from seedbed.server.learning.exchange.shard import EPSILON, Answer, Losses, Shard, split
from seedbed.server.learning.learner import Learner
from seedbed.server.training.place import Place
from seedbed.server.training.replica import check_exchange
from seedbed.server.training.resolve import defaults_of
from tests.reference.replicas import together, well
from tests.reference.unequal import a_batch, make, numbers, same

SMALL: dict[str, Any] = {"algorithm_options.target_period_updates": 5, "optimiser.learning_rate": 0.05}


def test_adagrad() -> None:
    """Golden: rate 0.1, gradients 2, -1, 0.5 from 1."""
    shard = Shard(torch.ones(1), torch.zeros(1), 0)
    for gradient in (2.0, -1.0, 0.5):
        answer = shard.push(torch.tensor([gradient]), 0, 0.1)
    assert float(answer.parameters) == pytest.approx(0.92289957, abs=1e-7)
    assert (answer.version, float(answer.squares)) == (3, 5.25)


def test_outliers() -> None:
    """Golden: of 1, 1.2, 0.8, 1.1, 0.9 the mean is 1, the deviation 0.141421, the threshold of three 1.424264."""
    losses = Losses(3.0, least=5)
    values = [1.0, 1.2, 0.8, 1.1, 0.9]
    assert not any(losses.add(value) for value in values)
    assert losses.mean == pytest.approx(1.0)
    assert losses.variance == pytest.approx(statistics.pvariance(values))
    assert losses.threshold == pytest.approx(1.424264, abs=1e-6)
    assert losses.add(1.43)
    assert not Losses(3.0, least=5).add(1e9), "the first ones know nothing to compare with"
    everything = Losses(None)
    assert not any(everything.add(10.0**number) for number in range(30))


def test_losses_of_another_size_are_usual_after_a_while() -> None:
    losses = Losses(4.0, window=50)
    for _ in range(100):
        losses.add(1.0 + 0.1 * torch.rand(()).item())
    refused = [losses.add(10.0 + 0.1 * torch.rand(()).item()) for _ in range(100)]
    assert refused[0]
    assert not any(refused[20:])


def test_the_first_shard_refuses_what_is_too_old() -> None:
    shard = Shard(torch.zeros(2), torch.zeros(2), 10, max_age=3)
    assert shard.push(torch.ones(2), 7, 0.1).applied
    late = shard.push(torch.ones(2), 7, 0.1)
    assert (late.applied, late.version) == (False, 11)
    assert Shard(torch.zeros(2), torch.zeros(2), 10).push(torch.ones(2), 0, 0.1).applied, "others do as they are told"


def test_shards_are_of_equal_size() -> None:
    parts = split(torch.arange(7.0), 3)
    assert [part.tolist() for part in parts] == [[0, 1, 2], [3, 4, 5], [6, 0, 0]]


class Ends(Silence):
    """Ends when it is told to."""

    def __init__(self, end: threading.Event) -> None:
        self._end = end

    def tell(self, room: int) -> Told:
        return Told(Report(stop=Stop.ASKED if self._end.is_set() else Stop.NONE), ())


class Logged(Shard):
    """Writes down what it has applied."""

    def __init__(self, shard: Shard) -> None:
        super().__init__(shard._parameters, shard._squares, shard._version, shard._max_age)
        self.log: list[tuple[Tensor, float]] = []
        self.ages: list[int] = []
        self._turn = threading.Lock()
        self.first = shard._parameters.clone()

    def push(self, gradient: Tensor, least_version: int, rate: float) -> Answer:
        with self._turn:  # what is written down is in the order in which it was applied
            answer = super().push(gradient, least_version, rate)
            if answer.applied:
                self.log.append((gradient.clone(), rate))
                self.ages.append(answer.version - 1 - least_version)
            return answer


class Watched(ParameterServer):
    """Its shard writes down what it applies."""

    def _serve(self) -> None:
        assert self._shard is not None
        self._shard = Logged(self._shard)
        self._watches.set()
        super()._serve()

    def _begin(self) -> None:
        self._watches = threading.Event()
        super()._begin()
        assert self._watches.wait(10)


def serving(
    world: int, updates: int, source: Callable[[Learner, int, int], TrainBatch], **options: Any
) -> list[tuple[Sent, Logged, Learner, ParameterServer]]:
    """Each learner until one of them has made so many updates."""
    end = threading.Event()

    def learn(link: Link) -> tuple[Sent, Logged, Learner, ParameterServer]:
        exchange = Watched(link, **options)
        exchange.meetings.floor = Ends(end)
        learner = make("n_step_q", SMALL, exchange)
        exchange.prepare(list(learner.learnt.parameters()))
        while isinstance(batch := exchange.turn(lambda _: source(learner, link.rank, exchange.sent.all)), TrainBatch):
            learner.update(batch, 0.0)
            if exchange.sent.all == updates:
                end.set()
        assert isinstance(exchange._shard, Logged)
        return exchange.sent, exchange._shard, learner, exchange

    return well(together(world, learn))


def test_every_gradient_is_accounted_for() -> None:
    """Applied, too old, an outlier or lost; and the version is the number of those applied, on every shard."""

    def source(learner: Learner, rank: int, made: int) -> TrainBatch:
        time.sleep(0.01 * rank)
        batch = a_batch(learner, 4, 10 * made + rank)
        if rank == 1 and made % 7 == 3:
            batch.fields["reward"].fill_(math.nan)
        if rank == 0 and made > 20 and made % 9 == 4:
            batch.fields["reward"].mul_(100.0)
        return batch

    found = serving(3, 40, source, max_age=1)
    applied = sum(sent.applied for sent, *_ in found)
    assert sum(sent.too_old for sent, *_ in found) > 0
    assert found[0][0].outliers > 0
    assert found[1][0].lost > 0
    for sent, shard, _, exchange in found:
        assert sent.all == exchange._batches
        assert shard._version == applied == len(shard.log)
    assert max(found[0][1].ages) <= 1, "none that is too old was applied"


def test_the_log_of_a_shard_gives_its_parameters() -> None:
    """Bit for bit; and the first learner has those of all shards in the end."""
    found = serving(2, 20, lambda learner, rank, made: a_batch(learner, 4, 10 * made + rank))
    for _, shard, _, _ in found:
        replayed, squares = shard.first.clone(), torch.zeros_like(shard.first)
        for gradient, rate in shard.log:
            squares.addcmul_(gradient, gradient)
            replayed.addcdiv_(gradient, squares.sqrt().add_(EPSILON), value=-rate)
        assert torch.equal(replayed, shard._parameters)
    _, _, first, exchange = found[0]
    first.gather()
    whole = torch.cat([shard._parameters for _, shard, _, _ in found])
    ours = torch.cat([x.detach().reshape(-1) for x in first.learnt.parameters()])
    assert torch.equal(ours, whole[: len(ours)])
    assert first.num_updates == found[0][1]._version
    state = copy.deepcopy(first.get_state())
    assert float(state["exchange"]["squares"].sum()) > 0
    restored = make("n_step_q", SMALL, ParameterServer(exchange._link))
    restored.set_state(state)
    assert same(numbers(restored.get_state()), numbers(state)), "a checkpoint has all of it"


def test_target_networks_go_by_versions_that_may_skip_some() -> None:
    found = serving(2, 20, lambda learner, rank, made: a_batch(learner, 4, 10 * made + rank))
    for _, _, learner, _ in found:
        assert learner.target is not None
        assert not same(numbers(learner.target.state_dict()), numbers(make("n_step_q", SMALL).learnt.state_dict()))


def test_learning_from_one_learner_is_adagrad() -> None:
    """World 1: the same numbers as AdaGrad of torch on the same gradients."""

    def learn(link: Link) -> list[Tensor]:
        exchange = ParameterServer(link)
        learner = make("n_step_q", SMALL, exchange)
        exchange.prepare(list(learner.learnt.parameters()))
        batches = iter([a_batch(learner, 4, seed) for seed in range(4)])
        twin = make("n_step_q", SMALL)
        adagrad = torch.optim.Adagrad(twin.learnt.parameters(), lr=0.05, eps=EPSILON)
        twin._steps.optimisers["all"] = adagrad
        while isinstance(batch := exchange.turn(lambda _: next(batches, Empty.CLOSED)), TrainBatch):
            learner.update(batch, 0.0)
            twin.update(batch, 0.0)
        return [x - y for x, y in zip(learner.learnt.parameters(), twin.learnt.parameters(), strict=True)]

    (differences,) = well(together(1, learn))
    assert max(float(x.detach().abs().max()) for x in differences) < 1e-5


def test_algorithms_whose_parameters_cannot_be_served_are_refused_by_name() -> None:
    place = Place(0, 2, 0, 2)
    changes = {"replicas.exchange": "parameter_server"}
    for name in ("one_step_q", "one_step_sarsa", "n_step_q", "r2d2", "apex"):
        check_exchange(place, override(defaults_of(name), changes))
    for name in ("vtrace", "ppo", "sac", "pqn"):
        with pytest.raises(
            UsageError, match=rf"--algorithm {name}, got parameter_server: .* are r2d2, apex, one_step_q"
        ):
            check_exchange(place, override(defaults_of(name), changes))
    with pytest.raises(UsageError, match="--normalise-observations off"):
        check_exchange(place, override(defaults_of("r2d2"), {**changes, "network.normalise_observations": "on"}))
