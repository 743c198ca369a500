"""Replicas begin equal: the whole state of the first learner, and nothing that the others have restored."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from seedbed.server.learning.exchange.all_reduce import AllReduce
from seedbed.server.learning.exchange.link import Link
from seedbed.server.training.checksum import Checksums, checksum_of
from seedbed.server.training.place import Place
from seedbed.server.training.replica import Replica, open_to_others, share, wait_for_first
from seedbed.server.training.stop_signal import StopSignal
from tests.reference.replicas import together, well
from tests.reference.unequal import a_batch, make, numbers, part, same

CHANGES = {"algorithm_options.popart": "on", "network.normalise_observations": "on"}


def test_a_nested_state_arrives_as_it_was() -> None:
    state = {
        "a": [torch.arange(3), (torch.ones(2, 2, dtype=torch.bfloat16), None)],
        "b": {1: torch.tensor(1.5, dtype=torch.float64), "c": True, "d": "x", "e": torch.zeros(0)},
    }
    first, second = well(together(2, lambda link: share(link, state if link.rank == 0 else None)))
    for found in (first, second):
        assert found["b"][1].dtype == torch.float64
        assert isinstance(found["a"][1], tuple)
        assert (found["b"]["c"], found["b"]["d"], found["a"][1][1]) == (True, "x", None)
        assert same(numbers(found), numbers(state))
    assert well(together(2, lambda link: share(link, {"only": 1} if link.rank == 0 else None)))[1] == {"only": 1}


def test_replicas_begin_with_the_whole_state_of_the_first() -> None:
    """With its parameters alone they would part: its optimiser has moments, and its version is another."""

    def learn(link: Link) -> tuple[list[Tensor], int, list[int]]:
        exchange = AllReduce(link, 10.0)
        learner = make("vtrace", CHANGES)
        for seed in range(3 if link.rank == 0 else 1):  # the other has restored an older checkpoint, say
            learner.update(a_batch(learner, 6, seed), 0.0)
        learner.exchange = exchange
        published: list[int] = []
        parameters = SimpleNamespace(publish=lambda network, version: published.append(version))
        parts: Any = SimpleNamespace(learner=learner, parameters=parameters, device=torch.device("cpu"))
        Replica(Place(link.rank, 2, link.rank, 2), link, exchange).begin_equal(parts)
        assert learner.num_updates == 3
        batch = a_batch(make("vtrace", CHANGES), 8)
        learner.update(part(batch, [0, 1, 2] if link.rank == 0 else [3, 4, 5, 6, 7]), 0.0)
        return numbers(learner.get_state()), checksum_of(learner), published

    (ours, our_sum, published), (theirs, their_sum, too) = well(together(2, learn))
    assert same(ours, theirs)
    assert our_sum == their_sum
    assert published == too == [3], "what acts is what was shared"


def test_checksums_tell_states_apart() -> None:
    learner = make("vtrace", CHANGES)
    sums = Checksums(learner, period=2)
    seen = [sums.newest()]
    for seed in range(4):
        learner.update(a_batch(learner, 6, seed), 0.0)
        seen.append(sums.newest())
    assert [updates for updates, _ in seen] == [0, 0, 2, 2, 4]
    assert len(set(seen)) == 3
    before = checksum_of(learner)
    with torch.no_grad():
        next(learner.network.parameters()).view(-1)[0] += 1e-6
    assert checksum_of(learner) != before


def test_the_others_wait_until_the_first_has_opened_the_run() -> None:
    for go_on in (True, False):
        store = dist.HashStore()
        open_to_others(store, go_on)
        assert wait_for_first(store, StopSignal()) is go_on
    stop = StopSignal()
    stop.name = "SIGTERM"
    assert not wait_for_first(dist.HashStore(), stop)
