"""Options of learning, whatever the algorithm: unrolls, optimiser, replay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from seedbed.common.errors import UsageError
from seedbed.common.options import option


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningConfig:
    """learning, whatever the algorithm"""

    unroll_length: int = option(20, "T, transitions of an unroll that are trained on", minimum=1, fixed=True)
    batch_size: int = option(
        32,
        "B, unrolls in a train batch; of no account where learning goes in rounds: one of every environment",
        minimum=1,
    )
    discount: float = option(0.99, "discount factor, gamma", minimum=0, maximum=1)
    reward_clipping: Literal["none", "abs_one", "soft_asymmetric", "paper_asymmetric"] = option(
        "none", "how rewards are squashed before the loss; scores stay raw; abs_one with an Atari preset"
    )
    publish_every: int = option(
        1, "train batches between two sets of parameters that actors get; more adds policy lag on purpose", minimum=1
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimiserConfig:
    """optimiser"""

    optimiser: Literal["adam", "radam", "rmsprop", "rmsprop_tf"] = option(
        "adam",
        "optimiser; radam is Adam with small first steps; rmsprop_tf has epsilon inside the root and a mean square "
        "that begins at 1",
        fixed=True,
    )
    learning_rate: float = option(6e-4, "learning rate at the start of the run", minimum=0)
    final_learning_rate_share: float = option(
        0.0, "share of the learning rate left at the end of the run, reached linearly", minimum=0
    )
    epsilon: float = option(
        1e-8,
        "optimiser's epsilon, added to what a step is divided by; sums of gradients want more than means",
        minimum=0,
    )
    decay: float = option(0.99, "RMSProp: decay of the mean square", minimum=0, below=1)
    centred: bool = option(False, "RMSProp: divide by the spread of gradients, not their size", fixed=True)
    momentum: float = option(0.0, "RMSProp: momentum", minimum=0)
    beta1: float = option(0.9, "Adam, RAdam: decay of the first moment", minimum=0, below=1)
    beta2: float = option(0.999, "Adam, RAdam: decay of the second moment", minimum=0, below=1)
    clip_norm: float = option(40.0, "largest global gradient norm", minimum=0)
    update_graphs: bool = option(
        False,
        "replay whole updates as CUDA graphs: of adam, by one learner, not in rounds; off until it has been measured",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayConfig:
    """replay"""

    replay_capacity: int = option(2000, "unrolls that the replay holds; the oldest makes room", minimum=1, fixed=True)
    replay_min_size: int = option(200, "unrolls that the replay must hold before learning starts", minimum=1)
    samples_per_insert: float = option(
        1.5, "how often an unroll is drawn on average; inserts and draws wait for that", above=0
    )
    replay_tolerance: float | None = option(
        None,
        "tolerance of samples-per-insert: unrolls by which draws may be ahead or behind "
        "(default: 2 * (batch size + samples per insert), or num-envs * samples per insert if that is more)",
        minimum=0,
    )
    priority_exponent: float = option(0.9, "alpha: 0 draws uniformly, 1 in proportion to priorities", minimum=0)
    importance_exponent: float = option(0.6, "beta: 1 corrects in full for what is drawn too often", minimum=0)
    priority_eta: float = option(0.9, "share of the largest error in an unroll's priority; the rest is their mean")
    replay_device: Literal["auto", "cpu", "cuda"] = option(
        "auto", "device of the replay: auto is the learner's if it fits"
    )
    checkpoint_replay: bool = option(False, "save the replay when the run is stopped in order, and resume with it")

    def __post_init__(self) -> None:
        if not 0 <= self.priority_eta <= 1:
            raise UsageError(f"expected --priority-eta between 0 and 1, got {self.priority_eta}")

    def num_unrolls(self, period: int) -> int:
        """Capacity in unrolls."""
        return self.replay_capacity

    def min_inserts(self, insert: int) -> int:
        """Inserts before the first draw."""
        return self.replay_min_size

    def draws_per_insert(self, insert: int, batch_size: int) -> float:
        """How often what is inserted is drawn."""
        return self.samples_per_insert

    @property
    def exponents(self) -> tuple[float, float]:
        """Alpha of priorities and beta of importance weights."""
        return self.priority_exponent, self.importance_exponent


@dataclass(frozen=True, slots=True, kw_only=True)
class UniformReplayConfig:
    """replay"""

    replay_capacity: int = option(
        1_000_000, "transitions that the replay holds; the oldest make room", minimum=1, fixed=True
    )
    replay_min_size: int = option(1000, "transitions that the replay must hold before learning starts", minimum=1)
    updates_per_step: float = option(
        1.0, "U, updates for each agent step that is learnt from; steps and updates wait for one another"
    )
    replay_tolerance: float | None = option(
        None,
        "tolerance of updates-per-step: draws by which updates may be ahead or behind "
        "(default: two updates and what two unrolls, or one of every environment, bring)",
        minimum=0,
    )
    replay_device: Literal["auto", "cpu", "cuda"] = option(
        "auto", "device of the replay: auto is the learner's if it fits"
    )
    checkpoint_replay: bool = option(False, "save the replay when the run is stopped in order, and resume with it")

    def __post_init__(self) -> None:
        if not self.updates_per_step > 0:
            raise UsageError(f"expected --updates-per-step above 0, got {self.updates_per_step}")

    def num_unrolls(self, period: int) -> int:
        """Capacity in unrolls that begin every `period` transitions."""
        return -(-self.replay_capacity // period)

    def min_inserts(self, insert: int) -> int:
        """Inserts of so many transitions before the first draw."""
        return -(-self.replay_min_size // insert)

    def draws_per_insert(self, insert: int, batch_size: int) -> float:
        """How often an insert of so many transitions is drawn, in batches of so many."""
        return self.updates_per_step * insert * batch_size

    @property
    def exponents(self) -> tuple[float, float]:
        """Alpha of priorities and beta of importance weights: drawn evenly."""
        return 0.0, 0.0
