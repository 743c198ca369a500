"""Every action space through the algorithms: what is recorded gives back the policy that acted, and masks hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from seedbed.common.errors import SpecError
from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.server.algorithms.a3c import A2C
from seedbed.server.algorithms.actor_critic import ActorCriticAlgorithm
from seedbed.server.algorithms.exploration import epsilon_greedy
from seedbed.server.algorithms.interface import Algorithm
from seedbed.server.algorithms.ppo import PPO
from seedbed.server.algorithms.q_learning import AsynchronousQ
from seedbed.server.algorithms.registry import ALGORITHMS, find_algorithm
from seedbed.server.algorithms.replayed_actor import ReplayedActor
from seedbed.server.algorithms.replayed_q import R2D2
from seedbed.server.algorithms.sac import SAC
from seedbed.server.algorithms.vtrace import VTrace
from seedbed.server.experience.batch import Sample, TrainBatch
from seedbed.server.experience.unroll import ACTION_MASK
from seedbed.server.learning.learner import Learner
from seedbed.server.networks.action_values import QNetwork
from seedbed.server.networks.distributions import ActionSpace
from seedbed.server.networks.interface import ActionValues, AgentState, Inputs
from seedbed.server.options.config import ServerConfig
from seedbed.server.options.learning import LearningConfig, OptimiserConfig
from seedbed.server.options.network import NetworkConfig
from seedbed.server.training.recording import record, with_fields
from tests.reference.acting import CPU

MLP = NetworkConfig(torso="mlp", frame_stack=1, precision="float32", core_size=16)
LSTM = replace(MLP, core="lstm")
BOX = ArraySpec(name="/box", dtype="float32", shape=(2, 2), low=(-2,), high=(3,))
SEVERAL = ArraySpec(name="/several", dtype="int64", shape=(3,), low=(0,), high=(2, 1, 3), kind="discrete")
BITS = ArraySpec(name="/bits", dtype="uint8", shape=(2,), low=(0,), high=(1,), kind="binary")
SPACES: dict[str, tuple[ArraySpec, ...]] = {
    "discrete": (discrete("action", 4),),
    "multi-discrete": (SEVERAL,),
    "multi-binary": (BITS,),
    "box": (BOX,),
    "dict of all": (BOX, discrete("/one", 3, start=5), SEVERAL, BITS),
}
every_space = pytest.mark.parametrize("actions", SPACES.values(), ids=SPACES)
every_actor_critic = pytest.mark.parametrize("make", [VTrace, A2C, PPO])


def spec_of(actions: tuple[ArraySpec, ...], *, masked: bool) -> EnvironmentSpec:
    """Two vectors to see, and where asked and possible a mask between them."""
    first, second = (ArraySpec(name=name, dtype="float32", shape=(3,)) for name in ("/a", "/b"))
    entries = sum(sum(action.num_values) for action in actions)
    mask = ArraySpec(
        name="/mask", dtype="uint8", shape=(max(entries, 1),), low=(0,), high=(1,), kind="binary", role="action_mask"
    )
    between = (mask,) if masked and entries else ()
    return EnvironmentSpec(environment="any", observations=(first, *between, second), actions=actions)


def made(make: type[Algorithm], spec: EnvironmentSpec, network: NetworkConfig = MLP, **options: Any) -> Any:
    config = ServerConfig(
        algorithm="it",
        learning=LearningConfig(unroll_length=10, reward_clipping="none"),
        network=network,
        algorithm_options=make.Options(**options),
    )
    return make(config, spec)


def learner_of(algorithm: Algorithm, learning_rate: float = 0.0) -> Learner:
    """With a policy that differs from row to row."""
    torch.manual_seed(0)
    learner = Learner(algorithm, OptimiserConfig(learning_rate=learning_rate, final_learning_rate_share=1.0), CPU)
    with torch.no_grad():
        for parameter in learner.learnt.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return learner


@every_actor_critic
@every_space
@pytest.mark.parametrize("network", [MLP, LSTM], ids=["mlp", "lstm"])
def test_the_learner_finds_the_policy_that_acted(
    make: type[ActorCriticAlgorithm], actions: tuple[ArraySpec, ...], network: NetworkConfig
) -> None:
    spec = spec_of(actions, masked=True)
    algorithm = made(make, spec, network)
    learner = learner_of(algorithm)
    for version in range(3):
        batch = record(algorithm, learner.network, spec, seed=version, version=version)
        assert not batch.valid.all()
        assert batch.fields["behaviour"].flatten(0, 1)[:, 0].std() > 0.05
        with torch.no_grad():
            seen = algorithm.see(learner.network, batch)
        assert seen.log_probs[batch.valid].min() > -100, "what was done was allowed in its own row"
        metrics = learner.update(batch, 0.0).metrics
        assert metrics["abs_log_rho_max"] < 1e-4
        assert metrics["kl_behaviour"].abs() < 1e-6
        assert all(bool(metric.isfinite()) for metric in metrics.values())


@every_space
def test_without_the_mask_it_would_not(actions: tuple[ArraySpec, ...]) -> None:
    spec = spec_of(actions, masked=True)
    algorithm = made(VTrace, spec)
    learner = learner_of(algorithm)
    batch = record(algorithm, learner.network, spec)
    seen = algorithm.see(learner.network, batch)
    if spec.mask_position is None:
        return
    bare = replace(batch, fields={name: x for name, x in batch.fields.items() if name != ACTION_MASK})
    forgotten = algorithm.see(learner.network, bare)
    shift = (seen.log_probs - forgotten.log_probs)[batch.valid]
    assert (shift.abs() > 0.05).float().mean() > 0.5
    other = with_fields(batch, **{ACTION_MASK: batch.fields[ACTION_MASK].flip(0)})
    assert learner.update(other, 0.0).metrics["abs_log_rho_max"] < 1e-3, "one mask for both policies"


@every_space
@pytest.mark.parametrize("greedy", [False, True])
def test_nobody_takes_what_is_forbidden(actions: tuple[ArraySpec, ...], greedy: bool) -> None:
    spec = spec_of(actions, masked=True)
    if spec.mask_position is None:
        return
    algorithm = made(VTrace, spec)
    batch = record(algorithm, learner_of(algorithm).network, spec, num_unrolls=64, greedy=greedy)
    space = ActionSpace(tuple(action for action in actions if action.kind != "box"))
    taken = space.encode(tuple(batch.fields[f"action.{action.name}"] for action in actions if action.kind != "box"))
    mask, start = batch.fields[ACTION_MASK], 0
    for size in [size for action in actions for size in action.num_values]:
        chosen, allowed = taken[..., start : start + size], mask[..., start : start + size]
        assert torch.equal((chosen * allowed).sum(-1) == 1, allowed.any(-1))
        start += size


@every_space
def test_samples_are_recorded_and_what_was_sent_goes_into_the_next_row(actions: tuple[ArraySpec, ...]) -> None:
    spec = spec_of(actions, masked=False)
    algorithm = made(VTrace, spec)
    batch = record(algorithm, learner_of(algorithm).network, spec, num_unrolls=32)
    goes_on = batch.fields["step_type"][1:] != 0
    for action in actions:
        sample = batch.fields[f"action.{action.name}"][:-1][goes_on]
        sent = batch.fields[f"last_action.{action.name}"][1:][goes_on]
        if action.kind == "box":
            assert (sample.abs() > 1).any(), "what the density is asked of is not clipped"
            assert torch.equal(sent, sample.clamp(-1, 1))
        else:
            assert torch.equal(sent, sample)
            assert sent.min() >= 0
        assert not batch.fields[f"last_action.{action.name}"][0].any()


@every_space
def test_invalid_rows_may_hold_anything(actions: tuple[ArraySpec, ...]) -> None:
    spec = spec_of(actions, masked=True)
    algorithm = made(VTrace, spec)
    learner, twin = learner_of(algorithm, 1e-2), learner_of(algorithm, 1e-2)
    batch = record(algorithm, learner.network, spec)
    valid = batch.valid.clone()
    valid[6:, :3] = False
    clean, row = replace(batch, valid=valid), torch.zeros(1, 8, dtype=torch.bool)
    left, reached = torch.cat((~valid, ~row)), torch.cat((row, ~valid))
    where = {"behaviour": left, "reward": reached, "discount": reached}
    fields = {name: _filled(batch.fields[name], rows, torch.nan) for name, rows in where.items()}
    for action in actions:
        name = f"action.{action.name}"
        fields[name] = _filled(batch.fields[name], left, 77 if action.kind != "box" else torch.nan)
    ours, theirs = learner.update(clean, 0.0), twin.update(with_fields(clean, **fields), 0.0)
    assert ours.metrics == theirs.metrics
    for x, y in zip(learner.learnt.parameters(), twin.learnt.parameters(), strict=True):
        assert torch.equal(x, y)


def _filled(x: Tensor, where: Tensor, value: float) -> Tensor:
    return x.masked_fill(where.reshape(*where.shape, *[1] * (x.dim() - 2)), value)


@pytest.mark.parametrize("make", [VTrace, pytest.param(PPO, marks=pytest.mark.slow)])
def test_every_part_of_an_action_is_learnt(make: type[ActorCriticAlgorithm]) -> None:
    """A bandit: each array earns something of its own, and all of them find it."""
    actions = SPACES["dict of all"]
    spec = spec_of(actions, masked=False)

    def earned(sent: tuple[Tensor, ...]) -> list[Tensor]:
        box, one, several, bits = sent
        parts = (1 - (box - 0.4).abs().flatten(1), one == 2, several == torch.tensor([0, 1, 3]), bits == 1)
        return [part.float().reshape(len(box), -1).mean(-1) for part in parts]

    algorithm = made(make, spec, entropy_cost=0.0)
    torch.manual_seed(0)
    learner = Learner(algorithm, OptimiserConfig(learning_rate=3e-3, final_learning_rate_share=1.0), CPU)
    means: list[list[float]] = []

    def reward(sent: tuple[Tensor, ...]) -> Tensor:
        parts = earned(sent)
        means[-1] = [
            (old + float(part.mean()) / algorithm.num_rows) for old, part in zip(means[-1], parts, strict=True)
        ]
        return torch.stack(parts).sum(0)

    for version in range(120 if make is VTrace else 25):
        means.append([0.0] * 4)
        batch = record(algorithm, learner.network, spec, num_unrolls=32, seed=version, version=version, reward=reward)
        learner.update(with_fields(batch, discount=torch.zeros_like(batch.fields["discount"])), 0.0)
    for first, last in zip(means[0], np.mean(means[-5:], axis=0), strict=True):
        assert last > first + 0.1, (means[0], means[-5:])


@every_space
def test_suits_says_what_is_known_to_learn(actions: tuple[ArraySpec, ...]) -> None:
    spec = spec_of(actions, masked=False)
    for name in ALGORITHMS:
        if issubclass(algorithm := find_algorithm(name), ActorCriticAlgorithm):
            assert algorithm.suits(spec) is not None, name
    ranks = {make: rank for make in (VTrace, A2C, PPO, SAC) if (rank := make.suits(spec)) is not None}
    boxes = all(action.kind == "box" for action in actions)
    assert max(ranks, key=ranks.__getitem__) is (SAC if boxes else PPO), "no pixels are shown"


@every_space
def test_q_learning_refuses_other_actions_by_name(actions: tuple[ArraySpec, ...]) -> None:
    spec = spec_of(actions, masked=False)
    for name in ALGORITHMS:
        algorithm = find_algorithm(name)
        if issubclass(algorithm, (ActorCriticAlgorithm, ReplayedActor)) or actions == SPACES["discrete"]:
            continue
        with pytest.raises(SpecError, match=r"any: --algorithm it expects one discrete action, got '/") as refused:
            made(algorithm, spec)
        named = str(refused.value).partition("; take one of ")[2].split(", ")
        assert {"vtrace", "a2c", "a3c", "ppo"} <= set(named), "those that can are named"
        assert name not in named


def test_golden_epsilon_greedy_under_a_mask() -> None:
    rows = 200_000
    q_values, mask = torch.tensor([1.0, 9.0, 3.0, 2.0]), torch.tensor([1, 0, 1, 1]).byte()
    generator = torch.Generator().manual_seed(0)
    chosen = epsilon_greedy(q_values.expand(rows, 4), torch.full((rows,), 0.4), generator, mask.expand(rows, 4))
    shares = (torch.bincount(chosen, minlength=4) / rows).tolist()
    assert shares == pytest.approx([0.133333, 0, 0.733333, 0.133333], abs=5e-3)
    assert shares[1] == 0
    nothing = epsilon_greedy(q_values.expand(9, 4), torch.zeros(9), generator, torch.zeros(9, 4))
    assert nothing.tolist() == [1] * 9, "with nothing allowed all are"


def masked_q(name: str) -> tuple[Any, Learner, EnvironmentSpec]:
    """Action 3 is forbidden in every row; its value is the best by far."""
    spec = spec_of(SPACES["discrete"], masked=True)
    algorithm = made(find_algorithm(name), spec, LSTM if name == "r2d2" else MLP)
    return algorithm, learner_of(algorithm), spec


def forbidding(batch: TrainBatch) -> TrainBatch:
    mask = torch.ones_like(batch.fields[ACTION_MASK])
    mask[..., 3] = 0
    action = batch.fields["action.action"]
    return with_fields(batch, **{ACTION_MASK: mask, "action.action": torch.where(action == 3, 0, action)})


class Poisoned(QNetwork):
    """A network whose values of action 3, which nobody may take, are no numbers, unless nothing is allowed at all."""

    def step(self, inputs: Inputs, state: AgentState) -> tuple[ActionValues, AgentState]:
        outputs, state = super().step(inputs, state)
        return _poisoned(outputs, inputs), state

    def unroll(self, inputs: Inputs, state: AgentState) -> tuple[ActionValues, AgentState]:
        outputs, state = super().unroll(inputs, state)
        return _poisoned(outputs, inputs), state


def _poisoned(outputs: ActionValues, inputs: Inputs) -> ActionValues:
    assert inputs.mask is not None
    allowed = inputs.mask != 0
    return ActionValues(outputs.q_values.masked_fill(~allowed & allowed.any(-1, keepdim=True), torch.nan))


@pytest.mark.parametrize("name", ["pqn", "one_step_q", "n_step_q", "one_step_sarsa", "r2d2", "apex"])
def test_nan_at_forbidden_actions_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In play, first priorities, losses, gradients, priorities and metrics."""
    spec, seen = spec_of(SPACES["discrete"], masked=True), []
    for network in (QNetwork, Poisoned):
        make = find_algorithm(name)
        monkeypatch.setattr(make, "make_learnt", lambda self, n=network: n(spec.shown, SPACE, MLP))
        algorithm = made(make, spec)
        learner = learner_of(algorithm, 1e-3)
        torch.manual_seed(0)
        batch = record(algorithm, learner.network, spec)
        update = learner.update(batch, 0.0)
        first = algorithm.initial_priorities(batch) if algorithm.regime == "replay" else torch.zeros(())
        numbers = [
            batch.fields["action.action"],
            first,
            torch.zeros(()) if update.priorities is None else update.priorities,
        ]
        seen.append([*numbers, *update.metrics.values(), *learner.learnt.parameters()])
    assert all(bool(x.isfinite().all()) for x in seen[1])
    assert all(torch.equal(x, y) for x, y in zip(*seen, strict=True))


