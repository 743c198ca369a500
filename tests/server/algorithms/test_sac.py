"""SAC on recorded unrolls and on small problems with known answers: targets, whose gradient is whose, fixed points."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from seedbed.common.errors import SpecError, UsageError
from seedbed.common.options import override
from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.common.timestep import StepType
from seedbed.server.algorithms.acting import Acting
from seedbed.server.algorithms.batch_reading import batch_inputs
from seedbed.server.algorithms.sac import SAC, SACOptions
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.unroll import action_field, last_action_field
from seedbed.server.learning.exchange.interface import Exchange
from seedbed.server.learning.learner import Learner
from seedbed.server.networks.interface import Inputs
from seedbed.server.networks.soft import BoxCritics, SoftNetwork, Valuing
from seedbed.server.options.config import ServerConfig
from seedbed.server.options.learning import OptimiserConfig
from seedbed.server.options.network import NetworkConfig
from seedbed.server.training.assemble import Parts, assemble
from seedbed.server.training.recording import record, with_fields
from seedbed.server.training.resolve import defaults_of
from tests.reference.acting import CPU, World

FLAT = NetworkConfig(torso="flat", frame_stack=1, precision="float32")
LSTM = NetworkConfig(torso="mlp", core="lstm", core_size=8, frame_stack=1, precision="float32")
VECTOR = ArraySpec(name="observation", dtype="float32", shape=(3,))
BOX = ArraySpec(name="action", dtype="float32", shape=(2,), low=(-2,), high=(3,))
SEVERAL = ArraySpec(name="/several", dtype="int64", shape=(2,), low=(0,), high=(2, 1), kind="discrete")
SPACES: dict[str, tuple[ArraySpec, ...]] = {
    "box": (BOX,),
    "boxes": (replace(BOX, name="/a"), replace(BOX, name="/b", shape=(1, 2))),
    "discrete": (discrete("action", 4),),
    "dict of discrete": (discrete("/one", 2, start=3), SEVERAL),
}
every_space = pytest.mark.parametrize("actions", SPACES.values(), ids=SPACES)


def spec_of(actions: tuple[ArraySpec, ...] = (BOX,), *, masked: bool = False) -> EnvironmentSpec:
    entries = sum(sum(action.num_values) for action in actions)
    mask = ArraySpec(
        name="mask", dtype="uint8", shape=(entries,), low=(0,), high=(1,), kind="binary", role="action_mask"
    ) if masked and entries else None  # fmt: skip
    return EnvironmentSpec(environment="any", observations=(VECTOR, mask) if mask else (VECTOR,), actions=actions)


def made(spec: EnvironmentSpec, network: NetworkConfig = FLAT, unroll_length: int = 6, **options: Any) -> SAC:
    config = override(
        defaults_of("sac"),
        {"learning.unroll_length": unroll_length, "learning.batch_size": 4, "learning.discount": 0.9},
    )
    own = replace(SACOptions(hidden_size=16, random_steps=0), **options)
    return SAC(replace(config, network=network, algorithm_options=own), spec)


def learner_of(algorithm: SAC, learning_rate: float = 1e-2) -> Learner:
    torch.manual_seed(0)
    return Learner(
        algorithm,
        OptimiserConfig(learning_rate=learning_rate, final_learning_rate_share=1.0, clip_norm=float("inf")),
        CPU,
    )


def learnt_of(learner: Learner) -> SoftNetwork:
    assert isinstance(learner.learnt, SoftNetwork)
    return learner.learnt


def windows(world: World, algorithm: SAC) -> list[TrainBatch]:
    """Unrolls from the inside of a server, in whole: every transition of them is trained on."""
    world.run(150)
    return world.batches()


def world_of(network: NetworkConfig = FLAT, **options: Any) -> tuple[World, SAC]:
    def make(config: ServerConfig, spec: EnvironmentSpec) -> SAC:
        return SAC(override(config, {"learning.unroll_length": 5, "learning.discount": 0.9}), spec)

    own = replace(SACOptions(hidden_size=16, random_steps=0), **options)
    world = World(network, spec=spec_of(), make=make, options=own)
    assert isinstance(world.algorithm, SAC)
    return world, world.algorithm


class KnownCritics(BoxCritics):
    """Q(s, a) = s_0 + 2 a_0, twice, whatever is learnt."""

    def values(self, features: Tensor, encoded: Tensor) -> Tensor:
        return (features[..., 0] + 2 * encoded[..., 0]).expand(2, *features.shape[:-1])


@pytest.mark.parametrize("n", [1, 3])
def test_targets_bootstrap_at_time_limits_and_cuts_and_not_at_deaths(n: int) -> None:
    """Against a loop over rows. The policy sends tanh(mean) with next to no noise, of which log pi is known."""
    world, algorithm = world_of(n_step=n)
    learner = world.learner
    network = learnt_of(learner)
    with torch.no_grad():  # the action is 0 everywhere, its deviation e^-5
        network.policy.last.weight.zero_()
        network.policy.last.bias.copy_(torch.tensor([0.0, 0.0, -5.0, -5.0]))
    critics = KnownCritics(3, algorithm._space, count=2, hidden=(), layer_norm=False)
    seen = {"deaths": 0, "time limits": 0, "cuts": 0}
    for batch in windows(world, algorithm):
        alpha, fields = torch.tensor(1e-6), batch.fields
        features = batch.observations[0].squeeze(2)
        with torch.no_grad():
            found = algorithm._targets(
                network, Valuing(network.policy.body, critics), features[1:], features[1:], batch, alpha
            )
        for b, source in enumerate(batch.provenance):
            kinds = fields["step_type"][:, b].tolist()
            for t in range(min(source.length - 1, len(found))):
                if kinds[t] == StepType.LAST:
                    continue
                target, factor, row = 0.0, 1.0, t
                for _ in range(n):
                    target += factor * float(fields["reward"][row + 1, b].clamp(-1, 1))
                    factor *= 0.9 * float(fields["discount"][row + 1, b])
                    row += 1
                    if kinds[row] == StepType.LAST or row == source.length - 1:
                        break
                target += factor * float(features[row, b, 0])
                assert float(found[t, b]) == pytest.approx(target, abs=0.05)
                seen["deaths"] += kinds[row] == StepType.LAST and factor == 0
                seen["time limits"] += kinds[row] == StepType.LAST and factor > 0
                seen["cuts"] += source.length < len(kinds) and row == source.length - 1 and kinds[row] == StepType.MID
    assert min(seen.values()) > 10, seen


@every_space
@pytest.mark.parametrize("network", [FLAT, LSTM], ids=["flat", "lstm"])
@pytest.mark.parametrize("masked", [False, True])
def test_every_space_is_learnt_from(actions: tuple[ArraySpec, ...], network: NetworkConfig, masked: bool) -> None:
    """Every group moves in its own step alone, and nothing else does."""
    spec = spec_of(actions, masked=masked)
    algorithm = made(spec, network)
    learner = learner_of(algorithm)
    batch = record(algorithm, learner.network, spec)
    groups = algorithm.groups(learner.learnt)
    assert sum(len(group.parameters) for group in groups.values()) == len(list(learner.learnt.parameters()))
    moved: list[set[str]] = []
    names = {id(parameter): group for group, own in groups.items() for parameter in own.parameters}
    descend = learner._steps.descend

    def watched(
        name: str, loss: Tensor | None, weight: Tensor | None, progress: float | None, exchange: Exchange
    ) -> Mapping[str, Tensor] | None:
        before = [parameter.detach().clone() for parameter in learner.learnt.parameters()]
        norms = descend(name, loss, weight, progress, exchange)
        pairs = zip(before, learner.learnt.parameters(), strict=True)
        moved.append({names[id(after)] for earlier, after in pairs if not torch.equal(earlier, after)})
        return norms

    learner._steps.descend = watched  # type: ignore[method-assign]
    metrics = learner.update(batch, 0.0).metrics
    assert moved == [{"critic"}, {"actor"}, {"alpha"}]
    assert all(bool(metric.isfinite()) for metric in metrics.values()), metrics
    names_of = {"loss", "actor_loss", "alpha", "entropy", "target_entropy", "q_value_mean", "td_error_mean"}
    assert names_of <= set(metrics)


@pytest.mark.parametrize("network", [FLAT, LSTM], ids=["flat", "lstm"])
def test_steps_have_the_gradients_of_their_losses_apart(network: NetworkConfig) -> None:
    """No loss has a gradient on the parameters of another but the actor's on the critics, which no optimiser sees."""
    spec = spec_of()
    algorithm = made(spec, network)
    learner = learner_of(algorithm)
    learnt, batch = learnt_of(learner), record(algorithm, learner.network, spec)
    groups = {name: list(group.parameters) for name, group in algorithm.groups(learnt).items()}
    for step in algorithm.steps(learnt, learner.target, batch):
        assert step.loss is not None
        for name, parameters in groups.items():
            grads = torch.autograd.grad(step.loss, parameters, retain_graph=True, allow_unused=True)
            touched = any(gradient is not None and bool(gradient.any()) for gradient in grads)
            through_critics = (step.group, name) == ("actor", "critic")
            assert touched == (name == step.group or through_critics), (step.group, name)
        of_body = list(learnt.policy.body.parameters())
        if step.group == "actor" and of_body:
            assert set(torch.autograd.grad(step.loss, of_body, retain_graph=True, allow_unused=True)) == {None}


