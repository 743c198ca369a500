"""Every option of the server, its default and its help text: the one source of all three.

A run's `config.json` is this, in JSON; `run/resuming.py` says what may differ when it is started again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from seedbed.common.credentials import ServerCredentials
from seedbed.common.errors import UsageError
from seedbed.common.options import option
from seedbed.server.options.replay import QLearningConfig, R2D2Config, ReplayConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentConfig:
    """environment"""

    env: str = option("ALE/Pong-v5", "environment id: ALE/*, seedbed/*, or any that Gymnasium has registered")
    atari_preset: Literal["modern", "paper"] = option(
        "modern", "Atari preprocessing: modern (sticky actions, 18 actions, no life loss) or paper (IMPALA table G.1)"
    )
    seed: int = option(0, "seed of the run; those of environments, network and sampling derive from it")


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetConfig:
    """local environment clients"""

    num_envs: int = option(64, "environments in all local clients together", minimum=1)
    num_clients: int | None = option(None, "local client processes (default: one per core)", minimum=1)
    num_greedy_envs: int = option(
        0,
        "of these, the last so many only show the score: they explore nothing and nothing is learnt from them "
        "(0: all environments count)",
        minimum=0,
    )
    isolate: bool = option(
        False, "each environment in a process of its own: one that hangs or crashes costs only itself; slower"
    )
    step_timeout_s: float = option(30.0, "a step that takes longer hangs; its client is started again", minimum=0.1)
    reset_timeout_s: float = option(120.0, "the same for a reset, and for building an environment", minimum=0.1)

    def __post_init__(self) -> None:
        if self.num_greedy_envs >= self.num_envs:
            raise UsageError(
                f"expected --num-greedy-envs below --num-envs ({self.num_envs}), got {self.num_greedy_envs}"
            )

    @property
    def greedy_environments(self) -> range:
        """Indices of the environments that only show the score."""
        return range(self.num_envs - self.num_greedy_envs, self.num_envs)

    def shows_score(self, environment_index: int) -> bool:
        """Whether its episodes count."""
        return not self.num_greedy_envs or environment_index in self.greedy_environments


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningConfig:
    """learning, whatever the algorithm"""

    unroll_length: int = option(20, "T, transitions of an unroll that are trained on", minimum=1)
    batch_size: int = option(
        32, "B, unrolls in a train batch; of no account for a2c and ppo: one of every environment", minimum=1
    )
    discount: float = option(0.99, "gamma")
    reward_clipping: Literal["none", "abs_one", "soft_asymmetric", "paper_asymmetric"] = option(
        "abs_one", "how rewards are squashed before the loss; scores stay raw"
    )
    publish_every: int = option(
        1, "train batches between two sets of parameters that actors get; more adds policy lag on purpose", minimum=1
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorCriticConfig:
    """actor-critics: vtrace, a2c, a3c, ppo"""

    lambda_: float = option(
        1.0, "multiplies the clipped trace coefficients c of V-trace; in the others, that of GAE", flag="--lambda"
    )
    baseline_cost: float = option(0.5, "weight of half the squared value error")
    entropy_cost: float = option(0.01, "weight of the entropy bonus")
    reduction: Literal["mean", "sum"] = option(
        "mean",
        "over valid steps; sum as in IMPALA's paper wants its optimiser: --optimiser rmsprop --epsilon 0.01 "
        "--clip-norm 40 --learning-rate 6e-4",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class VTraceConfig:
    """V-trace"""

    clip_rho: float = option(1.0, "rho-bar: decides what is learnt")
    clip_c: float = option(1.0, "c-bar: variance against speed of the traces")
    clip_pg_rho: float = option(1.0, "rho-bar of the policy gradient")
    advantage: Literal["seed", "rlax"] = option(
        "seed", "rlax mixes values by lambda, which makes it GAE on-policy; seed does not"
    )

    def __post_init__(self) -> None:
        if self.clip_rho < self.clip_c:
            raise UsageError(f"expected --clip-rho >= --clip-c, got {self.clip_rho} and {self.clip_c}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PPOConfig:
    """PPO"""

    clip_ratio: float = option(0.2, "epsilon: how far the ratio of policies may go from 1")
    epochs: int = option(4, "times that each train batch is gone through", minimum=1)
    minibatches: int = option(4, "optimiser steps in an epoch, each on as many of the unrolls", minimum=1)

    def __post_init__(self) -> None:
        if not self.clip_ratio > 0:
            raise UsageError(f"expected --clip-ratio of more than 0, got {self.clip_ratio}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AsynchronousQConfig:
    """Q-learning without a replay: one_step_q, one_step_sarsa, n_step_q"""

    exploration_steps: int = option(
        1_000_000, "agent steps over which epsilon falls from 1 to 0.1, 0.01 or 0.5, by environment", minimum=1
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """network"""

    torso: Literal["mlp", "impala_shallow", "nature", "impala_deep"] = option(
        "impala_shallow", "what reads observations"
    )
    core: Literal["none", "lstm"] = option("none", "memory; fed with last action and clipped reward too")
    core_size: int = option(256, "H, width of the memory")
    background: float = option(0.0, "subtracted from the pixels of images: what means nothing should be 0")
    frame_stack: int = option(4, "K, newest frames the network sees at once; clients send one")
    precision: Literal["float32", "bfloat16"] = option(
        "bfloat16", "of the torso; weights, heads, memory and losses are float32"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimiserConfig:
    """optimiser"""

    optimiser: Literal["adam", "rmsprop", "rmsprop_tf"] = option(
        "adam", "rmsprop_tf: epsilon inside the root, mean square from 1"
    )
    learning_rate: float = option(6e-4, "at the start")
    final_learning_rate_share: float = option(0.0, "share of it left at the end of the run, reached linearly")
    epsilon: float = option(1e-8, "of the optimiser; belongs to the reduction, which scales gradients")
    decay: float = option(0.99, "of RMSProp's mean square")
    centred: bool = option(False, "divide by the spread of gradients, not their size; of rmsprop")
    momentum: float = option(0.0, "of RMSProp")
    beta1: float = option(0.9, "of Adam")
    beta2: float = option(0.999, "of Adam")
    clip_norm: float = option(40.0, "largest global gradient norm")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingConfig:
    """serving"""

    host: str = option("127.0.0.1", "address to listen on")
    port: int = option(0, "port to listen on; 0 lets the system choose")
    num_slots: int | None = option(None, "environments the server has room for (default: 2 * num-envs)")
    frontends: int = option(1, "gRPC processes; one serves about 20,000 messages/s", minimum=1)
    max_inference_batch: int = option(256, "rows in one inference batch")
    max_wait_ms: float = option(5.0, "longest wait of a request for company, with --wait-when-idle")
    wait_when_idle: bool = option(False, "collect larger inference batches even when the device is idle")
    cuda_graphs: bool = option(False, "replay the acting network as CUDA graphs; off until it has been measured")
    settle_s: float = option(
        0.0, "at the start, answer nobody before no environment has joined for so long: a large fleet starts faster"
    )
    grace_s: float = option(30.0, "how long a lost connection keeps its lease")
    round_patience_s: float = option(
        10.0, "a2c and ppo: how long no environment may answer before those that are missing are left out"
    )
    queue_unrolls: int | None = option(
        None, "unrolls the learner's queue holds (default: 2 train batches); full is back-pressure and bounds the lag"
    )
    credentials: ServerCredentials = field(default_factory=ServerCredentials)


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringConfig:
    """monitoring"""

    http_port: int | None = option(
        None, "answer /healthz, /readyz and /metrics on this port; 0 lets the system choose (default: not at all)"
    )
    http_host: str = option("127.0.0.1", "address for them; whoever reaches it may read, nobody can change anything")
    stall_limit_s: float = option(
        120.0,
        "how long inference or learner may make no progress while they have work: then the threads' stacks go to the "
        "log and the server ends with exit code 75",
        minimum=1,
    )
    max_lost_updates: int = option(
        100,
        "end the run, with exit code 1 and without another checkpoint, when the gradients of so many updates in a row "
        "were not finite",
        minimum=1,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """run"""

    run_dir: Path | None = option(
        None, "where the run lives (default: runs/PRESET-or-ENV, with the algorithm if it is not vtrace)"
    )
    resume: Literal["auto", "never"] = option("auto", "auto continues a run found in --run-dir; never refuses one")
    device: Literal["auto", "cpu", "cuda"] = option("auto", "of inference and learning")
    train: bool = option(True, "learn; without it the server only answers, and drops what it sees")
    torch_threads: int = option(1, "threads of each torch operation on a CPU")
    max_steps: int = option(20_000_000, "stop after so many agent steps; the learning rate decays over them")
    max_seconds: float | None = option(None, "stop after so long")
    target_return: float | None = option(None, "stop when mean and median return of the last 100 episodes reach this")
    checkpoint_interval_s: float = option(300.0, "time between checkpoints")
    log_interval_s: float = option(10.0, "time between log lines")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """All of it."""

    algorithm: Literal["vtrace", "a2c", "a3c", "ppo", "r2d2", "apex", "one_step_q", "one_step_sarsa", "n_step_q"] = (
        option("vtrace", "what learns")
    )
    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    fleet: FleetConfig = field(default_factory=FleetConfig)
    learning: LearningConfig = field(default_factory=LearningConfig)
    actor_critic: ActorCriticConfig = field(default_factory=ActorCriticConfig)
    vtrace: VTraceConfig = field(default_factory=VTraceConfig)
    ppo: PPOConfig = field(default_factory=PPOConfig)
    q_learning: QLearningConfig = field(default_factory=QLearningConfig)
    asynchronous_q: AsynchronousQConfig = field(default_factory=AsynchronousQConfig)
    r2d2: R2D2Config = field(default_factory=R2D2Config)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    serving: ServingConfig = field(default_factory=ServingConfig)
    monitoring: MonitoringConfig = field(default_factory=MonitoringConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        if self.queue_unrolls < self.learning.batch_size:
            raise UsageError(
                f"expected --queue-unrolls of at least --batch-size ({self.learning.batch_size}), got "
                f"{self.queue_unrolls}: a train batch could never be complete"
            )
        if self.num_slots < self.fleet.num_envs:
            raise UsageError(
                f"expected --num-slots of at least --num-envs ({self.fleet.num_envs}), got {self.num_slots}"
            )

    @property
    def num_slots(self) -> int:
        """S: room for every environment twice, so that a restarted client need not wait for its old lease."""
        return self.serving.num_slots or 2 * self.fleet.num_envs

    @property
    def queue_unrolls(self) -> int:
        """Capacity of the learner's queue."""
        return self.serving.queue_unrolls or 2 * self.learning.batch_size
