"""Requirements on the actions of an environment, and how an algorithm refuses others."""

from __future__ import annotations

from seedbed.common.errors import SpecError
from seedbed.common.specs import EnvironmentSpec


def has_one_discrete_action(spec: EnvironmentSpec) -> bool:
    """Whether an environment has the only kind of action that an algorithm with one value per action can take."""
    return len(spec.actions) == 1 and spec.actions[0].kind == "discrete" and spec.actions[0].shape == ()


def expect_one_discrete_action(spec: EnvironmentSpec, algorithm: str) -> None:
    """Refuses other environments, and says which of the built-in algorithms can learn them.

    Raises:
        SpecError: it is another.
    """
    if not has_one_discrete_action(spec):
        raise other_actions(spec, algorithm, "one discrete action")


def other_actions(spec: EnvironmentSpec, algorithm: str, expected: str) -> SpecError:
    """The error of an algorithm that cannot learn an environment's actions, with the built-in ones that can."""
    from seedbed.server.algorithms.registry import suiting  # imports all of them

    came = ", ".join(f"{action.name!r} {action}" for action in spec.actions)
    others = ", ".join(suiting(spec))
    return SpecError(
        f"{spec.environment}: --algorithm {algorithm} expects {expected}, got {came}"
        + (f"; take one of {others}" if others else "")
    )