@every_space
def test_what_is_invalid_changes_nothing(actions: tuple[ArraySpec, ...]) -> None:
    spec = spec_of(actions)
    algorithm = made(spec)
    learner = learner_of(algorithm)
    batch = record(algorithm, learner.network, spec)
    assert not batch.valid.all()
    spoilt = with_fields(batch, reward=batch.fields["reward"].clone())
    spoilt.fields["reward"][1:][~batch.valid] = torch.nan
    twin = copy.deepcopy(learner)
    torch.manual_seed(3)
    learner.update(batch, 0.0)
    torch.manual_seed(3)
    twin.update(spoilt, 0.0)
    for ours, theirs in zip(learner.learnt.parameters(), twin.learnt.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_target_critics_follow_by_tau_and_there_is_no_target_policy() -> None:
    """Three steps of 0.005 towards a source that stands still: 1 - 0.995^3."""
    spec = spec_of()
    algorithm = made(spec)
    learner = learner_of(algorithm, learning_rate=0.0)
    assert isinstance(learner.target, Valuing)
    batch = record(algorithm, learner.network, spec)
    pairs = list(zip(learner.target.critics.parameters(), learnt_of(learner).critics.parameters(), strict=True))
    with torch.no_grad():
        for ours, theirs in pairs:
            ours.zero_()
            theirs.fill_(1.0)
    for _ in range(3):
        learner.update(batch, 0.0)
    assert all(float(ours.flatten()[0]) == pytest.approx(0.014925125) for ours, _ in pairs)
    policy = sum(p.numel() for p in learnt_of(learner).policy.own_parameters())
    everything = sum(p.numel() for p in learner.learnt.parameters())
    assert sum(p.numel() for p in learner.target.parameters()) == everything - policy - 1


@pytest.mark.parametrize(("start", "rises"), [(-3.0, True), (1.0, False)])
def test_the_temperature_keeps_the_entropy_at_its_target(start: float, rises: bool) -> None:
    """With deviations of e^-3 the entropy is below -2, with e^1 above; Adam's first step is the learning rate."""
    spec = spec_of()
    algorithm = made(spec)
    learner = learner_of(algorithm, learning_rate=1e-3)
    learnt = learnt_of(learner)
    with torch.no_grad():
        learnt.policy.last.weight.mul_(0.01)
        learnt.policy.last.bias[2:] = start
    metrics = learner.update(record(algorithm, learner.network, spec), 0.0).metrics
    assert float(metrics["target_entropy"]) == -2
    assert (float(metrics["entropy"]) < -2) == rises
    assert float(learnt.log_alpha.detach()) == pytest.approx(1e-3 if rises else -1e-3, rel=1e-3)


def test_a_temperature_that_is_not_learnt_stays() -> None:
    spec = spec_of()
    algorithm = made(spec, learn_alpha=False, alpha=0.25)
    learner = learner_of(algorithm)
    assert algorithm.plan(0) == ("critic", "actor")
    metrics = learner.update(record(algorithm, learner.network, spec), 0.0).metrics
    assert float(metrics["alpha"]) == pytest.approx(0.25)
    assert float(learnt_of(learner).log_alpha.detach().exp()) == pytest.approx(0.25)


def test_targets_of_discrete_entropy_go_by_what_is_allowed() -> None:
    spec = spec_of(SPACES["dict of discrete"], masked=True)
    algorithm = made(spec, entropy_share=0.5)
    outputs = torch.randn(2, 7)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 0, 1, 1, 0, 0, 0]], dtype=torch.uint8)
    found = algorithm._target_entropy(outputs, mask)
    assert isinstance(found, Tensor)
    torch.testing.assert_close(found, 0.5 * torch.tensor([12.0, 4.0]).log(), msg="of nothing allowed all is")


