"""A real policy server whose right answers are arithmetic; every unroll that it hands on is audited.

Nothing is faked but the policy and the learner: frontends are processes, and leases, batching, inference, unrolls and
queue are those of training. What an echo observation must be answered with, what follows it and what it pays are all
pure functions (`seedbed.common.echo`), so each row of each unroll is checked for itself.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from seedbed.common.credentials import ServerCredentials
from seedbed.common.echo import echo_actions
from seedbed.common.specs import EnvironmentSpec
from seedbed.common.timestep import EpisodeEnd, StepType
from seedbed.env_client.environments.echo import ECHO_SPECS
from seedbed.server.algorithms.acting import Acting, Decision
from seedbed.server.algorithms.interface import Algorithm
from seedbed.server.algorithms.update_steps import Step
from seedbed.server.experience.account import Collector
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.fifo import UnrollFifo
from seedbed.server.experience.open_unrolls import HostRow, OpenUnrolls
from seedbed.server.experience.unroll import FieldSpec, UnrollLayout
from seedbed.server.inference.parameters import Parameters
from seedbed.server.inference.policy import Inference
from seedbed.server.inference.policy_server import Frontends, Identity, PolicyServer
from seedbed.server.networks.interface import AgentState, Inputs, Outputs, PolicyNetwork
from seedbed.server.options.serving import ServingConfig
from seedbed.server.shared.slots import SlotTable
from tests.system.audit import BATCH_SIZE, NUM_ROWS, PERIOD, Audit
from tests.system.echo_rows import samples_of

ECHO_SPEC = ECHO_SPECS["seedbed/Echo-v0"]

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
    num_rows, period, batch_size = NUM_ROWS, PERIOD, BATCH_SIZE

    def __init__(self, spec: EnvironmentSpec) -> None:
        self._actions = spec.actions

    @classmethod
    def suits(cls, spec: EnvironmentSpec) -> int | None:
        """Nothing but echoes."""
        return None

    def make_learnt(self) -> EchoNetwork:
        """See the base class."""
        return EchoNetwork()

    def act(self, network: PolicyNetwork, inputs: Inputs, state: AgentState, acting: Acting) -> Decision:
        """The echo."""
        sent = echo_actions(self._actions, inputs.observations[0][:, -1].numpy())
        samples = samples_of(self._actions, sent)
        recorded = {"state": state[0]}
        return Decision(_tensors(samples), _tensors(sent), recorded, network.step(inputs, state)[1])

    def steps(self, learnt: nn.Module, target: nn.Module | None, batch: TrainBatch) -> Iterator[Step]:
        """Nobody learns here."""
        raise NotImplementedError


class CountingStore(OpenUnrolls):
    """Counts transitions as they arrive.

    Attributes:
        received: rows that followed another row of their lease.
    """

    received = 0

    def append(
        self,
        slots: NDArray[np.int64],
        fields: Mapping[str, Tensor],
        state: Any,
        row: Tensor | None = None,
        known: HostRow | None = None,
    ) -> NDArray[np.int64]:
        """See the base class."""
        self.received += int(np.count_nonzero(self._seq[slots] > 0))
        return super().append(slots, fields, state, row, known)


def _tensors(arrays: Sequence[NDArray[Any]]) -> tuple[Tensor, ...]:
    """As they are recorded: floats as they are, all else int64."""
    return tuple(torch.from_numpy(array if array.dtype.kind == "f" else array.astype(np.int64)) for array in arrays)


class EchoServer:
    """The server; use it as a context.

    Attributes:
        audit: of all unrolls, complete when the context has been left.
        episodes, heard_s: (environment index, end), as they came, and when.
        sight: what is shown to people who look.
        store, collector: what counts the transitions, and what accounts for them.
    """

    def __init__(
        self,
        *,
        num_slots: int,
        grace_s: float,
        spec: EnvironmentSpec = ECHO_SPEC,
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
        slots = slot_table(spec, num_slots)
        processes = Frontends(config, slots, Identity(run_name="echo", version="0"))
        self.sight = processes.sight
        algorithm = EchoAlgorithm(spec)
        network = algorithm.make_learnt()
        layout = UnrollLayout(
            spec=spec,
            num_rows=algorithm.num_rows,
            period=algorithm.period,
            recorded=algorithm.recorded,
            state_specs=(FieldSpec((1,), torch.float32),),
        )
        self.audit = audit or Audit(spec)
        self.episodes: list[tuple[int, EpisodeEnd]] = []
        self.heard_s: list[float] = []
        self.store = make_store(layout, num_slots, _CPU)
        self._fifo = UnrollFifo(layout, 4 * algorithm.batch_size, _CPU)
        self.collector = Collector(self.store, self._fifo)
        self.server = PolicyServer(
            config=config,
            frontends=processes,
            inference=Inference(
                algorithm=algorithm,
                parameters=Parameters(network),
                slots=slots,
                unrolls=self.store,
                device=_CPU,
                seed=0,
            ),
            slots=slots,
            sink=self.collector,
            on_episode=self._on_episode,
            device=_CPU,
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

    def _on_episode(self, index: int, end: EpisodeEnd, client: str) -> None:
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
