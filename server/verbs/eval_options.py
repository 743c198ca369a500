"""Options of `seedbed eval`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seedbed.common.environment_options import FilmOptions
from seedbed.common.errors import UsageError
from seedbed.common.options import option
from seedbed.common.plugins import Trust, start_directory


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalConfig:
    """evaluation"""

    checkpoint: Path | None = option(None, "the same as RUN", metavar="RUN")
    best: bool = option(False, "the checkpoint of the best cohort, which luck had a share in, instead of the newest")
    task: str | None = option(None, "of a run of several tasks the only one that is played", metavar="NAME")
    episodes: int = option(100, "episodes in all, shared among the environments as equally as it goes", minimum=1)
    eval_envs: int = option(16, "environments", minimum=1)
    greedy: bool | None = option(
        None,
        "take the best action instead of exploring (default: the algorithm's: sample from policies of discrete "
        "actions, not from values and not around continuous actions)",
    )
    eval_seed: int = option(0, "seed of the evaluation", minimum=0)
    patience_steps: int = option(
        27_000,
        "give the missing episodes up when none of them ended for so many agent steps of each environment; Atari's "
        "half hour",
        minimum=1,
    )
    device: str = option("auto", "device of inference: auto, cpu, cuda or cuda:N")
    render: Literal["none", "human"] = option("none", "human: watch one environment in a window")
    video: Path | None = option(
        None,
        "video of one environment's first episodes, mp4 or gif: what it renders or, if it renders nothing, its "
        "observations",
        metavar="FILE",
    )
    video_episodes: int = option(3, "episodes in the video", minimum=1)
    video_fps: float | None = option(None, "pictures a second (default: as the environment says, or 10)", minimum=0.1)
    json: str | None = option(None, "file for the result as JSON; - prints only that", metavar="FILE")
    allow_import: bool = option(False, "import modules that the run's config.json names")
    import_from: Path | None = option(None, "where they are looked for last", metavar="DIR", hidden=True)

    def __post_init__(self) -> None:
        if self.video is not None and self.render != "none":
            raise UsageError(
                "expected --video or --render human, got both: an environment renders in one way at a time"
            )

    @property
    def num_envs(self) -> int:
        """Environments that play; the one that is filmed must have enough episodes."""
        if self.render == "human":
            return 1
        most = self.episodes if self.video is None else self.episodes // self.num_filmed
        return max(1, min(self.eval_envs, most))

    @property
    def num_filmed(self) -> int:
        """Episodes of the video."""
        return min(self.video_episodes, self.episodes)

    @property
    def film(self) -> FilmOptions:
        """What its clients are told."""
        video = None if self.video is None else self.video.absolute()
        return FilmOptions(film=video, film_episodes=self.num_filmed, film_fps=self.video_fps)

    @property
    def trust(self) -> Trust:
        """In the modules that the run names."""
        return Trust(allow_import=self.allow_import, start_directory=start_directory(self.import_from))
