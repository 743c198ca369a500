"""Parts of soft actor-critics: stacked perceptrons, the squashed sample, joint actions, and whose gradient is whose."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seedbed.common.specs import ArraySpec, discrete
from seedbed.server.networks.distributions import ActionSpace
from seedbed.server.networks.ensemble import Ensemble
from seedbed.server.networks.soft import BoxCritics, SquashedPolicy, TableCritics, squashed_sample
from seedbed.server.options.network import NetworkConfig

SHOWN = (ArraySpec(name="observation", dtype="float32", shape=(3,)),)
FLAT = NetworkConfig(torso="flat", frame_stack=1, precision="float32")
BOXES = tuple(
    ArraySpec(name=name, dtype="float32", shape=(k,), low=(-2,), high=(3,)) for name, k in (("/a", 2), ("/b", 1))
)
SEVERAL = ArraySpec(name="/several", dtype="int64", shape=(2,), low=(0,), high=(2, 1), kind="discrete")
FACTORED = (discrete("/one", 2, start=3), SEVERAL)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_an_ensemble_is_its_members_apart(layer_norm: bool) -> None:
    torch.manual_seed(0)
    ensemble = Ensemble(3, (4, 8, 8, 2), layer_norm=layer_norm)
    with torch.no_grad():
        for parameter in (*ensemble.scales, *ensemble.shifts):
            parameter.add_(torch.randn_like(parameter))
    x = torch.randn(5, 6, 4)
    found = ensemble(x)
    assert found.shape == (3, 5, 6, 2)
    for member in range(3):
        hidden = x
        for layer, (weight, bias) in enumerate(zip(ensemble.weights, ensemble.biases, strict=True)):
            hidden = hidden @ weight[member] + bias[member, 0]
            if layer < 2:
                if layer_norm:
                    scale, shift = ensemble.scales[layer][member, 0], ensemble.shifts[layer][member, 0]
                    hidden = F.layer_norm(hidden, (8,), scale, shift)
                hidden = hidden.relu()
        torch.testing.assert_close(found[member], hidden)
    assert not torch.allclose(found[0], found[1]), "each starts with weights of its own"


def test_a_squashed_sample_and_its_density() -> None:
    """u = (1, -1.5) of means (0.5, -1) and log deviations (0, -0.5): -1.80266229 + 2.578442."""
    mean, log_deviation = torch.tensor([[0.5, -1.0], [0.0, -0.5]], dtype=torch.float64)
    noise = (torch.tensor([1.0, -1.5], dtype=torch.float64) - mean) / log_deviation.exp()
    action, log_prob = squashed_sample(mean, log_deviation, noise)
    torch.testing.assert_close(action, torch.tensor([1.0, -1.5], dtype=torch.float64).tanh())
    assert float(log_prob) == pytest.approx(0.77577971)


@pytest.mark.parametrize("u", [4.0, 8.0, 12.0, -40.0])
def test_the_density_far_out_has_a_gradient_that_pushes_back(u: float) -> None:
    mean = torch.tensor([u], requires_grad=True)
    _, log_prob = squashed_sample(mean, torch.tensor([-1.0]), torch.zeros(1))
    log_prob.backward()
    assert log_prob.isfinite()
    assert mean.grad is not None
    assert float(mean.grad) == pytest.approx(2.0 if u > 0 else -2.0, abs=0.01)


def test_the_learner_values_the_policy_that_acts() -> None:
    """Densities of several boxes, of the distribution and of what the critics are given."""
    torch.manual_seed(0)
    space = ActionSpace(BOXES, squash=True)
    policy = SquashedPolicy(SHOWN, space, FLAT, hidden=(8,))
    features = torch.randn(7, 3)
    mean, log_deviation = policy.outputs(features).chunk(2, -1)
    distribution = space.distribution(policy.heads(features))
    samples = distribution.sample(torch.Generator().manual_seed(1))
    noise = (torch.cat(samples, -1) - mean) / log_deviation.exp()
    action, log_prob = squashed_sample(mean, log_deviation, noise)
    torch.testing.assert_close(action, space.encode(space.sent(samples)))
    torch.testing.assert_close(log_prob, distribution.log_prob(samples), rtol=1e-4, atol=1e-4)
    assert log_deviation.std() > 0.01, "the row moves the deviation"


def test_deviations_have_bounds() -> None:
    policy = SquashedPolicy(SHOWN, ActionSpace(BOXES, squash=True), FLAT, hidden=())
    outputs = policy.outputs(1e4 * torch.randn(50, 3)).detach()[:, 3:]
    assert float(outputs.min()) == -20
    assert float(outputs.max()) == 2


def test_the_policy_has_no_gradient_on_its_body() -> None:
    config = NetworkConfig(torso="mlp", core="lstm", core_size=4, frame_stack=1, precision="float32")
    policy = SquashedPolicy(SHOWN, ActionSpace(BOXES, squash=True), config, hidden=(8,))
    features = torch.randn(5, 4, requires_grad=True)
    assert not torch.autograd.grad(policy.outputs(features).sum(), features, allow_unused=True)[0]


def table(actions: Sequence[ArraySpec], num_features: int = 3) -> TableCritics:
    return TableCritics(num_features, ActionSpace(actions), actions, count=2, hidden=(), layer_norm=False)


def of_constants(critics: TableCritics, q_values: Sequence[Sequence[float]]) -> TableCritics:
    """Every row has these values."""
    with torch.no_grad():
        critics.q.weights[0].zero_()
        critics.q.biases[0].copy_(torch.tensor(q_values)[:, None])
    return critics.double()


def test_discrete_values_are_exact() -> None:
    critics = of_constants(table((discrete("action", 3),)), [[1.0, 2.0, 0.5], [1.5, 1.0, 1.0]])
    logits = torch.tensor([[0.5, -0.5, 0.0]], dtype=torch.float64, requires_grad=True)
    worth = critics.soft_value(torch.zeros(1, 3, dtype=torch.float64), logits, None, torch.tensor(0.2))
    assert float(worth.value.detach()) == pytest.approx(1.05044032)
    assert float(worth.entropy.detach()) == pytest.approx(1.020191, abs=1e-6)
    (gradient,) = torch.autograd.grad(-worth.value.sum(), logits)
    torch.testing.assert_close(
        gradient[0], torch.tensor([-0.043362, -0.053217, 0.096578], dtype=torch.float64), atol=1e-6, rtol=0
    )


def test_joint_actions_have_the_product_of_their_parts() -> None:
    torch.manual_seed(0)
    critics, space = table(FACTORED), ActionSpace(FACTORED)
    assert critics.joint.tolist() == [[a, b, c] for a in range(2) for b in range(3) for c in range(2)]
    logits = torch.randn(4, 7)
    one, first, second = (part.log_softmax(-1) for part in logits.split([2, 3, 2], -1))
    expected = (one[:, :, None, None] + first[:, None, :, None] + second[:, None, None, :]).flatten(1)
    torch.testing.assert_close(critics.log_policy(logits, None), expected)
    actions = space.distribution(logits).sample(torch.Generator().manual_seed(0))
    features = torch.randn(4, 3)
    index = actions[0] * 6 + actions[1][:, 0] * 2 + actions[1][:, 1]
    expected = critics.q(features)[:, torch.arange(4), index]
    torch.testing.assert_close(critics.taken(features, actions), expected)


def test_forbidden_actions_have_no_say() -> None:
    """Whatever critics and policy make of them, NaN included."""
    mask = torch.tensor([[1, 1, 1, 0, 1, 1, 1]], dtype=torch.uint8)
    q_values = torch.arange(12.0).expand(2, 12).clone()
    found: list[Tensor] = []
    for absurd in (0.0, torch.nan):
        changed = q_values.clone()
        changed[:, [2, 3, 8, 9]] = absurd
        critics = of_constants(table(FACTORED), changed.tolist())
        logits = torch.zeros(1, 7, dtype=torch.float64, requires_grad=True)
        worth = critics.soft_value(torch.zeros(1, 3, dtype=torch.float64), logits, mask, torch.tensor(0.2))
        assert float(worth.entropy.detach()) == pytest.approx(torch.tensor([2.0, 2.0, 2.0]).log().sum())
        (gradient,) = torch.autograd.grad(worth.value.sum(), logits)
        assert gradient[0, 3] == 0
        found += [worth.value, gradient]
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[1], found[3])


def test_critics_of_boxes_read_every_action() -> None:
    torch.manual_seed(0)
    critics = BoxCritics(3, ActionSpace(BOXES, squash=True), count=2, hidden=(8,), layer_norm=False)
    actions = (torch.rand(4, 2, requires_grad=True), torch.rand(4, 1, requires_grad=True))
    gradients = torch.autograd.grad(critics.taken(torch.randn(4, 3), actions).sum(), actions)
    assert all(bool((gradient != 0).all()) for gradient in gradients)
