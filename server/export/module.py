"""A policy as one function of tensors: what is exported.

All that a policy remembers goes in and comes out: the state of its network, the last action where the network reads it,
and the frames before the newest where it sees several. Frames come as the environment shows them, actions leave in its
own units; normalisers and the choice of the best action are inside.

Shapes: N environments, K stacked frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.metadata import version

import torch
from torch import Tensor, nn

from seedbed.common.errors import UsageError
from seedbed.common.specs import ArraySpec, EnvironmentSpec
from seedbed.common.timestep import StepType
from seedbed.server.algorithms.best import Best
from seedbed.server.algorithms.interface import Algorithm
from seedbed.server.experience.unroll import TORCH_DTYPES
from seedbed.server.export.contract import Contract, Place, Port, number_port, port_names
from seedbed.server.networks.interface import Inputs, PolicyNetwork

FRAMES, LAST_ACTION, STATE = "memory.frames", "memory.last_action", "memory.state"


class ExportedPolicy(nn.Module):
    """The best actions of N rows, with what they follow from.

    Args:
        algorithm, network: of a run; the network as it acts, in float32.
        spec: of the environment.
        histories: K - 1 for each array that is shown.
        reads_actions: the network reads reward and last action.
        agent_steps: of the run.
        algorithm_name: of the run.
        task: of several the one that it plays; None: there is one.

    Attributes:
        contract: names, dtypes and shapes of what `forward` takes and gives, in its order.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        network: PolicyNetwork,
        spec: EnvironmentSpec,
        *,
        histories: tuple[int, ...],
        reads_actions: bool,
        agent_steps: int,
        algorithm_name: str,
        task: int | None = None,
    ) -> None:
        super().__init__()
        self._task = task
        self.network = network
        self._algorithm, self._spec, self._histories = algorithm, spec, histories
        self._reads_actions = reads_actions
        self._units = nn.ModuleList(map(OwnUnits, spec.actions))
        self._actions = [action.name for action in spec.actions]
        observations = port_names("observation", [array.name for array in spec.observations])
        self._observations = [observations[array.name] for array in spec.shown]
        frames = port_names(FRAMES, [array.name for array in spec.shown])
        self._frames = [frames[array.name] for array in spec.shown]
        last = port_names(LAST_ACTION, self._actions)
        self._last_actions = [last[name] for name in self._actions]
        inputs = [_observation(observations[array.name], array) for array in spec.observations]
        inputs.append(Port(name="first", role="first", dtype="bool"))
        if reads_actions:
            inputs.append(Port(name="reward", role="reward", dtype="float32"))
        inputs += self._memory()
        self._inputs = [port.name for port in inputs]
        with torch.no_grad():
            outputs, best = self._answer(*zero_rows(inputs, 2))
        places = self._places(inputs, best.numbers)
        self.contract = Contract(
            seedbed_version=version("seedbed"),
            algorithm=algorithm_name,
            agent_steps=agent_steps,
            acts="greedily" if algorithm.evaluates_greedily else "sampled",
            inputs=tuple(inputs),
            outputs=tuple(self._output(name, tensor, places) for name, tensor in outputs.items()),
            memory={port.name: _next(port.name) for port in inputs if port.role == "memory"},
            spec=spec,
        )

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """The contract's inputs to its outputs."""
        outputs, _ = self._answer(*given)
        return tuple(outputs.values())

    def _answer(self, *given: Tensor) -> tuple[dict[str, Tensor], Best]:
        """The outputs by name, in their order."""
        named = dict(zip(self._inputs, given, strict=True))
        first = named["first"]
        stacks = []
        for name, frames, history in zip(self._observations, self._frames, self._histories, strict=True):
            newest = named[name].unsqueeze(1)
            stacks.append(torch.cat((zero_where(first, named[frames]), newest), 1) if history else newest)
        inputs = Inputs(
            observations=tuple(stacks),
            step_type=torch.where(first, int(StepType.FIRST), int(StepType.MID)).to(torch.uint8),
            reward=zero_where(first, named["reward"]) if self._reads_actions else torch.zeros_like(first).float(),
            last_action=self._given_actions(named, first),
            mask=self._mask(named),
            task=None if self._task is None else torch.full_like(first, self._task, dtype=torch.int64),
        )
        state = tuple(tensor for name, tensor in named.items() if name.startswith(STATE))
        best = self._algorithm.best(self.network, inputs, state)
        outputs = self._named(best)
        pairs = zip(self._frames, stacks, self._histories, strict=True)
        outputs |= {_next(name): stack[:, 1:] for name, stack, history in pairs if history}
        if self._reads_actions:
            outputs |= {_next(name): sent for name, sent in zip(self._last_actions, best.sent, strict=True)}
        outputs |= {_next(f"{STATE}_{i}"): part for i, part in enumerate(best.state)}
        return outputs, best

    def _given_actions(self, named: dict[str, Tensor], first: Tensor) -> tuple[Tensor, ...]:
        if self._reads_actions:
            return tuple(zero_where(first, named[name]) for name in self._last_actions)
        return tuple(
            torch.zeros((first.shape[0], *action.shape), dtype=_travels_as(action)) for action in self._spec.actions
        )

    def _mask(self, named: dict[str, Tensor]) -> Tensor | None:
        position = self._spec.mask_position
        return None if position is None else named[self._inputs[position]]

    def _named(self, best: Best) -> dict[str, Tensor]:
        """Actions in the environment's own units, then what they follow from."""
        triples = zip(port_names("action", self._actions).values(), self._units, best.sent, strict=True)
        own = {name: units(sent) for name, units, sent in triples}
        return own | {number_port(name, self._actions).name: x for name, x in best.numbers.items()}

    def _memory(self) -> list[Port]:
        """Ports of what is remembered."""
        ports = []
        for name, array, history in zip(self._frames, self._spec.shown, self._histories, strict=True):
            if history:
                shape = (history, *array.shape)
                ports.append(Port(name=name, role="memory", dtype=array.dtype, shape=shape, array=array.name))
        if self._reads_actions:
            for name, action in zip(self._last_actions, self._spec.actions, strict=True):
                dtype = _name_of(_travels_as(action))
                ports.append(Port(name=name, role="memory", dtype=dtype, shape=action.shape, array=action.name))
        for i, part in enumerate(self.network.initial_state(1)):
            if part.count_nonzero():
                raise UsageError(
                    "expected a memory that is zero where an episode begins, this network's core has another"
                )
            shape = tuple(part.shape[1:])
            ports.append(Port(name=f"{STATE}_{i}", role="memory", dtype=_name_of(part.dtype), shape=shape))
        return ports

    def _output(self, name: str, tensor: Tensor, places: dict[str, Place]) -> Port:
        place = places[name]
        dtype, shape = _name_of(tensor.dtype), tuple(tensor.shape[1:])
        return Port(name=name, role=place.role, dtype=dtype, shape=shape, array=place.array)

    def _places(self, inputs: list[Port], numbers: Iterable[str]) -> dict[str, Place]:
        """What each output is."""
        actions = port_names("action", self._actions).items()
        places = [Place(name, "action", array) for array, name in actions]
        places += [number_port(name, self._actions) for name in numbers]
        places += [Place(_next(port.name), "memory", port.array) for port in inputs if port.role == "memory"]
        return {place.name: place for place in places}


