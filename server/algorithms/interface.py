"""What an algorithm owns, and nothing more.

An algorithm brings what it learns and which part of that acts, what it records per step beside the timestep, how it
picks actions, the steps of an update with their losses, how train batches come about, and whether it needs a target
network. Transport, slots, batching, unrolls, publishing, checkpoints and metrics are the same for all of them and
never ask which one runs.

Shapes: N rows of an inference batch, L = T + 1 rows and B unrolls of a train batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from seedbed.common.errors import UsageError
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.acting import Acting, Decision
from seedbed.server.algorithms.best import Best
from seedbed.server.algorithms.update_steps import Group, ScaledHead, Step, Target
from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.regimes import REGIMES, Draws, RegimeName
from seedbed.server.experience.unroll import FieldSpec
from seedbed.server.networks.array_kinds import as_read
from seedbed.server.networks.interface import AgentState, Inputs, PolicyNetwork
from seedbed.server.networks.learnt import Learnt
from seedbed.server.networks.moments import COUNT, LIMIT, ObservationMoments
from seedbed.server.networks.normaliser import is_normalised
from seedbed.server.networks.risk import RiskBound
from seedbed.server.networks.task_shares import TaskShares
from seedbed.server.networks.value_head import ValueMoments
from seedbed.server.options.config import ServerConfig

EVERYTHING = "all"
"""The group of an algorithm that has one."""


class Algorithm(ABC):
    """Base of every algorithm; a family of them is one file in this folder.

    Attributes:
        Options: frozen dataclass of its own options; their defaults are its published settings.
        recorded: fields that `act` records per step.
        num_rows: L of its unrolls.
        period: rows between the starts of consecutive unrolls.
        trained_rows: the transitions of an unroll that are trained on; empty: all. Burn-in and lookahead are not.
        batch_size: B.
        regime: how unrolls reach the learner, see `experience.regimes`.
        draws: of a replay: "unrolls" by priority, or valid "transitions" uniformly, with num_rows - period rows behind
            each.
        target: the learner keeps a target network and how it follows; None: there is none.
        shows: what "policy" of `Decision.shown` is.
        evaluates_greedily: exploration is no part of what is learnt, so `seedbed eval` leaves it out.
        gossips: what it learns may be mixed with that of another learner after an update: what was done before the mix
            is policy lag that it corrects or bears, and nothing else of it remembers older parameters.
        serves: its parameters may be kept elsewhere and change with others' gradients at any time; one group, and no
            statistics.
        draws_rows: what an update learns from is drawn anew within it, which no recording of it would do.
        sums: losses are sums over what is learnt from, not means: several learners add their gradients up.
        over_learners: adds sums up over all learners, for losses that depend on moments of the whole batch: to be asked
            once in an update, within its first step, with all that `no_sums` names. None: there is no other learner.
    """

    Options: ClassVar[type[Any]]
    recorded: Mapping[str, FieldSpec]
    num_rows: int
    period: int
    trained_rows: range = range(0)
    batch_size: int
    regime: RegimeName = "queue"
    draws: Draws = "unrolls"
    target: Target | None = None
    shows: Literal["policy", "q_values"] = "policy"
    evaluates_greedily: bool = False
    sums: bool = False
    gossips: ClassVar[bool] = False
    serves: ClassVar[bool] = False
    draws_rows: ClassVar[bool] = False
    over_learners: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] | None = None

    def __init__(self, config: ServerConfig, spec: EnvironmentSpec) -> None:
        """Prepares to learn.

        Args:
            config: of the run; `config.algorithm_options` are of this class's `Options`.
            spec: of the environment.

        Raises:
            SpecError: it cannot learn this environment.
            UsageError: its options do not go with others.
        """
        if REGIMES[self.regime].on_policy and config.learning.publish_every != 1:
            raise UsageError(
                f"expected --publish-every 1 with --algorithm {config.algorithm}, which learns only from what its "
                f"newest parameters did, got {config.learning.publish_every}"
            )
        self._options = config.algorithm_options
        self._learning = config.learning
        self._network = config.network
        self._spec = spec
        self.batch_size = config.learning.batch_size

    @classmethod
    @abstractmethod
    def suits(cls, spec: EnvironmentSpec) -> int | None:
        """Rank among the algorithms to choose from for an environment, the highest wins; None: it cannot learn it."""

    @classmethod
    def defaults(cls, spec: EnvironmentSpec) -> Mapping[str, Any]:
        """Published or measured values of common options, by what an environment shows: dotted path -> value."""
        return {}

    @classmethod
    def defaults_with_memory(cls) -> Mapping[str, Any]:
        """Those of options whose values are others where the network has a core; they win over `defaults`."""
        return {}

    @abstractmethod
    def make_learnt(self) -> nn.Module:
        """All that is learnt, fresh: float32 weights, on the CPU."""

    def acting(self, learnt: nn.Module) -> PolicyNetwork:
        """The part of it that acts, not a copy: copies of it are made once, and changes are published to them.

        Statistics in it are changed in place. All of it, unless said otherwise.
        """
        if isinstance(learnt, Learnt):
            return learnt.network
        assert isinstance(learnt, PolicyNetwork), "an algorithm whose learnt module is more says which part acts"
        return learnt

    def with_statistics(
        self,
        network: PolicyNetwork,
        values: ValueMoments | None = None,
        risk: RiskBound | None = None,
        shares: TaskShares | None = None,
    ) -> nn.Module:
        """A network beside the accumulators of its statistics; the network alone where there are none."""
        observations = self.observation_moments()
        if observations is values is risk is shares is None:
            return network
        return Learnt(network, observations, values, risk, shares)

    def observation_moments(self) -> ObservationMoments | None:
        """Accumulators for the normalisers of networks: a part of what is learnt that does not act.

        In rounds they take in every transition. Where rows wait in a queue each change is policy lag, so they are
        frozen after a million; with a replay, which draws rows again and again, they forget what is older.
        """
        normalised = any(is_normalised(as_read(spec)) for spec in self._spec.shown)
        if self._network.normalise_observations != "on" or not normalised:
            return None
        limit = None if REGIMES[self.regime].on_policy else LIMIT
        return ObservationMoments(self._spec.shown, limit=limit, freezes=self.regime == "queue")

    @abstractmethod
    def act(self, network: PolicyNetwork, inputs: Inputs, state: AgentState, acting: Acting) -> Decision:
        """Picks actions for an inference batch; `network` is a copy of the acting part."""

    def best(self, network: PolicyNetwork, inputs: Inputs, state: AgentState) -> Best:
        """The best actions, as `act` picks them for greedy rows, from the network alone: an exported policy is this.

        Args:
            network: as for `act`.
            inputs: N rows.
            state: before them.

        Raises:
            UsageError: the algorithm does not say it.
        """
        raise UsageError(f"expected an algorithm whose policies can be exported, {type(self).__name__} has no `best`")

    def plan(self, version: int) -> Sequence[str]:
        """The groups of the steps of an update, in order, known without a batch.

        Args:
            version: updates before this one.
        """
        return (EVERYTHING,)

    @abstractmethod
    def steps(self, learnt: nn.Module, target: nn.Module | None, batch: TrainBatch) -> Iterator[Step]:
        """The steps of an update, one after another: exactly those of `plan`.

        Args:
            learnt: what is being learnt; it changes whenever the iterator is asked for the next step.
            target: the target network; None without `target`.
            batch: its `sample` says how unrolls were drawn, if from a replay.
        """

    def observed(self, learnt: nn.Module, batch: TrainBatch) -> Mapping[str, Tensor]:
        """Moments of what a train batch shows, each valid transition that is trained on once; empty without need.

        The learner asks before the first step of an update and adds them to those of the steps.
        """
        moments = moments_within(learnt)
        if moments is None:
            return {}
        start, stop = batch.trained_rows.start, batch.trained_rows.stop
        return moments.sums([array[start:] for array in batch.observations], batch.valid[start:stop])

    def no_moments(self, learnt: nn.Module) -> Mapping[str, Tensor]:
        """Zeros for all moments that an update may give, `observed` or by its steps: those of a learner without rows.

        Several learners add moments up, so all of them must know names and shapes before there is a batch.
        """
        moments = moments_within(learnt)
        return {} if moments is None else moments.no_sums()

    def no_sums(self, learnt: nn.Module) -> Mapping[str, Tensor]:
        """Zeros for all that `over_learners` is asked for in an update; empty where it is not."""
        return {}

    def mixable(self, learnt: nn.Module) -> Sequence[ScaledHead]:
        """The heads that are scaled by moments of their own: learners that are mixed mix what such heads say."""
        return ()

    def after_update(self, learnt: nn.Module, moments: Mapping[str, Tensor]) -> None:
        """Changes statistics in place, after the last step of an update and before anybody sees it.

        Unless said otherwise: the moments of observations, and with them all normalisers in what is learnt.

        Args:
            learnt: what is being learnt.
            moments: the sums of all steps that gave any, and those of `observed`; empty where there were none.
        """
        if (observations := moments_within(learnt)) is not None and COUNT in moments:
            observations.merge(moments)
            observations.write(learnt)

    def statistics(self, learnt: nn.Module) -> Mapping[str, Tensor]:
        """Metrics of statistics, after they have changed: scalars on the device, by name."""
        observations = moments_within(learnt)
        return {} if observations is None else {"observation_shift": observations.shift.clone()}

    def groups(self, learnt: nn.Module) -> Mapping[str, Group]:
        """The parameters of each group."""
        return {EVERYTHING: Group(tuple(learnt.parameters()))}

    def targeted(self, learnt: nn.Module) -> nn.Module:
        """The part that the target network is a copy of."""
        return learnt

    def initial_priorities(self, batch: TrainBatch) -> Tensor:
        """What new unrolls are worth before they were ever trained on, `[B]`, from what was recorded as they were made.

        Args:
            batch: without observations, agent state and sample.
        """
        raise NotImplementedError(f"{type(self).__name__} does not learn from a replay")


def moments_within(learnt: nn.Module) -> ObservationMoments | None:
    """The accumulators for normalisers in what is learnt; None: nothing is normalised."""
    return next((module for module in learnt.modules() if isinstance(module, ObservationMoments)), None)
