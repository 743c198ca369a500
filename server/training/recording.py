"""Train batches of any action space: a policy answers random rows, and what it recorded is laid out as a server does.

No server is involved: rows of B environments, all in step, with FIRST and LAST at random, and a random action mask
where the spec has one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from seedbed.common.specs import ArraySpec, EnvironmentSpec
from seedbed.common.timestep import StepType
from seedbed.server.algorithms.acting import Acting, Decision
from seedbed.server.algorithms.interface import Algorithm
from seedbed.server.experience.batch import Sample, TrainBatch, valid_transitions
from seedbed.server.experience.unroll import (
    ACTION_MASK,
    TASK,
    TORCH_DTYPES,
    Provenance,
    action_field,
    last_action_field,
)
from seedbed.server.networks.interface import Inputs, PolicyNetwork

Reward = Callable[[tuple[Tensor, ...]], Tensor]


def record(
    algorithm: Algorithm,
    network: PolicyNetwork,
    spec: EnvironmentSpec,
    *,
    num_unrolls: int = 8,
    seed: int = 0,
    version: int = 0,
    reward: Reward | None = None,
    greedy: bool = False,
) -> TrainBatch:
    """One train batch.

    Args:
        algorithm: picks the actions.
        network: of that algorithm.
        spec: of the environment; a network sees one frame of each observation.
        num_unrolls: B.
        seed: of rows and actions.
        version: of the policy.
        reward: of what was sent, `[B]`; random otherwise.
        greedy: environments take the best action.
    """
    generator = torch.Generator().manual_seed(seed)
    state = first_state = network.initial_state(num_unrolls)
    step_types = _step_types(algorithm.num_rows, num_unrolls, generator)
    sent = tuple(
        torch.zeros(num_unrolls, *action.shape, dtype=torch.float32 if action.kind == "box" else torch.int64)
        for action in spec.actions
    )
    earned = torch.zeros(num_unrolls)
    task = torch.arange(num_unrolls) % spec.num_tasks if spec.num_tasks > 1 else None
    rows: list[dict[str, Tensor]] = []
    shown: list[tuple[Tensor, ...]] = []
    for step_type in step_types:
        first = step_type == StepType.FIRST
        last_action = tuple(_zeroed(action, first) for action in sent)
        observations = tuple(_observation(array, num_unrolls, generator) for array in spec.shown)
        mask = None
        if spec.mask_position is not None:
            mask = torch.randint(0, 2, (num_unrolls, spec.num_mask_entries), generator=generator).byte()
        inputs = Inputs(observations, step_type, _zeroed(earned, first), last_action, mask, task)
        chosen = torch.full((num_unrolls,), greedy)
        with torch.no_grad():
            decision = algorithm.act(network, inputs, state, Acting(torch.arange(num_unrolls), generator, 0, chosen))
        state, sent = decision.state, decision.sent
        rows.append(_row(spec, inputs, decision, version))
        shown.append(observations)
        earned = torch.randn(num_unrolls, generator=generator) if reward is None else reward(sent)
    fields = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    length = torch.full((num_unrolls,), algorithm.num_rows)
    return TrainBatch(
        observations=tuple(torch.stack(array) for array in zip(*shown, strict=True)),
        fields=fields,
        state=first_state,
        valid=valid_transitions(fields["step_type"], length),
        provenance=tuple(Provenance(b, b, b, 0, algorithm.num_rows) for b in range(num_unrolls)),
        trained_rows=algorithm.trained_rows or range(algorithm.num_rows - 1),
        sample=_evenly_drawn(num_unrolls) if algorithm.regime == "replay" else None,
    )


def with_fields(batch: TrainBatch, **fields: Tensor) -> TrainBatch:
    """The batch with other values of some fields."""
    return replace(batch, fields={**batch.fields, **fields})


def _evenly_drawn(num_unrolls: int) -> Sample:
    """Unrolls of equal importance, each drawn once."""
    return Sample(np.arange(num_unrolls), np.zeros(num_unrolls, np.int64), torch.ones(num_unrolls))


def _step_types(num_rows: int, num_unrolls: int, generator: torch.Generator) -> Tensor:
    ends = torch.rand(num_rows, num_unrolls, generator=generator) < 0.15
    kinds = torch.full((num_rows, num_unrolls), StepType.MID, dtype=torch.uint8)
    kinds[0] = StepType.FIRST
    for t in range(1, num_rows):
        after = kinds[t - 1] == StepType.LAST
        kinds[t][ends[t]] = StepType.LAST
        kinds[t][after] = StepType.FIRST
    return kinds


def _row(spec: EnvironmentSpec, inputs: Inputs, decision: Decision, version: int) -> dict[str, Tensor]:
    names = [action.name for action in spec.actions]
    fields = {
        "step_type": inputs.step_type,
        "reward": inputs.reward,
        "discount": torch.ones_like(inputs.reward),
        "policy_version": torch.full(inputs.step_type.shape, version),
        **dict(zip(map(action_field, names), decision.actions, strict=True)),
        **dict(zip(map(last_action_field, names), inputs.last_action, strict=True)),
        **decision.recorded,
    }
    if inputs.task is not None:
        fields[TASK] = inputs.task
    return fields if inputs.mask is None else fields | {ACTION_MASK: inputs.mask}


def _observation(spec: ArraySpec, num_unrolls: int, generator: torch.Generator) -> Tensor:
    """Random frames within bounds, `[B, 1, *shape]`."""
    shape = (num_unrolls, 1, *spec.shape)
    if spec.dtype.startswith("float"):
        return torch.randn(shape, generator=generator).to(TORCH_DTYPES[spec.dtype])
    low, high = (int(min(spec.low)), int(max(spec.high))) if spec.bounded else (0, 100)
    return torch.randint(low, high + 1, shape, generator=generator).to(TORCH_DTYPES[spec.dtype])


def _zeroed(x: Tensor, first: Tensor) -> Tensor:
    return x.masked_fill(first.reshape(-1, *[1] * (x.dim() - 1)), 0)
