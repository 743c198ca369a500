"""Introduction of a run, at its start: which task, who learns, with how many environments, until when; for people."""

from __future__ import annotations

from collections.abc import Sequence

from seedbed.server.options.config import ServerConfig


def introduce(
    lines: Sequence[str], config: ServerConfig, device: str, num_parameters: int, *, address: str | None
) -> list[str]:
    """One line for each thing that a person wants to know before the first number comes.

    Args:
        lines: of what a run does and why, see `training.rules.explain`.
        config: of the run.
        device: of inference and learning.
        num_parameters: of all that is learnt.
        address: that clients elsewhere connect to; None: they run on this machine.
    """
    run_dir = config.run.run_dir
    return [
        *lines,
        f"device        {device}; {num_parameters:,} parameters are learnt",
        *([] if address is None else [f"clients       seedbed env --server {address}; room for {config.num_slots}"]),
        f"curves        tensorboard --logdir {run_dir}, or seedbed plot {run_dir}",
    ]


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