def test_observations_are_normalised_where_asked_for() -> None:
    """In the acting body and the target's; drawn batches move the moments."""
    spec = spec_of()
    algorithm = made(spec, replace(FLAT, normalise_observations="on"))
    learner = learner_of(algorithm)
    batch = record(algorithm, learner.network, spec)
    batch = replace(batch, observations=(batch.observations[0] * 5 + 100,))
    learner.update(batch, 0.0)
    assert isinstance(learner.target, Valuing)
    for body in (learnt_of(learner).policy.body, learner.target.body):
        features = body.unroll(batch_inputs(batch), ())[0][:-1][batch.valid]
        assert float(features.mean().abs()) < 0.1
        assert float(features.std()) == pytest.approx(1.0, abs=0.1)


def acting(steps: int, greedy: Tensor | None = None, count: int = 4000) -> Acting:
    return Acting(torch.arange(count), torch.Generator().manual_seed(0), steps, greedy)


def rows(spec: EnvironmentSpec, count: int = 4000, mask: Tensor | None = None) -> Inputs:
    last = tuple(torch.zeros(count, *action.shape) for action in spec.actions)
    observations = (torch.ones(count, 1, 3),)
    return Inputs(observations, torch.full((count,), StepType.MID), torch.zeros(count), last, mask)


