"""What a run would be, for --dry-run: its options, environment, network, and what it takes. Nothing is written."""

from __future__ import annotations

import json
from collections.abc import Mapping

from torch import nn

from seedbed.common.options import to_json
from seedbed.common.specs import ArraySpec
from seedbed.server.algorithms.registry import find_algorithm
from seedbed.server.experience.regimes import REGIMES
from seedbed.server.experience.replay_size import bytes_per_unroll
from seedbed.server.training.assemble import make_layout
from seedbed.server.training.opening import OpenedRun


def describe_dry_run(opened: OpenedRun, learners: int = 1) -> str:
    """All of it, for people; `config` below the rest is JSON as in config.json.

    Args:
        opened: the run.
        learners: that train it together.

    Raises:
        SeedbedError: a part could not be built.
    """
    config, spec = opened.config, opened.spec
    algorithm = find_algorithm(config.algorithm)(config, spec)
    learnt = algorithm.make_learnt()
    layout = make_layout(config, spec, algorithm, algorithm.acting(learnt))
    unroll_bytes = bytes_per_unroll(layout)
    kept, what = REGIMES[algorithm.regime].capacity(config, algorithm.period), algorithm.regime
    lines = [
        f"{'run':<13}{opened.directory.path} ({'new' if opened.before is None else 'goes on'}; nothing was written)",
        f"{'environment':<13}{spec.environment}{f', preset {spec.preset}' if spec.preset else ''}",
        *(f"{'  shows' if number == 0 else '':<13}{_array(one)}" for number, one in enumerate(spec.observations)),
        *(f"{'  takes' if number == 0 else '':<13}{_array(one)}" for number, one in enumerate(spec.actions)),
        f"{'algorithm':<13}{config.algorithm}",
        f"{'network':<13}torso {config.network.torso}, core {config.network.core}; {_count(learnt):,} parameters",
        *(f"{'':<13}{name} {_count(part):,}" for name, part in _parts(learnt).items()),
        f"{'unroll':<13}{layout.num_rows} rows, {_size(unroll_bytes)}",
        f"{'open unrolls':<13}{config.num_slots} slots, {_size(config.num_slots * layout.num_captures * unroll_bytes)}",
        f"{what:<13}{kept} unrolls, {_size(kept * unroll_bytes)}",
        *([f"{'learners':<13}{learners}, each with all of this; {config.replicas.exchange}"] if learners > 1 else []),
        f"{'config':<13}",
        json.dumps(to_json(config), indent=2),
    ]
    return "\n".join(lines)


def _array(spec: ArraySpec) -> str:
    return f"{spec.name!r} {spec}{', an action mask' if spec.role == 'action_mask' else ''}"


def _parts(module: nn.Module) -> Mapping[str, nn.Module]:
    """The parts that have parameters, two levels deep: body.torso, policy_head."""
    found: dict[str, nn.Module] = {}
    for name, child in module.named_children():
        inner = {f"{name}.{path}": part for path, part in child.named_children() if _count(part)}
        found |= inner if len(inner) > 1 else ({name: child} if _count(child) else {})
    return found


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _size(num_bytes: float) -> str:
    for unit in ("bytes", "KB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} GB"
