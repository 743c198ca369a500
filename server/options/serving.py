"""Options of serving: address, inference batches, leases, monitoring."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from seedbed.common.credentials import ServerCredentials
from seedbed.common.errors import UsageError
from seedbed.common.options import option


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingConfig:
    """serving"""

    host: str = option("127.0.0.1", "address to listen on")
    port: int = option(0, "port to listen on; 0 lets the system choose", minimum=0, maximum=65535)
    num_slots: int | None = option(
        None, "environments the server has room for (default: 2 * num-envs)", minimum=1, maximum=1 << 22
    )
    frontends: int = option(
        1, "gRPC processes; a message costs one about 160 us of a core: 5,000 to 6,000 a second", minimum=1
    )
    max_inference_batch: int = option(256, "rows in one inference batch", minimum=1)
    max_wait_ms: float = option(5.0, "longest wait of a request for company, with --wait-when-idle", minimum=0)
    wait_when_idle: bool = option(False, "collect larger inference batches even when the device is idle")
    cuda_graphs: bool = option(False, "replay the acting network as CUDA graphs; off until it has been measured")
    settle_s: float = option(
        0.0,
        "at the start, answer nobody until no other environment has joined for so long: a large fleet starts faster",
        minimum=0,
    )
    grace_s: float = option(30.0, "how long a lost connection keeps its lease", minimum=0)
    round_patience_s: float = option(
        10.0,
        "learning in rounds: how long no environment may answer before those that are missing are left out",
        minimum=0,
    )
    queue_unrolls: int | None = option(
        None, "unrolls the learner's queue holds (default: 2 train batches); full is back-pressure and bounds the lag"
    )
    credentials: ServerCredentials = field(default_factory=ServerCredentials)


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringConfig:
    """monitoring"""

    http_port: int | None = option(
        None,
        "answer /healthz, /readyz and /metrics on this port; 0 lets the system choose (default: not at all)",
        minimum=0,
        maximum=65535,
    )
    http_host: str = option(
        "127.0.0.1", "address of --http-port; whoever reaches it may read, nobody can change anything"
    )
    dashboard_port: str = option(
        "auto",
        "port of the live dashboard: a number (0 lets the system choose), off, or auto: with train the first that is "
        "free from 7780 on, with server none",
        metavar="PORT",
    )
    dashboard_host: str = option(
        "127.0.0.1",
        "address of the dashboard; beyond loopback only with TLS and the token of clients, or --insecure: whoever "
        "reaches it may see everything, nobody can change anything",
    )
    dashboard_frames: Literal["on", "off"] = option("on", "observations in the dashboard; off shows numbers only")
    track: str | None = option(
        "tensorboard",
        "trackers, which get the numbers of metrics.jsonl too, commas between: tensorboard, wandb, trackio, mlflow, "
        "a plug-in's name, or your own MODULE:CLASS; none for no tracker",
        metavar="NAME,...",
    )
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

    def __post_init__(self) -> None:
        port = self.dashboard_port
        if port not in ("auto", "off") and not (port.isascii() and port.isdigit() and int(port) <= 65535):
            raise UsageError(f"expected --dashboard-port auto, off, or a number from 0 to 65535, got {port!r}")
