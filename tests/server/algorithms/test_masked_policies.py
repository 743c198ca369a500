"""What a head says of forbidden values is of no account: NaN there changes no draw, no loss and no gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from seedbed.common.specs import ArraySpec, discrete
from seedbed.server.algorithms.a3c import A2C
from seedbed.server.algorithms.acting import Acting
from seedbed.server.algorithms.actor_critic import ActorCriticAlgorithm
from seedbed.server.algorithms.ppo import PPO
from seedbed.server.algorithms.vtrace import VTrace
from seedbed.server.experience.unroll import ACTION_MASK
from seedbed.server.networks.distributions import ActionSpace
from seedbed.server.networks.interface import Inputs
from seedbed.server.training.recording import record, with_fields
from tests.server.algorithms.test_action_spaces import SPACES, learner_of, made, spec_of

BOX = ArraySpec(name="/box", dtype="float32", shape=(2,), low=(-1,), high=(1,))
MASKED = {
    "discrete": SPACES["discrete"],
    "multi-discrete": SPACES["multi-discrete"],
    "mixed": (discrete("/one", 3), *SPACES["multi-discrete"], BOX),
}
every_space = pytest.mark.parametrize("actions", MASKED.values(), ids=MASKED)


def forbidden(actions: tuple[ArraySpec, ...], mask: Tensor) -> Tensor:
    """Where parameters `[..., P]` are logits of values that may not be taken; with none allowed all are."""
    groups = mask.split([size for action in actions for size in action.num_values], dim=-1)
    logits = torch.cat([(group == 0) & (group != 0).any(-1, keepdim=True) for group in groups], dim=-1)
    others = ActionSpace(actions).param_size - logits.shape[-1]  # boxes come last here
    return torch.cat((logits, torch.zeros(*logits.shape[:-1], others, dtype=torch.bool)), dim=-1)


def spoil(learner: Any, actions: tuple[ArraySpec, ...], mask: Tensor) -> None:
    """The head says NaN of everything that is forbidden."""

    def hook(_: Any, __: Any, parameters: Tensor) -> Tensor:
        return torch.where(forbidden(actions, mask), torch.nan, parameters)

    learner.network.policy.register_forward_hook(hook)


@every_space
@pytest.mark.parametrize("make", [VTrace, A2C, PPO])
def test_nan_at_forbidden_values_changes_neither_loss_nor_gradient(
    make: type[ActorCriticAlgorithm], actions: tuple[ArraySpec, ...]
) -> None:
    spec = spec_of(actions, masked=True)
    options: dict[str, Any] = {"epochs": 1, "minibatches": 1} if make is PPO else {}
    algorithm = made(make, spec, **options)
    clean, spoilt = learner_of(algorithm, 1e-2), learner_of(algorithm, 1e-2)
    batch = record(algorithm, clean.network, spec)
    mask = batch.fields[ACTION_MASK]
    where = forbidden(actions, mask)
    assert where.any()
    torch.manual_seed(1)
    ours = clean.update(batch, 0.0)
    if make is PPO:  # its one minibatch has the unrolls in another order
        torch.manual_seed(1)
        order = torch.randperm(batch.valid.shape[1])
        masks = iter((mask, mask[:, order]))
        policy: Any = spoilt.network.policy
        policy.register_forward_hook(
            lambda _, __, parameters: torch.where(forbidden(actions, next(masks)), torch.nan, parameters)
        )
        torch.manual_seed(1)
    else:
        spoil(spoilt, actions, mask)
    theirs = spoilt.update(with_fields(batch, behaviour=batch.fields["behaviour"].masked_fill(where, torch.nan)), 0.0)
    assert ours.metrics == theirs.metrics
    for x, y in zip(clean.learnt.parameters(), spoilt.learnt.parameters(), strict=True):
        assert torch.equal(x, y)


@every_space
@pytest.mark.parametrize("greedy", [False, True])
def test_nan_at_forbidden_values_changes_no_draw(actions: tuple[ArraySpec, ...], greedy: bool) -> None:
    spec = spec_of(actions, masked=True)
    algorithm = made(VTrace, spec)
    clean, spoilt = learner_of(algorithm), learner_of(algorithm)
    torch.manual_seed(0)
    num = 500
    mask = torch.randint(0, 2, (num, spec.num_mask_entries)).byte()
    last_action = tuple(
        torch.zeros(num, *action.shape, dtype=torch.float32 if action.kind == "box" else torch.int64)
        for action in actions
    )
    observations = (torch.randn(num, 1, 3), torch.randn(num, 1, 3))
    inputs = Inputs(observations, torch.ones(num, dtype=torch.uint8), torch.zeros(num), last_action, mask)
    spoil(spoilt, actions, mask)
    sent = []
    for learner in (clean, spoilt):
        generator = torch.Generator().manual_seed(3)
        acting = Acting(torch.arange(num), generator, 0, torch.full((num,), greedy))
        sent.append(algorithm.act(learner.network, inputs, (), acting).sent)
    assert all(torch.equal(x, y) for x, y in zip(*sent, strict=True))
