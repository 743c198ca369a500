"""Options of environments that client and server share: which one, and how long it may take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seedbed.common.environment_name import MARKS, EnvironmentName, canonical, parse_kwargs, parse_size
from seedbed.common.errors import UsageError
from seedbed.common.info_numbers import parse_keys
from seedbed.common.options import option


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentOptions:
    """environment"""

    env: str | None = option(
        None,
        "environment: ALE/*, seedbed/*, any id registered in Gymnasium, or MODULE:NAME, a function, a class or an id "
        "that the module registers; a client without it takes the server's",
        metavar="ID",
        fixed=True,
    )
    env_kwargs: str | None = option(
        None,
        "keyword arguments of what makes the environment, a JSON object; of ALE/* they change the preset",
        metavar="JSON",
        fixed=True,
    )
    image_size: str | None = option(
        None, "images are shrunk to this size before they travel: means of areas", metavar="HxW", fixed=True
    )
    grey: bool = option(False, "colour images are turned to grey before they travel", fixed=True)
    max_episode_steps: int | None = option(
        None, "episodes are truncated after so many agent steps", minimum=1, fixed=True
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

    def __post_init__(self) -> None:
        if self.env is not None and any(mark in self.env for mark in MARKS):
            raise UsageError(
                f"--env: expected an id alone, got {self.env!r}: say the rest as --env-kwargs JSON and the like"
            )
        if self.env_kwargs is not None:  # one text for equal arguments: a run that goes on compares texts
            object.__setattr__(self, "env_kwargs", canonical(parse_kwargs(self.env_kwargs)) or None)
        if self.image_size is not None:
            object.__setattr__(self, "image_size", "{}x{}".format(*parse_size(self.image_size)))

    @property
    def env_id(self) -> str:
        """The id, where there must be one."""
        assert self.env is not None
        return self.env

    @property
    def env_name(self) -> str:
        """The id with all that changes what the environment shows or pays; see `environment_name.py`."""
        name = EnvironmentName(
            id=self.env_id,
            kwargs=parse_kwargs(self.env_kwargs or "{}"),
            image_size=None if self.image_size is None else parse_size(self.image_size),
            grey=self.grey,
            max_steps=self.max_episode_steps,
        )
        return str(name)

    @property
    def needs_env(self) -> str | None:
        """An option that was given and means nothing without --env."""
        given = {
            "--env-kwargs": self.env_kwargs,
            "--image-size": self.image_size,
            "--grey": self.grey or None,
            "--max-episode-steps": self.max_episode_steps,
        }
        return next((flag for flag, value in given.items() if value is not None), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class CareOptions:
    """isolation, time limits, rendering and info of environments"""

    isolate: bool = option(
        False, "each environment in a process of its own: one that hangs or crashes costs only itself; slower"
    )
    vector: Literal["none", "gymnasium", "ale", "envpool"] = option(
        "none",
        "step all environments of a group by one call: gymnasium (an environment's own vector, or MODULE:NAME that is "
        "called with num_envs), ale (ALE/*, in C++), envpool (its own ids)",
    )
    vector_threads: int = option(1, "ale, envpool: threads that step a vector", minimum=1)
    step_timeout_s: float = option(
        30.0,
        "longest step; one that takes longer hangs, and its client is started again, or with --isolate itself",
        minimum=0.1,
    )
    reset_timeout_s: float = option(
        120.0, "longest reset, and longest time to build an environment; then as with --step-timeout-s", minimum=0.1
    )
    render: Literal["none", "human"] = option("none", "human: a window for each environment, which slows it down")
    info_keys: str = option(
        "auto",
        "numbers of an episode's last info that become metrics info/NAME: auto (all of them), none, or names, "
        "a/b for info['a']['b']",
        metavar="NAME,...",
    )

    def __post_init__(self) -> None:
        parse_keys(self.info_keys)
        if self.vector != "none" and self.isolate:
            raise UsageError("expected --isolate or --vector, got both: a vector's environments share a process")
        if self.vector != "none" and self.render != "none":
            raise UsageError(f"expected --render none with --vector {self.vector}, got {self.render}")


VIDEO_ENDINGS = (".mp4", ".gif")


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmOptions:
    """film"""

    film: Path | None = option(None, "video of environment 0", metavar="FILE", hidden=True)
    film_episodes: int = option(1, "episodes in it", minimum=1, hidden=True)
    film_fps: float | None = option(None, "pictures a second", minimum=0.1, hidden=True)