SPACE = ActionSpace(SPACES["discrete"])


@pytest.mark.parametrize("name", ["one_step_q", "n_step_q", "one_step_sarsa"])
def test_values_of_forbidden_actions_reach_no_target(name: str) -> None:
    algorithm, learner, spec = masked_q(name)
    assert isinstance(algorithm, AsynchronousQ)
    batch = forbidding(record(algorithm, learner.network, spec))
    losses = []
    for bias in (0.0, 100.0):
        with torch.no_grad():
            for network in (learner.learnt, learner.target):
                assert isinstance(network, QNetwork)
                network.values.bias[3] += bias
        (step,) = algorithm.steps(learner.learnt, learner.target, batch)
        losses.append((step.loss.item(), step.metrics["q_value_mean"].item()))  # type: ignore[union-attr]
    assert losses[0] == losses[1]
    allowed = with_fields(batch, **{ACTION_MASK: torch.ones_like(batch.fields[ACTION_MASK])})
    (step,) = algorithm.steps(learner.learnt, learner.target, allowed)
    assert (step.loss.item() != losses[0][0]) == (name != "one_step_sarsa")  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["r2d2", "apex"])
def test_values_of_forbidden_actions_reach_no_error_and_no_first_priority(name: str) -> None:
    algorithm, learner, spec = masked_q(name)
    if name == "r2d2":
        assert isinstance(algorithm, R2D2)
    batch = forbidding(record(algorithm, learner.network, spec))
    high = torch.tensor([0.0, 0.0, 0.0, 100.0])
    q_values = batch.fields["q_values"]
    raised = with_fields(batch, q_values=q_values + high)
    first = algorithm.initial_priorities(batch)
    assert torch.equal(first, algorithm.initial_priorities(raised))
    assert first.std() > 0
    rows = q_values[algorithm._burn_in :]
    plain, lifted = (algorithm._errors(x, x.flip(1), batch)[0] for x in (rows, rows + high))
    assert torch.equal(plain, lifted)
    unmasked = with_fields(batch, **{ACTION_MASK: torch.ones_like(batch.fields[ACTION_MASK])})
    assert not torch.equal(algorithm._errors(rows + high, rows + high, unmasked)[0], lifted)
    numbers = np.zeros(8, np.int64)
    drawn = replace(batch, sample=Sample(numbers, numbers, torch.ones(8)))
    update = learner.update(drawn, 0.0)
    assert update.priorities is not None
    assert update.weights[0] == 8


@pytest.mark.parametrize("name", ["pqn", "one_step_q", "r2d2", "apex"])
@pytest.mark.parametrize("greedy", [False, True])
def test_exploration_keeps_to_the_mask(name: str, greedy: bool) -> None:
    algorithm, learner, spec = masked_q(name)
    batch = record(algorithm, learner.network, spec, num_unrolls=64, greedy=greedy)
    mask = batch.fields[ACTION_MASK]
    allowed = mask.gather(-1, batch.fields["action.action"].unsqueeze(-1)).squeeze(-1) == 1
    assert torch.equal(allowed, mask.any(-1))
