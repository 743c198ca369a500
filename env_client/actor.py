"""The actor's loop: timesteps -> actions -> step. It knows nothing of networks, neither neural nor of computers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from seedbed.common.timestep import Array, Timesteps
from seedbed.env_client.environments.interface import Group


class LeaseLost(Exception):
    """The server no longer knows this group's rows: its environments must start new episodes."""


class IndicesChanged(Exception):
    """The server has given this group's rows other environment indices: all environments must be built anew."""


class RunFinished(Exception):
    """The run reached its stop condition: no more actions will come."""


class Stopped(Exception):
    """This process was told to stop while it waited for actions."""


class Policy(Protocol):
    """Answers timesteps with actions, for several groups of environments independently."""

    def send(self, group: int, rows: Timesteps) -> None:
        """Asks for the actions of a group; copies what it needs and does not wait for the answer."""

    def receive(self, group: int) -> tuple[Array, ...]:
        """Waits for the actions that answer the last `send` of this group.

        Returns:
            One array `[E, ...]` for each action spec.

        Raises:
            LeaseLost: reset the environments and send FIRST rows instead.
            IndicesChanged: start over with new environments.
            RunFinished, Stopped: leave.
        """


def run_actor(policy: Policy, groups: Sequence[Group], *, stop: Callable[[], bool]) -> None:
    """Steps environments until told to stop or until the run is finished.

    With two groups one half is stepped while the other half's actions are computed.

    Args:
        policy: where actions come from.
        groups: environments, by group number.
        stop: asked before each round of all groups.

    Raises:
        IndicesChanged: from the policy.
    """
    for group, environments in enumerate(groups):
        policy.send(group, environments.reset())
    try:
        while not stop():
            for group, environments in enumerate(groups):
                policy.send(group, _next_timesteps(policy, group, environments))
    except (RunFinished, Stopped):
        return


def _next_timesteps(policy: Policy, group: int, environments: Group) -> Timesteps:
    try:
        actions = policy.receive(group)
    except LeaseLost:
        return environments.reset()
    return environments.step(actions)
