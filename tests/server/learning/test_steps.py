"""Updates of several steps on several groups: whose gradient goes where, and what happens once per update.

The algorithm here is arithmetic: two critics and an actor of a few numbers each, whose losses are written out.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seedbed.server.algorithms.interface import Algorithm
from seedbed.server.algorithms.update_steps import Group, Step, Target
from seedbed.server.learning.exchange.alone import Alone
from seedbed.server.learning.learner import Learner
from seedbed.server.networks.interface import AgentState, Inputs, PolicyNetwork
from seedbed.server.options.learning import OptimiserConfig
from tests.reference.acting import CPU

PLAN = ("critic", "actor", "critic")


class Actor(PolicyNetwork):
    """Three numbers that act, and a statistic."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.register_buffer("mean", torch.zeros(1))
        self.mean: Tensor

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> AgentState:
        return ()

    def step(self, inputs: Inputs, state: AgentState) -> tuple[Any, AgentState]:
        raise NotImplementedError

    def unroll(self, inputs: Inputs, state: AgentState) -> tuple[Any, AgentState]:
        raise NotImplementedError

    def store_for_acting(self) -> None:
        raise NotImplementedError


class Critic(nn.Linear):
    """Four numbers and a statistic."""

    def __init__(self) -> None:
        super().__init__(3, 1)
        self.register_buffer("seen", torch.zeros(1))
        self.seen: Tensor


class Both(nn.Module):
    """An actor, a critic, and a number that belongs to no group."""

    def __init__(self) -> None:
        super().__init__()
        self.actor = Actor()
        self.critic = Critic()
        self.constant = nn.Parameter(torch.ones(1))


class TwoGroups(Algorithm):
    """Critic, actor through the critic, critic."""

    regime = "replay"

    def __init__(self, target: Target | None = None, made: Sequence[str] = PLAN, priorities: int = 1) -> None:
        self.target = target
        self._made = made
        self._priorities = priorities
        self.order: list[tuple[Any, ...]] = []

    @classmethod
    def suits(cls, spec: Any) -> int | None:
        return None

    def make_learnt(self) -> Both:
        return Both()

    def acting(self, learnt: nn.Module) -> PolicyNetwork:
        assert isinstance(learnt, Both)
        return learnt.actor

    def act(self, *_: Any) -> Any:
        raise NotImplementedError

    def plan(self, version: int) -> Sequence[str]:
        self.order.append(("plan", version))
        return PLAN

    def groups(self, learnt: nn.Module) -> Mapping[str, Group]:
        assert isinstance(learnt, Both)
        return {
            "critic": Group(tuple(learnt.critic.parameters()), learning_rate=0.5),
            "actor": Group(tuple(learnt.actor.parameters()), clip_norm=0.1),
        }

    def targeted(self, learnt: nn.Module) -> nn.Module:
        assert isinstance(learnt, Both)
        return learnt.critic

    def steps(self, learnt: nn.Module, target: nn.Module | None, batch: Any) -> Iterator[Step]:
        assert isinstance(learnt, Both)
        for number, group in enumerate(self._made):
            q = learnt.critic(learnt.actor.weight * learnt.constant).sum()
            loss = batch.weight * (q.square() if group == "critic" else -q)
            self.order.append(("step", number, group))
            yield Step(
                loss,
                group,
                torch.as_tensor(batch.weight),
                {f"{group}_loss": loss.detach(), "number_max": torch.tensor(number)},
                torch.tensor([float(number)]) if number < self._priorities else None,
                {"count": torch.tensor(2), "sum": torch.tensor([float(number)])} if group == "critic" else None,
            )
            self.order.append(("after", number, [x.detach().clone() for x in learnt.parameters()]))

    def after_update(self, learnt: nn.Module, moments: Mapping[str, Tensor]) -> None:
        assert isinstance(learnt, Both)
        self.order.append(("moments", {name: float(x) for name, x in moments.items()}))
        learnt.actor.mean += 1
        learnt.critic.seen += 1


class Elsewhere(Alone):
    """Another learner has rows, of no weight."""

    def gradients(
        self, parameters: Sequence[nn.Parameter], weight: Tensor | None, *, mean: bool
    ) -> Mapping[str, Tensor] | None:
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        return {}


def a_batch(weight: float = 1.0) -> Any:
    return SimpleNamespace(
        weight=weight, valid=torch.ones(2, 1, dtype=torch.bool), fields={"policy_version": torch.zeros(3, 1).long()}
    )


def sgd_like(**changes: Any) -> OptimiserConfig:
    """RMSProp whose steps are the gradient: the epsilon outweighs what it divides by."""
    return OptimiserConfig(
        **{
            "optimiser": "rmsprop", "learning_rate": 1e6, "epsilon": 1e6, "clip_norm": 1e9,
            "final_learning_rate_share": 1.0, **changes,
        }
    )  # fmt: skip


def learner_of(algorithm: Algorithm, config: OptimiserConfig | None = None) -> Learner:
    torch.manual_seed(0)
    return Learner(algorithm, config or OptimiserConfig(learning_rate=0.1), CPU)


