"""Options of `seedbed loadtest`: the one source of their names, defaults and help."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from seedbed.common.credentials import ClientCredentials
from seedbed.common.errors import UsageError
from seedbed.common.options import option
from seedbed.common.server_list import SERVERS_METAVAR, ServerList

DEFAULT_ENV = "seedbed/Synthetic-v0"
"""84x84 uint8 images and 18 actions: the size of Atari."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpawnOptions:
    """server that --spawn starts"""

    preset: str | None = option(None, "training preset, as in seedbed train", metavar="NAME")
    env: str | None = option(
        None,
        "environment whose spec is served; it is never stepped (default: the preset's, or without one "
        f"{DEFAULT_ENV}; other shapes: {DEFAULT_ENV},shape=128x128x3,dtype=uint8,actions=6)",
        metavar="ID",
    )
    device: Literal["auto", "cpu", "cuda"] = option("auto", "device of inference and learning")
    train: bool = option(True, "learn from what comes; without it the server only answers")
    server_options: str = option("", 'more options of seedbed server, in one text: "--frontends 2"', metavar="TEXT")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadTestOptions:
    """load test"""

    server: str | None = option(None, "the server to load, or the replicas of a run", metavar=SERVERS_METAVAR)
    spawn: bool = option(False, "start a server for the test, and end it afterwards")
    clients: str = option("1:64", "clients: 1:64 doubles from 1 to 64, 1,4,16 is a list", metavar="RANGE")
    envs_per_client: str = option("16", "environments of each client, one row of every message", metavar="RANGE")
    rate: str | None = option(
        None,
        "open loop: agent steps/s of all clients together, sent on time whether the server keeps up or not "
        "(without it a closed loop: each client steps as soon as it has its actions)",
        metavar="RANGE",
    )
    seconds: float = option(
        10.0, "longest measurement of one load; it ends earlier when figures are stable", minimum=0.1
    )
    step_ms: float = option(0.0, "time that one environment takes for a step, in a closed loop", minimum=0)
    jitter_ms: float = option(0.0, "random time on top, up to this", minimum=0)
    episode_steps: int = option(100, "agent steps of an episode", minimum=1)
    processes: int | None = option(None, "processes that hold the clients (default: half the cores)", minimum=1)
    first_index: int | None = option(
        None, "index of the first environment; the server chooses all indices unless given", minimum=0
    )
    min_fps: float | None = option(None, "exit with 1 when the best load reaches fewer frames/s than this", minimum=0)
    json: Path | None = option(None, "file for all figures, a list of loads", metavar="FILE")
    csv: Path | None = option(None, "file for the table", metavar="FILE")
    plot: Path | None = option(None, "draw throughput and p99 against load", metavar="FILE.png")
    spawned: SpawnOptions = field(default_factory=SpawnOptions)
    credentials: ClientCredentials = field(default_factory=ClientCredentials)

    def __post_init__(self) -> None:
        if self.rate is not None and (self.step_ms or self.jitter_ms):
            raise UsageError("expected --rate or --step-ms and --jitter-ms, not both: a rate leaves no time to choose")

    def validate(self) -> None:
        """Checks what no single option can.

        Raises:
            UsageError: there is no server, or both a given one and one to start; or indices for several.
        """
        if (self.server is None) == (not self.spawn):
            raise UsageError("expected either --server HOST:PORT or --spawn")
        if self.server is not None and self.first_index is not None and ServerList.parse(self.server).only is None:
            raise UsageError(
                f"expected --first-index with one server, got {self.server}: each of several chooses its own"
            )

    @property
    def num_processes(self) -> int:
        """How many driver processes there are."""
        return self.processes or max(1, (os.cpu_count() or 1) // 2)
