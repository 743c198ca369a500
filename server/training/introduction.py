"""Introduction of a run, at its start: which task, who learns, with how many environments, until when; for people."""

from __future__ import annotations

import shlex
from typing import Any

from seedbed.common.array_spec import ArraySpec
from seedbed.common.plugins import is_module
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.networks.array_kinds import computes_in_half, describe, frame_stacks, shows_pixels
from seedbed.server.options.config import ServerConfig
from seedbed.server.training.rules import rules


def introduce(
    config: ServerConfig,
    spec: EnvironmentSpec,
    device: str,
    num_parameters: int,
    *,
    address: str | None,
    dashboard: str | None = None,
    world: int = 1,
) -> list[str]:
    """One line for each thing that a person wants to know before the first number comes, and why it is so.

    Args:
        config: of the run.
        spec: of its environment.
        device: of inference and learning.
        num_parameters: of all that is learnt.
        address: that clients elsewhere connect to; None: they run on this machine.
        dashboard: its address, or how to get one; None: there is none.
        world: learners of the run.
    """
    run_dir = shlex.quote(str(config.run.run_dir))
    return [
        f"environment   {_environment(spec)}",
        *([f"tasks         {_tasks(config)}"] if spec.tasks else []),
        f"algorithm     {_algorithm(spec, config)}",
        f"network       {_network(spec, config)}; {num_parameters:,} parameters",
        f"device        {device}",
        *([] if world == 1 else [f"learners      {_learners(config, world)}"]),
        f"environments  {'' if world == 1 else 'of each: '}{_environments(spec, config, address is None)}",
        *(
            []
            if address is None
            else [f"clients       {_client_command(config, address)}; room for {config.num_slots}"]
        ),
        f"target        {_target(config)}",
        *([] if dashboard is None else [f"dashboard     {dashboard}"]),
        f"curves        tensorboard --logdir {run_dir}, or seedbed plot {run_dir}",
    ]


def _client_command(config: ServerConfig, address: str) -> str:
    """What is typed beside the environments, with what lets a client in and a module that only its owner may name."""
    credentials, env = config.serving.credentials, config.environment.env or ""
    options = {
        "--tls-ca": "CA" if credentials.tls_cert else None,
        "--tls-cert": "CERT --tls-key KEY" if credentials.tls_client_ca else None,
        "--token-file": shlex.quote(str(credentials.token_file)) if credentials.token_file else None,
        "--env": env if is_module(env) else None,
    }
    given = [f"{flag} {value}" for flag, value in options.items() if value is not None]
    return " ".join(["seedbed env --server", address, *given])


def _environment(spec: EnvironmentSpec) -> str:
    preset = f" ({spec.preset})" if spec.preset else ""
    mask = ", with an action mask" if spec.mask_position is not None else ""
    return f"{spec.environment}{preset}: shows {_listed(map(describe, spec.shown))}; takes {_actions(spec)}{mask}"


def _actions(spec: EnvironmentSpec) -> str:
    def words(action: ArraySpec) -> str:
        if action.kind == "box":
            return f"{action.num_elements} numbers" if action.num_elements > 1 else "one number"
        return describe(action)

    return _listed(map(words, spec.actions))


def _algorithm(spec: EnvironmentSpec, config: ServerConfig) -> str:
    clipping = config.learning.reward_clipping
    rewards = {
        "none": "rewards as they are",
        "abs_one": "rewards clipped to [-1, 1]" + (", as is usual for Atari" if spec.preset else ""),
    }.get(clipping, f"rewards squashed ({clipping})")
    return f"{config.algorithm}: unrolls of {config.learning.unroll_length} steps; {rewards}"


def _network(spec: EnvironmentSpec, config: ServerConfig) -> str:
    network = config.network
    torso = f"torso {network.torso}"
    if network.torso == "auto":
        torso += f", {'an encoder for each array' if len(spec.shown) > 1 else 'by the array that is shown'}"
    stacks = frame_stacks(spec.shown, network.frame_stack)
    pairs = zip(spec.shown, stacks, strict=True)
    stacked = [f"{stack} frames of {describe(array)} at once" for array, stack in pairs if stack > 1]
    half = network.precision == "bfloat16" and any(map(computes_in_half, spec.shown))
    core = "no memory" if network.core == "none" else f"memory {network.core} of {network.core_size}"
    if network.attends:
        core += f", {network.core_layers} layers over {network.core_memory} rows"
    normalised = ["numbers to mean 0 and spread 1"] if network.normalise_observations == "on" else []
    return "; ".join([torso, *stacked, *normalised, "images in bfloat16" if half else "float32", core])


def _environments(spec: EnvironmentSpec, config: ServerConfig, local: bool) -> str:
    fleet = config.fleet
    why = ""
    if fleet.num_envs == rules(spec)["fleet.num_envs"]:
        why = ", the number for pixels" if shows_pixels(spec.shown) else ", fewer than for pixels: steps are cheap"
    greedy = f"; {fleet.num_greedy} of them only show the score" if fleet.num_greedy else ""
    where = " on this machine" if local else " expected from elsewhere"
    return f"{fleet.num_envs}{where}{why}{greedy}"


def _tasks(config: ServerConfig) -> str:
    """Their names, and the share of each where they differ."""
    names, shares = config.tasks.names, config.tasks.plan.shares
    told = "the network is told which" if config.network.task_input else "the network is not told which"
    if len(set(shares)) == 1:
        return f"{len(names)}, in equal shares: {_listed(names)}; {told}"
    shown = [f"{name} {share:.0%}" for name, share in zip(names, shares, strict=True)]
    return f"{len(names)}: {_listed(shown)}; {told}"


def _learners(config: ServerConfig, world: int) -> str:
    """What is of each and what of all: options are of each, as everywhere where torchrun is used."""
    environments = f"{world * config.fleet.num_envs} environments"
    if config.replicas.exchange == "gossip":
        return f"{world}, each mixed with its neighbour after every update; {environments}"
    if config.replicas.exchange == "parameter_server":
        return (
            f"{world}, whose gradients are applied as they come, each keeping a part of the parameters; {environments}"
        )
    return (
        f"{world}, whose gradients are one: {environments}, train batches of {world} x {config.learning.batch_size} "
        "unrolls; the learning rate stays as it is"
    )


def _target(config: ServerConfig) -> str:
    run, tasks = config.run, config.tasks
    steps = f"{run.max_steps:,} steps"
    seconds = "" if run.max_seconds is None else f" or {run.max_seconds:g} s"
    own = sum(task.target is not None for task in tasks.tasks)
    score = [] if tasks.target_score is None else [f"a capped mean of {tasks.target_score:g} of people's scores"]
    if tasks.tasks and (own or score or run.target_return is not None):
        every = [] if run.target_return is None and not own else ["the return of each task that has a target"]
        return f"{' or '.join([*score, *every])}, or {steps}{seconds}"
    if run.target_return is None:
        return f"none: ends after {steps}{seconds}; --target-return X stops when returns reach X"
    return f"a return of {run.target_return:g}, or {steps}{seconds}"


def _listed(parts: Any) -> str:
    texts = list(parts)
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
