"""Rules about what an environment shows: values of common options, and what was chosen in people's words.

They never look at an environment's name. An algorithm's own settings, presets and people win over them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seedbed.common.specs import ArraySpec, EnvironmentSpec
from seedbed.server.networks.array_kinds import computes_in_half, describe, frame_stacks, image_of
from seedbed.server.options.config import ServerConfig

_WITH_IMAGES: Mapping[str, Any] = {
    "fleet.num_envs": 64,
    "learning.batch_size": 32,
    "run.max_steps": 20_000_000,
    "run.log_interval_s": 10.0,
}
_WITHOUT: Mapping[str, Any] = {
    # Steps are cheap and few are needed: more updates for each of them, fewer environments.
    "fleet.num_envs": 16,
    "learning.batch_size": 8,
    "run.max_steps": 1_000_000,
    "run.log_interval_s": 2.0,
}


def rules(spec: EnvironmentSpec) -> Mapping[str, Any]:
    """Dotted option -> value, by what an environment shows."""
    stacks = set(frame_stacks(spec.shown, None))
    return {
        **(_WITH_IMAGES if _shows_images(spec) else _WITHOUT),
        "network.frame_stack": stacks.pop() if len(stacks) == 1 else None,
        "network.precision": "bfloat16" if any(map(computes_in_half, spec.shown)) else "float32",
        # Scores of Atari games differ by a factor of a thousand; whoever made another environment chose its rewards.
        "learning.reward_clipping": "abs_one" if spec.preset else "none",
    }


def explain(spec: EnvironmentSpec, config: ServerConfig) -> list[str]:
    """What a run does and why: environment, algorithm, network, environments and target, a line each."""
    return [
        f"environment   {_environment(spec)}",
        f"algorithm     {_algorithm(spec, config)}",
        f"network       {_network(spec, config)}",
        f"environments  {_environments(spec, config)}",
        f"target        {_target(config)}",
    ]


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
    return "; ".join([torso, *stacked, "images in bfloat16" if half else "float32", core])


def _environments(spec: EnvironmentSpec, config: ServerConfig) -> str:
    fleet = config.fleet
    why = ""
    if fleet.num_envs == rules(spec)["fleet.num_envs"]:
        why = ", the number for images" if _shows_images(spec) else ", fewer than for images: steps are cheap"
    greedy = f"; {fleet.num_greedy} of them only show the score" if fleet.num_greedy else ""
    return f"{fleet.num_envs}{why}{greedy}"


def _target(config: ServerConfig) -> str:
    run = config.run
    steps = f"{run.max_steps:,} steps"
    seconds = "" if run.max_seconds is None else f" or {run.max_seconds:g} s"
    if run.target_return is None:
        return f"none: ends after {steps}{seconds}; --target-return X stops when returns reach X"
    return f"a return of {run.target_return:g}, or {steps}{seconds}"


def _shows_images(spec: EnvironmentSpec) -> bool:
    return any(image_of(array) is not None for array in spec.shown)


def _listed(parts: Any) -> str:
    texts = list(parts)
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
