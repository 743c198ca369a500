"""Action distributions: golden numbers, samples against densities, masks, and what goes over the wire."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seedbed.common.specs import ArraySpec, discrete
from seedbed.server.networks.distributions import ActionSpace
from seedbed.server.networks.gaussians import log_slope


def box(*shape: int, name: str = "box") -> ArraySpec:
    return ArraySpec(name=name, dtype="float32", shape=shape, low=(-2,), high=(3,))


def several(*sizes: int, name: str = "several") -> ArraySpec:
    high = tuple(size - 1 for size in sizes)
    return ArraySpec(name=name, dtype="int64", shape=(len(sizes),), low=(0,), high=high, kind="discrete")


def bits(*shape: int) -> ArraySpec:
    return ArraySpec(name="bits", dtype="uint8", shape=shape, low=(0,), high=(1,), kind="binary")


def double(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


P, Q = double(0.5, -1.0, 0.0, -0.5), double(0.0, -0.5, 0.2, -0.3)  # two means and two logarithms of deviations
U = double(1.0, -1.5)
SPACES = {
    "discrete": ActionSpace((discrete("a", 4),)),
    "several": ActionSpace((several(3, 2, 4),)),
    "equal": ActionSpace((several(3, 3),)),
    "binary": ActionSpace((bits(2, 3),)),
    "box": ActionSpace((box(3),)),
    "scalar box": ActionSpace((box(),)),
    "squashed": ActionSpace((box(2),), squash=True),
    "mixed": ActionSpace((box(2), discrete("a", 3), several(2, 4), bits(2))),
}
every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)


def random_mask(space: ActionSpace, *leading: int, seed: int = 1) -> Tensor | None:
    if not space.mask_size:
        return None
    return torch.randint(0, 2, (*leading, space.mask_size), generator=torch.Generator().manual_seed(seed)).byte()


def random_parameters(space: ActionSpace, *leading: int, seed: int = 0) -> Tensor:
    return torch.randn(*leading, space.param_size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_golden_gaussian() -> None:
    space = ActionSpace((box(2),))
    p, q = space.distribution(P), space.distribution(Q)
    assert p.log_prob((U,)).item() == pytest.approx(-1.80266229, abs=1e-8)
    assert p.entropy().item() == pytest.approx(2.33787707, abs=1e-8)
    assert p.kl(q).item() == pytest.approx(0.3818749, abs=1e-7)
    assert q.kl(p).item() == pytest.approx(0.55660993, abs=1e-8)
    assert (q.log_prob((U,)) - p.log_prob((U,))).item() == pytest.approx(-1.18143419, abs=1e-8)
    parameters = P.clone().requires_grad_()
    space.distribution(parameters).log_prob((U,)).backward()
    assert parameters.grad is not None
    assert parameters.grad.tolist() == pytest.approx([0.5, -1.359141, -0.75, -0.32043], abs=1e-6)
    assert space.distribution(P.float()).log_prob((U.float(),)).item() == pytest.approx(-1.80266229, abs=1e-5)


def test_golden_clipping_keeps_the_density_of_the_raw_sample() -> None:
    space = ActionSpace((box(1),))
    raw = double(2.0)
    assert space.sent((raw,))[0].tolist() == [1.0]
    parameters = double(0.9, 0.0).requires_grad_()
    density = space.distribution(parameters).log_prob((raw,))
    assert density.item() == pytest.approx(-1.523939, abs=1e-6)
    density.backward()
    assert parameters.grad is not None
    assert parameters.grad[0].item() == pytest.approx(1.1)


def test_golden_squashed() -> None:
    space = ActionSpace((box(2),), squash=True)
    p = space.distribution(P)
    assert space.sent((U,))[0].tolist() == pytest.approx([0.761594, -0.905148], abs=1e-6)
    assert p.log_prob((U,)).item() == pytest.approx(0.77577971, abs=1e-8)
    assert p.kl(space.distribution(Q)).item() == pytest.approx(0.3818749, abs=1e-7), "squashing both changes nothing"
    assert p.mode()[0].tolist() == [0.5, -1.0], "a sample, before tanh"


@pytest.mark.parametrize(
    ("u", "expected"), [(0, 0.0), (1, -0.867562), (4, -6.614376), (8, -14.613706), (12, -22.613706), (20, -38.613706)]
)
def test_golden_slope_of_tanh(u: float, expected: float) -> None:
    for sign in (1.0, -1.0):
        for dtype in (torch.float64, torch.float32):
            x = torch.tensor(sign * u, dtype=dtype, requires_grad=True)
            y = log_slope(x)
            assert y.item() == pytest.approx(expected, abs=1e-5)
            y.backward()
            assert x.grad is not None
            assert x.grad.item() == pytest.approx(-2 * math.tanh(sign * u), abs=1e-5)


@pytest.mark.parametrize(
    ("mean", "deviation", "entropy"), [(0, 1, 0.669804), (0, math.exp(-1), 0.291456), (1, 1, 0.0926)]
)
def test_golden_squashed_entropy_is_the_mean_of_its_estimates(mean: float, deviation: float, entropy: float) -> None:
    torch.manual_seed(0)
    space = ActionSpace((box(1),), squash=True)
    p = space.distribution(double(mean, math.log(deviation)).expand(400_000, 2))
    assert p.entropy().mean().item() == pytest.approx(entropy, abs=5e-3)


def test_the_squashed_density_integrates_to_one() -> None:
    space = ActionSpace((box(1),), squash=True)
    a = torch.linspace(-1, 1, 200_001, dtype=torch.float64)[1:-1, None]
    density = space.distribution(double(0.3, -0.4).expand(len(a), 2)).log_prob((a.atanh(),)).exp()
    assert torch.trapezoid(density, a[:, 0]).item() == pytest.approx(1.0, abs=1e-4)


def test_golden_factored() -> None:
    space = ActionSpace((several(3, 2),))
    action = (torch.tensor([2, 0]),)
    pi, mu = space.distribution(double(1, 0, -1, 0.5, -0.5)), space.distribution(double(0, 0, 0, 0, 0.2))
    assert pi.log_prob(action).item() == pytest.approx(-2.72086765, abs=1e-8)
    assert pi.entropy().item() == pytest.approx(1.41459869, abs=1e-8)
    assert pi.entropy_bonus().item() == pytest.approx(1.41459869 / 2, abs=1e-8)
    assert (pi.log_prob(action) - mu.log_prob(action)).exp().item() == pytest.approx(0.43862235, abs=1e-8)
    assert mu.kl(pi).item() == pytest.approx(0.48391729, abs=1e-8)


def test_golden_mixed() -> None:
    space = ActionSpace((box(2), discrete("a", 3)))
    p = space.distribution(torch.cat((P, double(1, 0, -1))))
    assert p.log_prob((U, torch.tensor(2))).item() == pytest.approx(-4.21026826, abs=1e-8)
    assert p.entropy().item() == pytest.approx(3.17027265, abs=1e-8)
    assert p.entropy_bonus().item() == pytest.approx(0.83239558, abs=1e-8), "the discrete part alone"


def test_golden_mask() -> None:
    space = ActionSpace((discrete("a", 4),))
    logits, mask = double(1, 2, 0, -1).requires_grad_(), torch.tensor([1, 0, 1, 1]).byte()
    p = space.distribution(logits, mask)
    assert p.shown().tolist() == pytest.approx([0.665241, 0, 0.244728, 0.090031], abs=1e-6)
    assert p.entropy().item() == pytest.approx(0.83239558, abs=1e-8)
    assert space.distribution(logits).entropy().item() == pytest.approx(0.94753696, abs=1e-8)
    (gradient,) = torch.autograd.grad(p.log_prob((torch.tensor(0),)), logits, retain_graph=True)
    assert gradient.tolist() == pytest.approx([0.334759, 0, -0.244728, -0.090031], abs=1e-6)
    assert p.mode()[0].item() == 0
    behaviour, first = double(0.5, 1, 0, 0), (torch.tensor(0),)
    rho, wrong = (
        (space.distribution(logits, m).log_prob(first) - space.distribution(behaviour, mask).log_prob(first)).exp()
        for m in (mask, None)
    )
    assert (rho.item(), wrong.item()) == pytest.approx((1.47221903, 0.5242362), abs=1e-7)
    mu = space.distribution(double(0.5, 0.5, 0.5, 0.5), mask)
    for number in (p.entropy(), mu.kl(p), p.kl(mu)):
        (gradient,) = torch.autograd.grad(number, logits, retain_graph=True)
        assert gradient.isfinite().all()
        assert gradient[1] == 0
    expected = math.log(1 / 3) - sum(map(math.log, (0.665241, 0.244728, 0.090031))) / 3
    assert mu.kl(p).item() == pytest.approx(expected, abs=1e-5)


def test_one_discrete_action_is_bit_for_bit_the_plain_softmax() -> None:
    """Formulae of the time when there was nothing else: numbers, gradients and draws."""
    space = SPACES["discrete"]
    x = torch.randn(7, 3, 4, generator=torch.Generator().manual_seed(0))
    y, action = x.flip(0), torch.randint(0, 4, (7, 3), generator=torch.Generator().manual_seed(1))

    def results(ours: bool) -> list[Tensor]:
        logits = x.clone().requires_grad_()
        if ours:
            pi, mu = space.distribution(logits), space.distribution(y)
            numbers = [pi.log_prob((action,)), pi.entropy(), pi.entropy_bonus(), mu.kl(pi)]
        else:
            log_pi, log_mu = F.log_softmax(logits, -1), F.log_softmax(y, -1)
            entropy = -(log_pi.exp() * log_pi).sum(-1)
            kl = (log_mu.exp() * (log_mu - log_pi)).sum(-1)
            numbers = [log_pi.gather(-1, action.unsqueeze(-1)).squeeze(-1), entropy, entropy, kl]
        gradients = [torch.autograd.grad(number.sum(), logits, retain_graph=True)[0] for number in numbers]
        return [*numbers, *gradients]

    assert all(torch.equal(a, b) for a, b in zip(results(True), results(False), strict=True))
    ours, theirs = (torch.Generator().manual_seed(2) for _ in range(2))
    (sample,) = space.distribution(x).sample(ours)
    arrivals = torch.empty_like(x).exponential_(generator=theirs)
    assert torch.equal(sample, (x.softmax(-1) / arrivals).argmax(-1))
    assert torch.equal(space.encode((action,)), F.one_hot(action, 4).float())
    assert torch.equal(space.sent((sample,))[0], sample)


@every_space
def test_samples_have_the_arrays_shapes_and_are_drawn_as_the_density_says(space: ActionSpace) -> None:
    """E[-log p(sample)] is the entropy, E[log p - log q] the divergence; a wrong density or draw breaks one."""
    rows = 20_000
    parameters, others = (random_parameters(space, seed=seed) for seed in (0, 5))
    mask = random_mask(space)
    spread = None if mask is None else mask.expand(rows, -1)
    p, q = (space.distribution(x.expand(rows, -1), spread) for x in (parameters, others))
    samples = p.sample(torch.Generator().manual_seed(3))
    assert [sample.dtype == torch.int64 for sample in samples] == [dtype == torch.int64 for dtype in space.dtypes]
    log_p, log_q = p.log_prob(samples), q.log_prob(samples)
    torch.manual_seed(0)
    for found, expected in ((-log_p, p.entropy().mean()), (log_p - log_q, p.kl(q).mean())):
        error = (found.mean() - expected).abs()
        assert error < 5 * found.std() / math.sqrt(rows) + 2e-2


@every_space
def test_the_mode_has_the_highest_density(space: ActionSpace) -> None:
    parameters = random_parameters(space, 50)
    p = space.distribution(parameters, random_mask(space, 50))
    if space is SPACES["squashed"]:
        return  # of the Gaussian's density, not of what is sent
    for seed in range(20):
        samples = p.sample(torch.Generator().manual_seed(seed))
        assert (p.log_prob(p.mode()) >= p.log_prob(samples) - 1e-12).all()


@every_space
def test_forbidden_values_are_never_drawn_and_nothing_allowed_is_all_allowed(space: ActionSpace) -> None:
    if not space.mask_size:
        return
    rows = 3000
    parameters, mask = random_parameters(space, rows), random_mask(space, rows)
    assert mask is not None
    p, free = space.distribution(parameters, mask), space.distribution(parameters)
    samples = p.sample(torch.Generator().manual_seed(0))
    one_hot = space.encode(samples)
    if len(space.dtypes) > 1:  # the box stands first and has no entry
        one_hot = one_hot[:, space.encoded_size - space.mask_size :]
    for start, size in elements(space):
        chosen, allowed = one_hot[:, start : start + size], mask[:, start : start + size]
        assert (chosen.sum(-1) == 1).all()
        legal = (chosen * allowed).sum(-1) == 1
        assert torch.equal(legal, allowed.any(-1)), "where anything is allowed"
        assert not allowed.any(-1).all(), "and it came to pass that nothing was"
    nothing = space.distribution(parameters, torch.zeros_like(mask))
    assert torch.equal(nothing.log_prob(samples), free.log_prob(samples))
    assert torch.equal(nothing.entropy(), free.entropy())
    assert (p.log_prob(samples) >= free.log_prob(samples) - 1e-9).all()


def elements(space: ActionSpace) -> list[tuple[int, int]]:
    """Start and length of the mask entries of each discrete element."""
    sizes = {"discrete": [4], "several": [3, 2, 4], "equal": [3, 3], "binary": [2] * 6, "mixed": [3, 2, 4, 2, 2]}
    found, start = [], 0
    for size in sizes[next(name for name, other in SPACES.items() if other is space)]:
        found.append((start, size))
        start += size
    return found


@every_space
def test_gradients_are_finite_differences(space: ActionSpace) -> None:
    parameters, mask = random_parameters(space, 3), random_mask(space, 3)
    samples = space.distribution(parameters, mask).sample(torch.Generator().manual_seed(0))
    other = space.distribution(random_parameters(space, 3, seed=9), mask)

    def log_prob(x: Tensor) -> Tensor:
        return space.distribution(x, mask).log_prob(samples)

    def divergence(x: Tensor) -> Tensor:
        return other.kl(space.distribution(x, mask))

    def entropy(x: Tensor) -> Tensor:
        torch.manual_seed(0)
        return space.distribution(x, mask).entropy()

    for function in (log_prob, divergence, entropy):
        assert torch.autograd.gradcheck(function, parameters.clone().requires_grad_())


@every_space
def test_what_is_sent_fits_the_wire_and_what_is_encoded_fits_the_network(space: ActionSpace) -> None:
    parameters = 3 * random_parameters(space, 5, 2)
    sent = space.sent(space.distribution(parameters).sample(torch.Generator().manual_seed(0)))
    for array in sent:
        assert array.dtype == torch.int64 or array.abs().max() <= 1
    encoded = space.encode(sent)
    assert encoded.shape == (5, 2, space.encoded_size)
    assert encoded.dtype == torch.float32
    assert space.distribution(parameters).shown().shape[-1] <= 64


def test_arrays_keep_their_order_and_their_places() -> None:
    space = SPACES["mixed"]
    assert (space.param_size, space.num_outputs, space.num_free) == (4 + 3 + 6 + 4, 15, 2)
    assert (space.mask_size, space.encoded_size, space.num_discrete) == (13, 15, 5)
    sent = (torch.tensor([0.5, -0.25]), torch.tensor(1), torch.tensor([1, 3]), torch.tensor([0, 1]))
    assert space.encode(sent).tolist() == [0.5, -0.25, 0, 1, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0, 1]
    outputs, free = torch.arange(15.0), torch.tensor([90.0, 91.0])
    assert space.assemble(outputs, free).tolist() == [0, 1, 90, 91, *range(2, 15)]
    assert SPACES["discrete"].assemble(outputs[:4], None).tolist() == [0, 1, 2, 3]
    assert not space.encode((sent[0], torch.tensor(-1), *sent[2:]))[2:5].any(), "what is no action is nothing"


def test_numbers_for_people_are_at_most_64() -> None:
    space = ActionSpace((discrete("a", 100),))
    assert space.distribution(torch.zeros(2, 100)).shown().shape == (2, 64)
    shown: Any = SPACES["box"].distribution(double(1, 2, 3, 0, 0, 0)).shown()
    assert shown.tolist() == [1, 2, 3, 1, 1, 1]


def test_rho_is_one_number_for_all_dimensions() -> None:
    """V-trace of D dimensions is V-trace fed with the sum; their order means nothing."""
    space = ActionSpace((box(4),))
    p, q = (random_parameters(space, 6, seed=seed) for seed in (0, 1))
    u = space.distribution(p).sample(torch.Generator().manual_seed(0))[0]
    order = torch.tensor([2, 0, 3, 1])
    both = torch.cat((order, order + 4))
    rho = space.distribution(q).log_prob((u,)) - space.distribution(p).log_prob((u,))
    turned = (u[:, order],)
    moved = space.distribution(q[:, both]).log_prob(turned) - space.distribution(p[:, both]).log_prob(turned)
    torch.testing.assert_close(rho, moved)
    each = torch.distributions.Normal(q[:, :4], q[:, 4:].exp()).log_prob(u)
    each = each - torch.distributions.Normal(p[:, :4], p[:, 4:].exp()).log_prob(u)
    torch.testing.assert_close(rho, each.sum(-1))


def test_the_gradient_of_a_sample_is_that_of_the_expectation() -> None:
    """d/dm E[u^2] = 2 m and d/dlog s E[u^2] = 2 s^2."""
    space = ActionSpace((box(1),))
    parameters = double(0.7, -0.3).requires_grad_()
    (u,) = space.distribution(parameters.expand(400_000, 2)).sample(torch.Generator().manual_seed(0))
    u.square().mean().backward()
    assert parameters.grad is not None
    assert parameters.grad.tolist() == pytest.approx([1.4, 2 * math.exp(-0.6)], rel=1e-2)


def test_what_does_not_fit_is_explained() -> None:
    space = SPACES["several"]
    parameters = torch.zeros(5, 3, 9)
    with pytest.raises(ValueError, match=r"expected actions of shape \[5, 3, 3\].*got \[5, 3\]"):
        space.distribution(parameters).log_prob((torch.zeros(5, 3).long(),))
    with pytest.raises(ValueError, match=r"expected parameters \[..., 9\], got \[5, 3, 8\]"):
        space.distribution(parameters[..., 1:])
    with pytest.raises(ValueError, match=r"expected a mask of shape \[5, 3, 9\], got \[5, 9\]"):
        space.distribution(parameters, torch.ones(5, 9))