def test_a_run_begins_at_random_in_global_steps() -> None:
    """Even over [-1, 1], then the policy; greedy rows take its mode from the first step on."""
    spec = spec_of()
    algorithm = made(spec, random_steps=1000)
    network = algorithm.make_learnt().policy.requires_grad_(False)
    network.last.bias[2:] = -2.0
    greedy = torch.arange(4000) >= 3999
    started = algorithm.act(network, rows(spec), (), acting(999, greedy))
    (sent,) = started.sent
    assert sent.dtype == torch.float32
    counts = torch.histc(sent[:-1], bins=10, min=-1, max=1)
    assert float(((counts - 800) ** 2 / 800).sum()) < 30, "chi-square of 9 degrees of freedom, 1 - 4e-4"
    (mode,) = algorithm._space.sent(algorithm._space.distribution(network.step(rows(spec), ())[0]).mode())
    assert torch.equal(sent[-1], mode[-1])
    (later,) = algorithm.act(network, rows(spec), (), acting(1000, greedy)).sent
    assert float(later[:-1].std(0).max()) < 0.3
    assert torch.equal(later[-1], mode[-1])
    assert torch.equal(started.actions[0], sent), "critics read what was sent"


def test_random_play_keeps_to_the_mask() -> None:
    spec = spec_of(SPACES["dict of discrete"], masked=True)
    algorithm = made(spec, random_steps=10)
    mask = torch.tensor([1, 0, 1, 0, 1, 1, 1], dtype=torch.uint8).expand(4000, 7)
    decision = algorithm.act(algorithm.make_learnt().policy, rows(spec, mask=mask), (), acting(0))
    assert set(decision.sent[0].tolist()) == {0}
    counts = torch.bincount(decision.sent[1][:, 0], minlength=3)
    assert counts[1] == 0
    assert int((counts[0] - counts[2]).abs()) < 300


def test_inference_never_asks_a_critic(monkeypatch: pytest.MonkeyPatch) -> None:
    world, _ = world_of()
    acting_names = {name for name, _ in world.parameters.acquire()[0].named_parameters()}
    assert acting_names == {
        f"{layer}.{part}" for layer in ("hidden.0", "hidden.1", "last") for part in ("weight", "bias")
    }
    monkeypatch.setattr(BoxCritics, "values", lambda *_: pytest.fail("a critic was asked"))
    world.run(30)


def test_actions_that_it_cannot_learn_are_refused_by_name() -> None:
    with pytest.raises(
        SpecError, match=r"boxes alone or discrete actions alone, got '/a' .*, '/one'.*; take one of .*ppo"
    ):
        made(spec_of((replace(BOX, name="/a"), discrete("/one", 2))))
    made(spec_of((discrete("/one", 32), discrete("/two", 32))))
    with pytest.raises(SpecError, match=r"at most 1024 combinations of discrete actions, not 1056, got .*ppo"):
        made(spec_of((discrete("/one", 32), discrete("/two", 33))))
    with pytest.raises(UsageError, match="expected a memory with --burn-in 3, got --core none"):
        made(spec_of(), burn_in=3)


