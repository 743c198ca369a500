"""Many elements of an action against one table of all their combinations, and the ratios that losses make of them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from seedbed.common.specs import ArraySpec, discrete
from seedbed.server.losses.ppo import clipped_surrogate_loss
from seedbed.server.losses.vtrace import vtrace
from seedbed.server.networks.distributions import ActionSpace


@pytest.mark.parametrize("seed", range(4))
def test_a_factored_policy_is_the_table_of_its_products(seed: int) -> None:
    """log pi, entropy, KL, rho and their gradients; sizes, masks and parameters at random."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [
        int(n) for n in torch.randint(2, 5, (int(torch.randint(1, 4, (), generator=generator)),), generator=generator)
    ]
    highs = tuple(float(n - 1) for n in sizes)
    array = ArraySpec(name="a", dtype="int64", shape=(len(sizes),), low=(0,), high=highs, kind="discrete")
    factored, total = ActionSpace((array, discrete("b", 3))), [*sizes, 3]
    table = ActionSpace((discrete("joint", torch.tensor(total).prod().item()),))  # type: ignore[arg-type]
    combinations = torch.tensor(list(itertools.product(*map(range, total))))
    mask = torch.randint(0, 2, (sum(total),), generator=generator)
    starts = torch.tensor([0, *itertools.accumulate(total)][:-1])
    mask[starts] = 1
    places = combinations + starts
    joint_mask = mask[places].all(-1).long()

    def joint(logits: Tensor) -> Tensor:
        return logits[places].sum(-1)

    x, y = (torch.randn(sum(total), generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2))
    chosen = int(joint_mask.nonzero()[int(torch.randint(0, 2, (), generator=generator))])
    action = (combinations[chosen, :-1], combinations[chosen, -1])
    p, q = (factored.distribution(logits, mask) for logits in (x, y))
    joint_p, joint_q = (table.distribution(joint(logits), joint_mask) for logits in (x, y))
    pairs = {
        "log pi": (p.log_prob(action), joint_p.log_prob((torch.tensor(chosen),))),
        "entropy": (p.entropy(), joint_p.entropy()),
        "KL": (p.kl(q), joint_p.kl(joint_q)),
        "log rho": (
            q.log_prob(action) - p.log_prob(action),
            joint_q.log_prob((torch.tensor(chosen),)) - joint_p.log_prob((torch.tensor(chosen),)),
        ),
    }
    for name, (ours, theirs) in pairs.items():
        torch.testing.assert_close(ours, theirs, msg=name)
        gradients = [torch.autograd.grad(term, (x, y), allow_unused=True, retain_graph=True) for term in (ours, theirs)]
        for one, other in zip(*gradients, strict=True):
            if one is not None:
                torch.testing.assert_close(one, other, msg=name)


def test_golden_ratio_of_a_vector_is_clipped_once() -> None:
    """V-trace over two dimensions: rho is the product, and a mean over dimensions would have another fixed point."""
    each = torch.tensor([[0.2, -0.5], [0.4, 0.3], [-1.0, 0.1]], dtype=torch.float64)
    column: dict[str, Any] = {
        "rewards": torch.tensor([[1.0], [0.0], [-1.0]], dtype=torch.float64),
        "discounts": torch.full((3, 1), 0.9, dtype=torch.float64),
        "values": torch.tensor([[0.5], [0.2], [-0.1], [0.3]], dtype=torch.float64),
        "valid": torch.ones(3, 1, dtype=torch.bool),
    }
    log_rhos = each.sum(-1, keepdim=True)
    assert log_rhos.exp().flatten().tolist() == pytest.approx([0.740818, 2.013753, 0.406570], abs=1e-6)
    found = vtrace(log_rhos=log_rhos, **column)
    assert found.vs.flatten().tolist() == pytest.approx([0.656703, -0.320525, -0.356139], abs=1e-6)
    assert found.advantages.flatten().tolist() == pytest.approx([0.156703, -0.520525, -0.256139], abs=1e-6)
    wrong = vtrace(log_rhos=each.mean(-1, keepdim=True), **column)
    assert wrong.vs.flatten().tolist() == pytest.approx([0.580578, -0.451535, -0.501706], abs=1e-6)


def test_golden_surrogate_of_a_vector() -> None:
    log_ratio = torch.tensor([[0.3 + 0.1]])
    assert log_ratio.exp().item() == pytest.approx(1.491825, abs=1e-6)
    loss = clipped_surrogate_loss(
        log_ratios=log_ratio,
        advantages=torch.tensor([[2.0]]),
        valid=torch.ones(1, 1, dtype=torch.bool),
        clip_ratio=0.2,
        reduction="mean",
    )
    assert loss.item() == pytest.approx(-2.4)
