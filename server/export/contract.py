"""Contract of an exported policy: what goes in, what comes out, and what is fed back; JSON beside the file and in it.

Everything has the number of environments N as its first dimension, which is free. A player needs this alone:

    memory = zeros for each entry of "memory"; first = True at the beginning of an episode
    outputs = run(observations, first, ..., memory)
    memory = for each entry, the output that it names
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from seedbed.common.specs import EnvironmentSpec

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """One input or output.

    Attributes:
        name: in the file.
        role: what it is: "observation", "action_mask", "first", "reward" or "memory" goes in; "action", "memory" and
            what an algorithm says beside comes out ("logits", "mean", "mean_before_tanh", "log_deviation", "q_values",
            "value").
        dtype: NumPy's name of it.
        shape: of one environment.
        array: the array of the environment's contract that it belongs to; None of all others.
    """

    name: str
    role: str
    dtype: str
    shape: tuple[int, ...] = ()
    array: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As it stands in the file."""
        data = {"name": self.name, "role": self.role, "dtype": self.dtype, "shape": list(self.shape)}
        return data if self.array is None else {**data, "array": self.array}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """An exported policy.

    Attributes:
        seedbed_version: that wrote it.
        algorithm: that learnt it.
        agent_steps: after which it was saved.
        acts: how `seedbed eval` has it act: "greedily", as the output "action" says, or "sampled" from its policy.
        inputs, outputs: in the order of the file.
        memory: name of an input -> name of the output that it is at the next step; zeros at first.
        spec: of the environment.
    """

    seedbed_version: str
    algorithm: str
    agent_steps: int
    acts: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    memory: Mapping[str, str]
    spec: EnvironmentSpec

    def to_json(self) -> dict[str, Any]:
        """As it stands in the file."""
        return {
            "format": FORMAT,
            "seedbed_version": self.seedbed_version,
            "algorithm": self.algorithm,
            "agent_steps": self.agent_steps,
            "acts": self.acts,
            "inputs": [port.to_json() for port in self.inputs],
            "outputs": [port.to_json() for port in self.outputs],
            "memory": dict(self.memory),
            "spec": self.spec.to_json(),
        }

    def to_text(self) -> str:
        """JSON of it."""
        return json.dumps(self.to_json(), indent=2) + "\n"


class Place(NamedTuple):
    """What an output is: see `Port`."""

    name: str
    role: str
    array: str | None


def number_port(name: str, actions: Sequence[str]) -> Place:
    """The output for a number of a policy, as `Best.numbers` names it: "logits./arm" of the action array "/arm"."""
    title, _, array = name.partition(".")
    return Place(port_names(title, actions)[array], title, array) if array else Place(title, title, None)


def port_names(prefix: str, arrays: Iterable[str]) -> dict[str, str]:
    """Names of ports for arrays of a contract: "/arm[2]" with the prefix "observation" is "observation.arm_2".

    The only array of a space that is no container has the prefix alone.
    """
    names: dict[str, str] = {}
    for array in arrays:
        marked = array.startswith(("/", "["))
        words = "".join(c if c.isalnum() else "_" for c in array).strip("_") if marked else ""
        name = f"{prefix}.{words}" if words else prefix
        while name in names.values():  # "/a_b" and "/a/b"
            name += "_"
        names[array] = name
    return names