class OwnUnits(nn.Module):
    """An action as it is sent, `[N, *shape]`, to what the environment's own space contains: dtype and bounds."""

    low: Tensor
    high: Tensor

    def __init__(self, spec: ArraySpec) -> None:
        super().__init__()
        self._kind, self._dtype = spec.kind, getattr(torch, spec.source_dtype)
        self.register_buffer("low", torch.from_numpy(spec.lower.copy()), persistent=False)
        self.register_buffer("high", torch.from_numpy(spec.upper.copy()), persistent=False)

    def forward(self, sent: Tensor) -> Tensor:
        """See the class."""
        if self._kind == "binary":
            return sent.to(self._dtype)
        if self._kind == "discrete":
            return (sent + self.low.long()).to(self._dtype)
        share = (sent.double() + 1) / 2
        action = (self.low * (1 - share) + self.high * share).to(self._dtype)
        return torch.minimum(torch.maximum(action, self.low.to(self._dtype)), self.high.to(self._dtype))


def zero_rows(ports: Sequence[Port], count: int) -> tuple[Tensor, ...]:
    """So many rows of zeros for each port."""
    return tuple(torch.zeros((count, *port.shape), dtype=getattr(torch, port.dtype)) for port in ports)


def zero_where(first: Tensor, x: Tensor) -> Tensor:
    """`[N, ...]`, zero in the rows that `first` `[N]` names."""
    return torch.where(first.reshape(-1, *[1] * (x.dim() - 1)), torch.zeros_like(x), x)


def _observation(name: str, array: ArraySpec) -> Port:
    if array.role == "action_mask":
        return Port(name="action_mask", role="action_mask", dtype=array.dtype, shape=array.shape, array=array.name)
    return Port(name=name, role="observation", dtype=array.dtype, shape=array.shape, array=array.name)


def _travels_as(action: ArraySpec) -> torch.dtype:
    return TORCH_DTYPES["float32"] if action.kind == "box" else torch.int64


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _next(name: str) -> str:
    """The output that a part of the memory is after the step."""
    return name.replace("memory.", "next.", 1)
