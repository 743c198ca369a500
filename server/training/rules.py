"""Rules about what an environment shows, and about what a memory costs: values of options.

They never look at a name of an environment or an algorithm. Presets and people win over them; an algorithm's own
settings win over the former.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seedbed.common.specs import EnvironmentSpec
from seedbed.server.networks.array_kinds import computes_in_half, frame_stacks, is_pixels, shows_pixels

_WITH_PIXELS: Mapping[str, Any] = {
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

_MOST_EPOCHS = "algorithm_options.epochs", 4
_VALUE_TORSO = "algorithm_options.separate_value_torso"


def rules_of_cost(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Dotted option -> value where a memory is most of what a network costs: neither had twice nor gone over so often.

    Args:
        options: what would be without.
    """
    path, most = _MOST_EPOCHS
    fewer = {path: most} if options.get(path, 0) > most else {}
    return fewer | ({_VALUE_TORSO: False} if options.get(_VALUE_TORSO) else {})


def rules(spec: EnvironmentSpec) -> Mapping[str, Any]:
    """Dotted option -> value, by what an environment shows."""
    stacks = set(frame_stacks(spec.shown, None))
    medians = {array.median for array in spec.shown if is_pixels(array)}
    by_kind = _WITH_PIXELS if shows_pixels(spec.shown) else _WITHOUT
    return {
        **by_kind,
        "fleet.num_envs": -(-by_kind["fleet.num_envs"] // spec.num_tasks) * spec.num_tasks,  # as many of each task
        "network.frame_stack": stacks.pop() if len(stacks) == 1 else None,
        "network.precision": "bfloat16" if any(map(computes_in_half, spec.shown)) else "float32",
        # What is mostly one colour: with that at 0 only what differs from it moves the first filters.
        "network.background": (medians.pop() if len(medians) == 1 else None) or 0.0,
        "network.normalise_observations": "off",
        # Scores of Atari games differ by a factor of a thousand; whoever made another environment chose its rewards.
        "learning.reward_clipping": "abs_one" if spec.preset else "none",
    }