def test_it_is_chosen_where_numbers_are_shown_and_boxes_wanted() -> None:
    image = ArraySpec(name="/image", dtype="uint8", shape=(64, 64, 3), low=(0,), high=(255,))
    assert SAC.suits(spec_of(SPACES["boxes"])) == 20
    assert SAC.suits(spec_of(SPACES["discrete"])) is None
    assert SAC.suits(replace(spec_of(), observations=(VECTOR, image))) == -1
    assert SAC.defaults(spec_of())["network.torso"] == "flat"
    assert SAC.defaults(replace(spec_of(), observations=(image,)))["network.torso"] == "auto"


def test_a_burn_in_refreshes_the_state_without_gradient() -> None:
    """Features behind it are those of one run over all rows from the stored state."""
    spec = spec_of()
    algorithm = made(spec, LSTM, burn_in=4)
    assert (algorithm.draws, algorithm.num_rows, algorithm.trained_rows, algorithm.period) == (
        "unrolls", 11, range(4, 10), 6,
    )  # fmt: skip
    learner = learner_of(algorithm)
    batch = record(algorithm, learner.network, spec)
    body = learnt_of(learner).policy.body
    state = tuple(torch.randn_like(part, requires_grad=True) for part in batch.state)
    batch = replace(batch, state=state)
    whole = body.unroll(batch_inputs(batch), batch.state)[0][4:]
    first = next(algorithm.steps(learner.learnt, learner.target, batch))
    found: list[Tensor] = []
    critics = learnt_of(learner).critics
    taken = critics.taken
    critics.taken = lambda features, actions: (found.append(features), taken(features, actions))[1]  # type: ignore[func-returns-value,method-assign]
    first = next(algorithm.steps(learner.learnt, learner.target, batch))
    torch.testing.assert_close(found[0], whole[:6])
    assert first.loss is not None
    assert torch.autograd.grad(first.loss, state, allow_unused=True) == (None, None)


def test_images_are_read_by_a_torso_that_the_critics_train() -> None:
    """Beside a vector; a step of the actor leaves it alone."""
    image = ArraySpec(name="/image", dtype="uint8", shape=(36, 36, 3), low=(0,), high=(255,))
    spec = replace(spec_of(), observations=(image, replace(VECTOR, name="/vector")))
    algorithm = made(spec, NetworkConfig(torso="auto", frame_stack=1, precision="bfloat16"), unroll_length=3)
    learner = learner_of(algorithm)
    body = list(learnt_of(learner).policy.body.parameters())
    critics = {id(parameter) for parameter in algorithm.groups(learner.learnt)["critic"].parameters}
    assert len(body) > 6
    assert {id(parameter) for parameter in body} <= critics
    before = [parameter.detach().clone() for parameter in body]
    metrics = learner.update(record(algorithm, learner.network, spec), 0.0).metrics
    assert metrics["loss"].isfinite()
    assert not any(torch.equal(x, y) for x, y in zip(before, body, strict=True))


def test_the_policy_becomes_the_boltzmann_policy_of_known_values() -> None:
    """One step, Q = -2 (a - 0.3)^2, alpha 0.2: mean and deviation of exp(Q / alpha), by quadrature."""

    class Parabola(BoxCritics):
        def values(self, features: Tensor, encoded: Tensor) -> Tensor:
            return (-2.0 * (encoded[..., 0] - 0.3).square()).expand(2, *features.shape[:-1])

    spec = spec_of((replace(BOX, shape=(1,)),))
    algorithm = made(spec, learn_alpha=False, alpha=0.2)
    learner = learner_of(algorithm)
    learnt = learnt_of(learner)
    learnt.critics = Parabola(3, algorithm._space, count=2, hidden=(), layer_norm=False)
    features = torch.randn(512, 3)
    optimiser = torch.optim.Adam(learnt.policy.parameters(), lr=5e-3)
    for _ in range(300):
        worth = learnt.critics.soft_value(features, learnt.policy.outputs(features), None, torch.tensor(0.2))
        optimiser.zero_grad()
        (-worth.value.mean()).backward()
        optimiser.step()
    grid = torch.linspace(-1, 1, 20_001, dtype=torch.float64)
    density = (-2.0 * (grid - 0.3).square() / 0.2).exp()
    density /= density.sum()
    mean = float((grid * density).sum())
    deviation = float(((grid - mean).square() * density).sum().sqrt())
    with torch.no_grad():
        distribution = algorithm._space.distribution(learnt.policy.heads(features.repeat(20, 1)))
        (sent,) = algorithm._space.sent(distribution.sample(torch.Generator().manual_seed(0)))
    assert float(sent.mean()) == pytest.approx(mean, abs=0.02)
    assert float(sent.std()) == pytest.approx(deviation, abs=0.02)


