"""A real policy server whose right answers are arithmetic, and an audit of every unroll that it hands on.

Nothing is faked but the policy and the learner: frontends are processes, and leases, batching, inference, unrolls and
queue are those of training. What an echo observation must be answered with, what follows it and what it pays are all
pure functions (`seedbed.common.echo`), so each row of each unroll is checked for itself.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from seedbed.common.credentials import ServerCredentials
from seedbed.common.echo import ECHO_ACTIONS, echo_action, echo_decode, echo_length, echo_reward, echo_truncates
from seedbed.common.specs import ArraySpec, EnvironmentSpec
from seedbed.common.timestep import EpisodeEnd, StepType
from seedbed.server.algorithms.interface import Acting, Algorithm, Decision, Step
from seedbed.server.experience.account import Collector
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.fifo import UnrollFifo
from seedbed.server.experience.open_unrolls import OpenUnrolls
from seedbed.server.experience.unroll import FieldSpec, Provenance, UnrollLayout
from seedbed.server.inference.parameters import Parameters
from seedbed.server.inference.policy_server import Frontends, Identity, PolicyServer
from seedbed.server.networks.interface import AgentState, Inputs, Outputs, PolicyNetwork
from seedbed.server.options.serving import ServingConfig
from seedbed.server.shared.slots import SlotTable

ECHO_SPEC = EnvironmentSpec(
    environment="seedbed/Echo-v0",
    observations=(ArraySpec(name="observation", dtype="float32", shape=(3,), low=(0,)),),
    actions=(ArraySpec(name="action", dtype="int64", low=(0,), high=(ECHO_ACTIONS - 1,), kind="discrete"),),
)

_CPU = torch.device("cpu")


class EchoNetwork(PolicyNetwork):
    """Its agent state `[N, 1]` counts the rows of the episode so far."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> AgentState:
        """Zero rows."""
        return (torch.zeros(batch_size, 1, device=device),)

    def step(self, inputs: Inputs, state: AgentState) -> tuple[Outputs, AgentState]:
        """Counts."""
        first = (inputs.step_type == StepType.FIRST)[:, None]
        empty = torch.zeros(len(first), 0)
        return Outputs(empty, empty), (torch.where(first, 0.0, state[0]) + 1,)

    def unroll(self, inputs: Inputs, state: AgentState) -> tuple[Outputs, AgentState]:
        """Nobody learns here."""
        raise NotImplementedError

    def store_for_acting(self) -> None:
        """Nothing to convert."""


class EchoAlgorithm(Algorithm):
    """Answers every observation with its echo, and records the agent state it answered from."""

    recorded: Mapping[str, FieldSpec] = {"state": FieldSpec((1,), torch.float32)}
    num_rows = 8
    period = 7
    batch_size = 4

    def __init__(self) -> None:
        """Needs nothing."""

    @classmethod
    def suits(cls, spec: EnvironmentSpec) -> int | None:
        """Nothing but echoes."""
        return None

    def make_learnt(self) -> EchoNetwork:
        """See the base class."""
        return EchoNetwork()

    def act(self, network: PolicyNetwork, inputs: Inputs, state: AgentState, acting: Acting) -> Decision:
        """The echo."""
        action = torch.from_numpy(echo_action(inputs.observations[0][:, -1].numpy()))
        return Decision((action,), (action,), {"state": state[0]}, network.step(inputs, state)[1])

    def steps(self, learnt: nn.Module, target: nn.Module | None, batch: TrainBatch) -> Iterator[Step]:
        """Nobody learns here."""
        raise NotImplementedError


class CountingStore(OpenUnrolls):
    """Counts transitions as they arrive.

    Attributes:
        received: rows that followed another row of their lease.
    """

    received = 0

    def append(self, slots: NDArray[np.int64], fields: Mapping[str, Tensor], state: Any) -> NDArray[np.int64]:
        """See the base class."""
        self.received += int(np.count_nonzero(self._seq[slots] > 0))
        return super().append(slots, fields, state)


