"""Options of environments that client and server share: which one, and how long it may take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from seedbed.common.options import option


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentOptions:
    """environment"""

    env: str | None = option(
        None,
        "environment id: ALE/*, seedbed/*, or any registered in Gymnasium; a client without it takes the server's",
        metavar="ID",
        fixed=True,
    )
    atari_preset: Literal["modern", "paper"] = option(
        "modern",
        "Atari preprocessing: modern (sticky actions, 18 actions, no life loss) or paper (IMPALA table G.1)",
        fixed=True,
    )
    seed: int = option(
        0,
        "seed of the run, from which those of environments (by their index), network and sampling derive",
        minimum=0,
        fixed=True,
    )

    @property
    def env_id(self) -> str:
        """The id, where there must be one."""
        assert self.env is not None
        return self.env


@dataclass(frozen=True, slots=True, kw_only=True)
class CareOptions:
    """environments that hang or crash"""

    isolate: bool = option(
        False, "each environment in a process of its own: one that hangs or crashes costs only itself; slower"
    )
    step_timeout_s: float = option(
        30.0, "a step that takes longer hangs; its client is started again, or with --isolate itself", minimum=0.1
    )
    reset_timeout_s: float = option(120.0, "the same for a reset, and for building an environment", minimum=0.1)
