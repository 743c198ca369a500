"""The hand-over of parameters: weights that are constants equal to their version, so any mixture shows."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor, nn

from seedbed.server.inference import parameters as module
from seedbed.server.inference.parameters import Parameters
from seedbed.server.networks.interface import AgentState, Inputs, Outputs, PolicyNetwork
from seedbed.server.networks.layers import Linear


class Weights(PolicyNetwork):
    """Weights to hand over; nobody asks them for actions here."""

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> AgentState:
        return ()

    def step(self, inputs: Inputs, state: AgentState) -> tuple[Outputs, AgentState]:
        raise NotImplementedError

    def unroll(self, inputs: Inputs, state: AgentState) -> tuple[Outputs, AgentState]:
        raise NotImplementedError

    def store_for_acting(self) -> None:
        """Nothing to convert."""


class Constant(Weights):
    """Every weight and every buffer holds the same number."""

    def __init__(self, value: float = -1.0) -> None:
        super().__init__()
        self.first = nn.Linear(64, 64)
        self.second = nn.Linear(64, 8)
        self.register_buffer("counter", torch.zeros(8))
        self.fill(value)

    def fill(self, value: float) -> None:
        with torch.no_grad():
            for tensor in (*self.parameters(), *self.buffers()):
                tensor.fill_(value)

    def values(self) -> set[float]:
        """The different numbers it holds now: one, unless it is torn."""
        return {float(x) for tensor in self.state_dict().values() for x in tensor.unique()}


class Copied:
    """When a copy is done: as its test says."""

    def __init__(self, done: bool = False) -> None:
        self.done = done
        self.waits = 0

    def query(self) -> bool:
        return self.done

    def wait(self) -> None:
        """Of a stream."""

    def synchronize(self) -> None:
        self.waits += 1
        self.done = True


def test_the_newest_version_that_is_done_acts_and_the_learner_is_one_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a device that takes long for an update: inference never queues behind it, and never falls far behind."""
    events = [Copied(done=True)]
    monkeypatch.setattr(module, "_record_event", lambda device: events[-1])
    source = Constant(0.0)
    parameters = Parameters(source)
    for version in range(1, 8):
        events.append(Copied())
        source.fill(float(version))
        parameters.publish(source, version)
        assert [event.waits for event in events[:-1]] == [1] * version, "one update ahead, no more"
        for _ in range(2):
            network, number = parameters.acquire()
            assert number == version - 1
            assert isinstance(network, Constant)
            assert network.values() == {float(version - 1)}
        if version % 3 == 0:
            events[-1].done = True
            assert parameters.acquire()[1] == version


def test_on_policy_only_the_newest_acts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_record_event", lambda device: Copied())
    source = Constant(0.0)
    parameters = Parameters(source, on_policy=True)
    parameters.publish(source, 1)
    assert parameters.acquire()[1] == 1


def test_a_published_version_is_acquired_with_its_number() -> None:
    source = Constant(7.0)
    parameters = Parameters(source, version=7)
    for version in (7, 8, 9):
        source.fill(float(version))
        parameters.publish(source, version)
        network, number = parameters.acquire()
        assert isinstance(network, Constant)
        assert (network.values(), number, parameters.version) == ({float(version)}, version, version)


def test_only_the_newest_version_is_acquired() -> None:
    source = Constant(0.0)
    parameters = Parameters(source)
    for version in range(1, 6):
        source.fill(float(version))
        parameters.publish(source, version)
    network, number = parameters.acquire()
    assert isinstance(network, Constant)
    assert (network.values(), number) == ({5.0}, 5)


def test_the_copy_in_use_is_never_written() -> None:
    source = Constant(1.0)
    parameters = Parameters(source, version=1)
    network, number = parameters.acquire()
    assert isinstance(network, Constant)
    for version in range(2, 10):
        source.fill(float(version))
        parameters.publish(source, version)
        assert (network.values(), number) == ({1.0}, 1)


def test_the_source_may_be_changed_after_publishing() -> None:
    source = Constant(1.0)
    parameters = Parameters(source)
    source.fill(99.0)
    network, _ = parameters.acquire()
    assert isinstance(network, Constant)
    assert network.values() == {1.0}


def test_a_reader_never_sees_a_mixture_nor_an_older_version() -> None:
    """A writer publishes without pause while a reader evaluates; torn weights would be two numbers at once."""
    source = Constant(0.0)
    parameters = Parameters(source)
    stop = threading.Event()

    def write() -> None:
        version = 0
        while not stop.is_set():
            version += 1
            source.fill(float(version))
            parameters.publish(source, version)

    writer = threading.Thread(target=write)
    writer.start()
    seen: list[int] = []
    try:
        while len(set(seen)) < 20:
            network, version = parameters.acquire()
            assert isinstance(network, Constant)
            assert network.values() == {float(version)}
            seen.append(version)
    finally:
        stop.set()
        writer.join(10)
    assert seen == sorted(seen)


class Torso(Weights):
    """A layer that may be stored in bfloat16, and a head that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Linear(5, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x.bfloat16()).float())

    def store_for_acting(self) -> None:
        self.body.to(torch.bfloat16)


def test_a_copy_stored_in_bfloat16_computes_what_the_source_computes() -> None:
    torch.manual_seed(0)
    source = Torso()
    parameters = Parameters(source)
    x = torch.randn(6, 5)
    for version in (1, 2, 3, 4):
        with torch.no_grad():
            for parameter in source.parameters():
                parameter.add_(torch.randn_like(parameter))
        parameters.publish(source, version)
        network, _ = parameters.acquire()
        assert isinstance(network, Torso)
        assert network.body.weight.dtype == torch.bfloat16
        assert network.head.weight.dtype == torch.float32
        assert torch.equal(network(x), source(x))


def test_copies_are_made_once_and_are_never_trained() -> None:
    """What was captured or held goes on reading the same memory."""
    source = Constant(0.0)
    source.first.weight.grad = torch.ones_like(source.first.weight)
    parameters = Parameters(source)
    places: dict[int, int] = {}
    for version in range(1, 7):
        parameters.publish(source, version)
        network, _ = parameters.acquire()
        assert isinstance(network, Constant)
        assert network is not source
        assert not any(parameter.requires_grad or parameter.grad is not None for parameter in network.parameters())
        assert places.setdefault(id(network), network.first.weight.data_ptr()) == network.first.weight.data_ptr()
    assert len(places) == 3