@dataclass
class Audit:
    """Takes the learner's place: takes train batches and checks them row by row.

    Attributes:
        problems: what was wrong; the first few.
        unrolls, cut, transitions, trained: how many were seen; `cut` ones are shorter than they should be, and
            `trained` are the valid ones among the transitions that no unroll before held.
        environments: lease -> slot -> environment.
        sound: indices of environments that keep the rules of the echo; rows of others are not checked.
    """

    problems: list[str] = field(default_factory=list)
    unrolls: int = 0
    cut: int = 0
    transitions: int = 0
    trained: int = 0
    environments: dict[int, dict[int, int]] = field(default_factory=dict)
    sound: Container[int] = range(2**32)
    _ends: dict[tuple[int, int], int] = field(default_factory=dict)

    def run(self, fifo: UnrollFifo) -> None:
        """Until the queue is closed."""
        while (batch := fifo.get(EchoAlgorithm.batch_size)) is not None:
            self.trained += int(batch.valid.sum())
            for number, source in enumerate(batch.provenance):
                self._check_source(source)
                if source.environment_index in self.sound:
                    self._check_rows(batch, number, source)

    def _expect(self, right: Any, what: str, source: Provenance) -> None:
        if not np.all(right) and len(self.problems) < 20:
            self.problems.append(f"{what}: {source}")

    def _check_source(self, source: Provenance) -> None:
        """One slot, one lease, one environment; no step missing, none twice."""
        key = (source.lease, source.slot)
        continued = key in self._ends
        shared = EchoAlgorithm.num_rows - EchoAlgorithm.period if continued else 0
        self._expect(source.first_seq == self._ends.get(key, 0) - shared, "not where the last unroll ended", source)
        self._ends[key] = source.first_seq + source.length
        self.environments.setdefault(source.lease, {}).setdefault(source.slot, source.environment_index)
        known = self.environments[source.lease][source.slot]
        self._expect(known == source.environment_index, "a slot changed its environment", source)
        self.unrolls += 1
        self.cut += source.length < EchoAlgorithm.num_rows
        self.transitions += source.length - 1

    def _check_rows(self, batch: TrainBatch, number: int, source: Provenance) -> None:
        rows = {name: tensor[: source.length, number].numpy() for name, tensor in batch.fields.items()}
        observation = batch.observations[0][: source.length, number, 0].numpy()
        index, episode, step = echo_decode(observation)
        last, first = step == echo_length(index, episode), step == 0
        self._expect(index == source.environment_index, "a foreign row", source)
        self._expect(
            rows["action.action"] == echo_action(observation), "an action that answers another observation", source
        )
        self._expect(rows["reward"] == echo_reward(observation, rows["last_action.action"]), "a foreign reward", source)
        self._expect(rows["age"] == step, "a wrong age", source)
        self._expect((rows["step_type"] == StepType.FIRST) == first, "FIRST misplaced", source)
        self._expect((rows["step_type"] == StepType.LAST) == last, "LAST misplaced", source)
        terminated = last & ~echo_truncates(index, episode)
        self._expect(rows["discount"] == np.where(terminated, 0, 1), "a wrong discount", source)
        self._expect(np.where(first, 0, rows["state"][:, 0] - step) == 0, "an agent state of another row", source)
        self._expect(np.array_equal(batch.state[0][number], rows["state"][0]), "a wrong initial state", source)
        came_before = np.where(first[1:], 0, rows["action.action"][:-1])
        self._expect(np.where(first, 0, rows["last_action.action"])[1:] == came_before, "a wrong last action", source)
        following = np.where(last[:-1], episode[1:] == episode[:-1] + 1, episode[1:] == episode[:-1])
        self._expect(following & (step[1:] == np.where(last[:-1], 0, step[:-1] + 1)), "a step is missing", source)
        valid = batch.valid[:, number].numpy()
        self._expect(valid[: source.length - 1] == ~last[:-1], "a wrong mask", source)
        self._expect(~valid[source.length - 1 :], "rows that never came are trained on", source)


class EchoServer:
    """The server; use it as a context.

    Attributes:
        audit: of all unrolls, complete when the context has been left.
        episodes, heard_s: (environment index, end), as they came, and when.
        store, collector: what counts the transitions, and what accounts for them.
    """

    def __init__(
        self,
        *,
        num_slots: int,
        grace_s: float,
        frontends: int = 2,
        slot_table: type[SlotTable] = SlotTable,
        credentials: ServerCredentials | None = None,
        port: int = 0,
        audit: Audit | None = None,
        make_store: Callable[[UnrollLayout, int, torch.device], CountingStore] = CountingStore,
        stop_reason: str = "finished",
    ) -> None:
        config = ServingConfig(
            port=port,
            num_slots=num_slots,
            grace_s=grace_s,
            frontends=frontends,
            credentials=credentials or ServerCredentials(),
        )
        slots = slot_table(ECHO_SPEC, num_slots)
        processes = Frontends(config, slots, Identity(run_name="echo", version="0"))
        algorithm = EchoAlgorithm()
        network = algorithm.make_learnt()
        layout = UnrollLayout(
            spec=ECHO_SPEC,
            num_rows=algorithm.num_rows,
            period=algorithm.period,
            frame_stack=1,
            recorded=algorithm.recorded,
            state_shapes=((1,),),
        )
        self.audit = audit or Audit()
        self.episodes: list[tuple[int, EpisodeEnd]] = []
        self.heard_s: list[float] = []
        self.store = make_store(layout, num_slots, _CPU)
        self._fifo = UnrollFifo(layout, 4 * algorithm.batch_size, _CPU)
        self.collector = Collector(self.store, self._fifo)
        self.server = PolicyServer(
            config=config,
            frontends=processes,
            algorithm=algorithm,
            parameters=Parameters(network),
            slots=slots,
            unrolls=self.store,
            sink=self.collector,
            on_episode=self._on_episode,
            device=_CPU,
            seed=0,
        )
        self.address = self.server.address
        self._stop_reason = stop_reason
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._threads = [threading.Thread(target=self._supervise), threading.Thread(target=self._learn)]

    @property
    def num_steps(self) -> int:
        """Agent steps so far."""
        return self.server.inference.num_steps

    @property
    def is_well(self) -> bool:
        """Whether nothing has ended the threads that supervise and learn."""
        return all(thread.is_alive() for thread in self._threads)

    def kill_frontend(self, number: int) -> None:
        """Ends a frontend process the hard way."""
        name = f"seedbed-frontend-{number}"
        next(process for process in multiprocessing.active_children() if process.name == name).kill()

    def check_account(self) -> None:
        """Every transition that was received is somewhere. Only after the context has been left."""
        account = self.collector.account
        assert self.store.received == self.audit.transitions + account.dropped
        assert account.queued == self.audit.transitions
        assert 0 < self.audit.trained < self.audit.transitions

    def __enter__(self) -> Self:
        self.server.start()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._fifo.close()
        self.server.stop(self._stop_reason)
        for thread in self._threads:
            thread.join()
        self.collector.finish()
        assert self._failure is None, self._failure

    def _on_episode(self, index: int, end: EpisodeEnd) -> None:
        self.heard_s.append(time.monotonic())
        self.episodes.append((index, end))

    def _supervise(self) -> None:
        while not self._stopping.is_set():
            self.server.check()
            time.sleep(0.05)

    def _learn(self) -> None:
        try:
            self.audit.run(self._fifo)
        except BaseException as error:
            self._failure = error
            self._fifo.close()
