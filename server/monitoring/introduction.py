"""Introduction of a run, at its start: which task, who learns, with how many environments, until when; for people."""

from __future__ import annotations

from collections.abc import Sequence

from seedbed.common.array_spec import ArraySpec
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.options.config import ServerConfig


def introduce(
    config: ServerConfig,
    spec: EnvironmentSpec,
    device: str,
    num_parameters: int,
    *,
    local: bool,
    reasons: Sequence[str] = (),
) -> list[str]:
    """One line for each thing that a person wants to know before the first number comes.

    Args:
        config: of the run.
        spec: of its environment.
        device: of inference and learning.
        num_parameters: of all that is learnt.
        local: environment clients run on this machine.
        reasons: why settings are what they are, where rules chose them.
    """
    network = config.network
    core = "" if network.core == "none" else f" and {network.core}"
    run_dir = config.run.run_dir
    lines = [
        f"task          {spec.environment}{f', preset {spec.preset}' if spec.preset else ''}: "
        f"sees {_arrays(spec.shown)}, does {_arrays(spec.actions)}",
        f"learns by     {config.algorithm} on {device}; network {network.torso}{core}, {num_parameters:,} parameters",
        f"environments  {_environments(config, local)}",
        f"until         {' or '.join(_ends(config))}",
        f"curves        tensorboard --logdir {run_dir}, or seedbed plot {run_dir}",
    ]
    return [*lines, *(f"{'chosen' if number == 0 else '':<14}{reason}" for number, reason in enumerate(reasons))]


def next_commands(config: ServerConfig, verb: str, reached: str | None) -> list[str]:
    """What a person may want to do when a run has ended.

    Args:
        config: of the run.
        verb: it was started with.
        reached: the stop condition that ended it, if one did.
    """
    run_dir = config.run.run_dir
    return [
        f"score     seedbed eval {run_dir}",
        f"curves    seedbed plot {run_dir}",
        f"go on     {continuation(config, verb, reached)}",
    ]


def continuation(config: ServerConfig, verb: str, reached: str | None) -> str:
    """The command that continues a run: the same again, with more of what ended it."""
    command = f"seedbed {verb} --run-dir {config.run.run_dir}"
    run = config.run
    if reached is None:
        return command
    if "agent steps" in reached:
        return f"{command} --max-steps {2 * run.max_steps}"
    if "return" in reached:
        return f"{command} --target-return none (or a higher one)"
    return f"{command} --max-seconds none (or more)"


def count(number: int, thing: str) -> str:
    """As "1 episode", "2 episodes"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _arrays(specs: Sequence[ArraySpec]) -> str:
    return ", ".join(map(_array, specs))


def _array(spec: ArraySpec) -> str:
    """As "one of 18" or "84 x 84 x 1 uint8"."""
    if spec.kind == "discrete" and not spec.shape:
        return f"one of {spec.num_values[0]}"
    return f"{' x '.join(map(str, spec.shape)) or 'one'} {spec.dtype}"


def _environments(config: ServerConfig, local: bool) -> str:
    fleet = config.fleet
    where = "on this machine" if local else f"expected from elsewhere, room for {config.num_slots}"
    score = f"; {fleet.num_greedy} of them only show the score" if fleet.num_greedy else ""
    return f"{fleet.num_envs} {where}{score}"


def _ends(config: ServerConfig) -> list[str]:
    run = config.run
    ends = [f"{run.max_steps:,} agent steps"]
    if run.max_seconds is not None:
        ends.append(f"{run.max_seconds:g} s")
    if run.target_return is not None:
        ends.insert(0, f"a mean return of {run.target_return:g}")
    return ends