def numbers(module: nn.Module) -> list[Tensor]:
    return [x.detach().clone() for x in module.parameters()]


def same(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(ours, theirs, strict=True))


def test_each_step_changes_its_group_alone() -> None:
    algorithm = TwoGroups()
    learner = learner_of(algorithm)
    before = numbers(learner.learnt)
    learner.update(a_batch(), 0.0)
    states = [before] + [event[2] for event in algorithm.order if event[0] == "after"]
    names = [name for name, _ in learner.learnt.named_parameters()]
    for group, old, new in zip(PLAN, states, states[1:], strict=False):
        moved = {name.split(".")[0] for name, x, y in zip(names, old, new, strict=True) if not torch.equal(x, y)}
        assert moved == {group}


def test_an_actors_loss_leaves_nothing_in_the_critics_it_runs_through() -> None:
    """The critic's next step would else contain it, were it accumulated; so would a clip over both."""
    learner = learner_of(TwoGroups(), sgd_like())
    learnt = copy.deepcopy(learner.learnt)
    assert isinstance(learnt, Both)
    critic, actor = list(learnt.critic.parameters()), [learnt.actor.weight]
    for group in PLAN:
        q = learnt.critic(learnt.actor.weight * learnt.constant).sum()
        mine = critic if group == "critic" else actor
        gradients = torch.autograd.grad(q.square() if group == "critic" else -q, mine)
        norm = torch.cat([x.flatten() for x in gradients]).norm()
        scale = 0.5e-6 if group == "critic" else float((0.1 / (norm + 1e-6)).clamp(max=1))
        with torch.no_grad():
            for parameter, gradient in zip(mine, gradients, strict=True):
                parameter.sub_(scale * gradient)
    learner.update(a_batch(), 0.0)
    assert learner.learnt.constant.grad is None
    for ours, theirs in zip(numbers(learner.learnt), numbers(learnt), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_groups_have_their_own_rates_and_all_of_them_decay() -> None:
    config = OptimiserConfig(learning_rate=0.1, final_learning_rate_share=0.0)
    moved = []
    for progress in (0.0, 0.75):
        algorithm = TwoGroups()
        learner = learner_of(algorithm, config)
        before = numbers(learner.learnt)
        learner.update(a_batch(), progress)
        first, second, _ = [event[2] for event in algorithm.order if event[0] == "after"]
        moved.append([float((x - y).abs().max()) for x, y in ((before[2], first[2]), (first[1], second[1]))])
    assert moved[0] == pytest.approx([0.5, 0.1], rel=1e-3), "Adam's first step is the rate itself"
    assert moved[1] == pytest.approx([0.125, 0.025], rel=1e-3)


def test_an_update_is_one_version_and_counts_its_steps_beside_it() -> None:
    algorithm = TwoGroups()
    learner = learner_of(algorithm)
    for _ in range(3):
        update = learner.update(a_batch(4.0), 0.0)
    assert (learner.num_updates, learner.optimiser_steps) == (3, 9)
    assert [event[1] for event in algorithm.order if event[0] == "plan"] == [0, 1, 2]
    assert [float(weight) for weight in update.weights] == [4.0] * 3
    assert update.metrics["policy_lag_max"] == 2
    assert update.metrics["number_max"] == 2
    assert {"critic_loss", "actor_loss", "gradient_norm", "gradient_norm_critic"} <= set(update.metrics)


def test_statistics_change_after_the_last_step_with_the_sum_of_all_moments() -> None:
    algorithm = TwoGroups()
    learner = learner_of(algorithm)
    assert isinstance(learner.network, Actor)
    place = learner.network.mean.data_ptr()
    learner.update(a_batch(), 0.0)
    assert [event[0] for event in algorithm.order][-1] == "moments"
    assert algorithm.order[-1][1] == {"count": 4, "sum": 2}
    assert learner.network.mean == 1
    assert learner.network.mean.data_ptr() == place


@pytest.mark.parametrize("made", [("actor", "critic", "critic"), PLAN[:2], (*PLAN, "actor")])
def test_steps_that_are_not_the_plan_are_refused(made: Sequence[str]) -> None:
    with pytest.raises((AssertionError, ValueError), match=r"planned|zip\(\)"):
        learner_of(TwoGroups(made=made)).update(a_batch(), 0.0)


def test_one_step_at_most_gives_priorities() -> None:
    update = learner_of(TwoGroups()).update(a_batch(), 0.0)
    assert update.priorities is not None
    assert update.priorities.tolist() == [0.0]
    with pytest.raises(AssertionError, match="only one step"):
        learner_of(TwoGroups(priorities=2)).update(a_batch(), 0.0)


def test_a_step_of_weight_zero_has_no_gradient_and_neither_has_a_turn_without_a_batch() -> None:
    algorithm = TwoGroups()
    learner, twin = learner_of(algorithm), learner_of(TwoGroups())
    twin.exchange = Elsewhere()
    before = numbers(learner.learnt)
    update = learner.update(a_batch(0.0), 0.0)
    twin.update_without_batch(0.0)
    assert same(before, numbers(learner.learnt))
    assert same(before, numbers(twin.learnt))
    assert [float(weight) for weight in update.weights] == [0, 0, 0]
    assert (twin.num_updates, twin.optimiser_steps) == (1, 3)


def test_walking_without_a_batch_moves_the_optimisers_as_weight_zero_does() -> None:
    """Momentum goes on, as it does in the learners that had rows of no weight."""
    learner = learner_of(TwoGroups(Target(tau=0.1)))
    for _ in range(2):
        learner.update(a_batch(), 0.0)
    twin = learner_of(TwoGroups(Target(tau=0.1)))
    twin.exchange = Elsewhere()
    twin.set_state(copy.deepcopy(learner.get_state()))
    learner.update(a_batch(0.0), 0.3)
    twin.update_without_batch(0.3)
    assert same(numbers(learner.learnt), numbers(twin.learnt))
    assert learner.target is not None
    assert twin.target is not None
    assert same(numbers(learner.target), numbers(twin.target))
    ours, theirs = learner.get_state(), twin.get_state()
    assert (
        (ours["num_updates"], ours["optimiser_steps"]) == (theirs["num_updates"], theirs["optimiser_steps"]) == (3, 9)
    )
    assert all(torch.equal(x, y) for x, y in zip(learner.learnt.buffers(), twin.learnt.buffers(), strict=True))


def test_a_step_without_rows_is_not_made() -> None:
    class Rowless(TwoGroups):
        def steps(self, learnt: nn.Module, target: nn.Module | None, batch: Any) -> Iterator[Step]:
            for step in super().steps(learnt, target, batch):
                yield step._replace(loss=None, metrics={}) if step.group == "actor" else step

    learner = learner_of(Rowless())
    before = numbers(learner.network)
    update = learner.update(a_batch(), 0.0)
    assert (learner.num_updates, learner.optimiser_steps) == (1, 2)
    assert same(before, numbers(learner.network))
    assert "actor_loss" not in update.metrics


@pytest.mark.parametrize("tau", [0.005, 0.25])
def test_a_target_with_tau_mixes_parameters_and_copies_buffers(tau: float) -> None:
    """Of a source that stands still, 1 - (1 - tau)^k after k updates."""
    learner = learner_of(TwoGroups(Target(tau=tau)), OptimiserConfig(learning_rate=0.0))
    source, target = learner.learnt.critic, learner.target
    assert isinstance(source, Critic)
    assert isinstance(target, Critic)
    with torch.no_grad():
        target.weight.zero_()
        source.weight.fill_(1.0)
        source.bias.fill_(0.0)
    place = target.weight.data_ptr()
    steps = learner._steps
    steps._groups = {name: group._replace(learning_rate=0.0) for name, group in steps._groups.items()}
    for k in range(1, 4):
        learner.update(a_batch(), 0.0)
        assert target.weight.flatten().tolist() == pytest.approx([1 - (1 - tau) ** k] * 3, rel=1e-5)
        assert target.seen == k
    assert target.weight.data_ptr() == place
    assert not any(parameter.requires_grad for parameter in target.parameters())


def test_a_target_with_a_period_counts_updates_not_steps() -> None:
    learner = learner_of(TwoGroups(Target(period=2)))
    assert isinstance(learner.learnt, Both)
    assert learner.target is not None
    seen = []
    for _ in range(4):
        learner.update(a_batch(), 0.0)
        seen.append(same(numbers(learner.target), numbers(learner.learnt.critic)))
    assert seen == [False, True, False, True]
    assert learner.target.seen == 4


def test_a_target_follows_by_one_rule() -> None:
    for wrong in ({}, {"period": 2, "tau": 0.1}):
        with pytest.raises(ValueError, match="expected a period or a tau"):
            Target(**wrong)  # type: ignore[arg-type]


def test_a_restored_learner_of_several_groups_goes_on_bit_for_bit() -> None:
    learner = learner_of(TwoGroups(Target(tau=0.1)))
    for _ in range(3):
        learner.update(a_batch(), 0.2)
    state = copy.deepcopy(learner.get_state())
    assert set(state) == {"learnt", "optimisers", "num_updates", "optimiser_steps", "target"}
    assert set(state["optimisers"]) == {"critic", "actor"}
    restored = Learner(TwoGroups(Target(tau=0.1)), OptimiserConfig(learning_rate=0.1), CPU)
    restored.set_state(state)
    for _ in range(2):
        metrics = [each.update(a_batch(), 0.4).metrics for each in (learner, restored)]
        assert metrics[0] == metrics[1]
    assert same(numbers(learner.learnt), numbers(restored.learnt))
    assert (restored.num_updates, restored.optimiser_steps) == (5, 15)


def test_a_parameter_is_in_one_group() -> None:
    class Shared(TwoGroups):
        def groups(self, learnt: nn.Module) -> Mapping[str, Group]:
            return {name: Group(tuple(learnt.parameters())) for name in ("critic", "actor")}

    with pytest.raises(AssertionError, match="in two of the groups critic, actor"):
        learner_of(Shared())