def test_discrete_values_are_those_of_soft_value_iteration() -> None:
    """Two states, two actions, tables for critics and policy: V* = alpha logsumexp(Q* / alpha)."""
    reward = torch.tensor([[1.0, 0.0], [0.2, -0.5]])
    behind = torch.tensor([[0, 1], [1, 0]])
    alpha, discount = 0.3, 0.5
    q_star = torch.zeros(2, 2)
    for _ in range(60):
        q_star = reward + discount * (alpha * torch.logsumexp(q_star / alpha, -1))[behind]
    spec = replace(spec_of((discrete("action", 2),)), observations=(replace(VECTOR, shape=(2,)),))
    algorithm = made(spec, hidden_layers=0, learn_alpha=False, alpha=alpha, tau=0.2, unroll_length=1)
    algorithm._learning = replace(algorithm._learning, discount=discount)
    states, actions = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    observation = torch.nn.functional.one_hot(torch.stack((states, behind[states, actions])), 2).float()
    learner = learner_of(algorithm, learning_rate=0.03)
    batch = record(algorithm, learner.network, spec, num_unrolls=4)
    batch = with_fields(
        replace(batch, observations=(observation.unsqueeze(2),), valid=torch.ones(1, 4, dtype=torch.bool)),
        reward=torch.stack((torch.zeros(4), reward[states, actions])),
        **{action_field("action"): torch.stack((actions, actions))},
    )
    for update in range(500):
        learner.update(batch, 0.0)
        if update == 350:
            learner._steps._config = replace(learner._steps._config, learning_rate=1e-3)
    learnt = learnt_of(learner)
    with torch.no_grad():
        q_values = learnt.critics.q(torch.eye(2))  # type: ignore[operator]
        policy = learnt.policy.heads(torch.eye(2)).softmax(-1)
    assert torch.allclose(q_values, q_star.expand(2, 2, 2), atol=1e-3)
    assert torch.allclose(policy, (q_star / alpha).softmax(-1), atol=3e-3)


def run_alone(num_updates: int, seed: int = 1) -> Parts:
    """A run in one thread: act, remember, insert, draw, learn, publish."""
    spec = spec_of()
    values = {
        "environment.seed": seed, "learning.unroll_length": 4, "learning.batch_size": 8, "fleet.num_envs": 3,
        "algorithm_options.hidden_size": 16, "algorithm_options.random_steps": 20, "network.torso": "flat",
        "algorithm_options.replay.replay_min_size": 16, "algorithm_options.replay.replay_tolerance": 1e9,
        "algorithm_options.replay.replay_capacity": 400, "run.device": "cpu",
    }  # fmt: skip
    parts = assemble(override(defaults_of("sac"), values), spec)
    random, slots = np.random.default_rng(seed), np.arange(3)
    parts.inference.begin(slots, 1, range(3))
    parts.slots.step_type[:] = StepType.FIRST
    parts.slots.discount[:] = 1
    while parts.learner.num_updates < num_updates:
        for array in parts.slots.observations:
            array[...] = random.normal(size=array.shape)
        parts.slots.reward[:] = random.normal(size=parts.slots.reward.shape)
        complete = parts.inference.remember(parts.inference.act(slots))
        if len(complete):
            parts.sink.hand_over(complete)
        parts.slots.step_type[:] = np.where(random.random(6) < 0.2, StepType.LAST, StepType.MID)
        if parts.inference.num_steps > 30:
            batch = parts.source.get(8, 0.0)
            assert isinstance(batch, TrainBatch)
            parts.learner.update(batch, 0.0)
            parts.parameters.publish(parts.learner.network, parts.learner.num_updates)
    return parts


def test_the_same_seed_learns_the_same() -> None:
    one, two, other = run_alone(12), run_alone(12), run_alone(12, seed=2)
    states = [parts.learner.learnt.state_dict() for parts in (one, two, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["log_alpha"], states[2]["log_alpha"])
    assert one.learner.optimiser_steps == 36


def test_the_action_that_critics_read_is_the_one_that_was_sent() -> None:
    world, _ = world_of()
    world.run(60)
    for batch in world.batches():
        recorded = batch.fields[action_field("action")][:-1][batch.valid]
        arrived = batch.fields[last_action_field("action")][1:][batch.valid]
        assert torch.equal(recorded, arrived)
        assert recorded.abs().max() <= 1
