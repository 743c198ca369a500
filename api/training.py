"""Training and evaluation from Python, each as a child process: nothing of it runs in a notebook's or a sweep's own.

    result = seedbed.train(env="CartPole-v1", run_dir="runs/a", on_log=print, learning_rate=1e-3, max_steps=50_000)
    scores = seedbed.evaluate("runs/a", episodes=20)

Options have the names of the command line, with underscores.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seedbed.child_process import ChildLog, Facts, NewEpisodes, NewLines, run_child
from seedbed.common.errors import UsageError
from seedbed.common.option_fields import Option, options_of
from seedbed.common.plugins import is_module
from seedbed.server.monitoring.metrics import read_metrics
from seedbed.server.options.config import ServerConfig
from seedbed.server.run.directory import METRICS_FILE
from seedbed.server.training.command_line import read_command_line
from seedbed.words import in_words_of_python

if TYPE_CHECKING:
    from seedbed.policy import Policy

OnLog = Callable[[dict[str, Any]], object]
OnCheckpoint = Callable[[Path], object]
OnEpisode = Callable[[dict[str, Any]], object]


class StopTraining(Exception):
    """Raised by a callback to end a run in order; `train` then returns as usual."""


@dataclass(frozen=True, slots=True)
class Result:
    """A run that has ended, or stands still.

    Attributes:
        run_dir: where it lives.
        metrics: the last line of its `metrics.jsonl`; empty if it has none.
    """

    run_dir: Path
    metrics: Mapping[str, Any]

    @property
    def episode_return_mean(self) -> float | None:
        """Mean return of the last 100 episodes; None if none has ended."""
        return self.metrics.get("episode_return_mean")

    def load(self, *, device: str = "cpu", seed: int = 0, task: str | None = None) -> Policy:
        """The policy, see `seedbed.load`; what the run has imported may be imported here too."""
        from seedbed.loading import load

        return load(self.run_dir, device=device, seed=seed, allow_import=True, task=task)


def train(
    env: str | Callable[..., Any] | Sequence[str | Callable[..., Any]] | None = None,
    *,
    preset: str | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    on_log: OnLog | None = None,
    on_checkpoint: OnCheckpoint | None = None,
    on_episode: OnEpisode | None = None,
    **options: Any,
) -> Result:
    """Runs `seedbed train` to its end: a new run, or one that goes on.

    Ctrl-C stops it in order and is raised again when it has saved.

    Args:
        env: environment id, "module:function", or a function or class, which is named by its module; several of them
            are tasks that one policy learns, as are `suite="minatar"` and `tasks="FILE"`.
        preset: settings that work.
        run_dir: where the run lives.
        on_log: gets every line of `metrics.jsonl` as soon as it is written. `StopTraining` raised by it ends the run
            in order, as does every other exception, which is then raised here; so do the other callbacks.
        on_checkpoint: gets the folder of every checkpoint as soon as it is complete.
        on_episode: gets every line of `episodes.jsonl`.
        options: of `seedbed train`, e.g. `learning_rate=1e-3`, `algorithm="ppo"`; None is the command line's `none`.

    Raises:
        UsageError: an option is unknown or wrong; the message names it.
        SeedbedError: what `seedbed train` says.
        BrokenError: it crashed; the message has the end of its log.
    """
    argv = _argv_of(env, preset, run_dir, options)
    if on_episode is not None and options.get("episode_records") is False:
        raise UsageError("expected on_episode= or episode_records=False, got both: the records are what it gets")
    given = read_command_line(argv, prog="seedbed train")
    if "torch" in sys.modules and not is_module(given.algorithm or ""):  # else the child says it, a moment later
        from seedbed.server.training.resolve import check_flags

        check_flags(given)
    directory = given.directory.path
    callbacks = _Callbacks(directory, on_log, on_checkpoint, on_episode)
    with ChildLog(directory) as log, contextlib.closing(callbacks):

        def watch(reports: Sequence[Facts]) -> None:
            for facts in reports:
                callbacks.hear(facts)
            if callbacks.serving:
                log.settle()
                callbacks.look()

        with contextlib.suppress(StopTraining), in_words_of_python():
            run_child(["train", *argv], log, watch)
    written = (directory / METRICS_FILE).exists()
    return Result(directory, (read_metrics(directory) or [{}])[-1] if written else {})


def _argv_of(
    env: str | Callable[..., Any] | Sequence[str | Callable[..., Any]] | None,
    preset: str | None,
    run_dir: str | os.PathLike[str] | None,
    options: Mapping[str, Any],
) -> list[str]:
    """Words of the command line that means the same; errors and arguments are those of `train`."""
    if "seeds" in options:
        raise UsageError("expected seed=, since this is one run, got seeds=: call train once for each")
    environments = list(env) if isinstance(env, Sequence) and not isinstance(env, str) else [env]
    argv = _command_line({"preset": preset, "run_dir": run_dir}, options)
    argv += [f"--env={_name_of(one)}" for one in environments if one is not None]
    places = {str(_place_of(one.__module__)) for one in environments if callable(one)}
    if len(places) > 1:
        raise UsageError(f"expected environments out of one folder, got {', '.join(sorted(places))}")
    argv += [f"--import-from={place}" for place in places]
    named = {"preset": preset, "run_dir": run_dir, **{name: options.get(name) for name in ("config", "suite", "tasks")}}
    if env is None and all(value is None for value in named.values()):
        raise UsageError("expected env=, preset= or config=, or the run_dir= of a run that is to go on, got none")
    return argv


class _Callbacks:
    """Calls them, one after another in the caller's own thread."""

    def __init__(
        self,
        directory: Path,
        on_log: OnLog | None,
        on_checkpoint: OnCheckpoint | None,
        on_episode: OnEpisode | None,
    ) -> None:
        self.serving = False
        self._directory = directory
        self._on_log, self._on_checkpoint, self._on_episode = on_log, on_checkpoint, on_episode
        self._lines = NewLines(directory / METRICS_FILE)
        self._episodes: NewEpisodes | None = None

    def hear(self, facts: Facts) -> None:
        """The run has reported something."""
        self.serving = self.serving or "serving" in facts
        if self._on_episode is not None and (size := facts.get("episodes_bytes")) is not None:
            self._episodes = NewEpisodes(self._directory, size)
        if self._on_checkpoint is not None and "checkpoint" in facts:
            self._call("on_checkpoint", self._on_checkpoint, Path(facts["checkpoint"]))

    def look(self) -> None:
        """Looks for new lines."""
        if self._episodes is not None and self._on_episode is not None:
            for episode in self._episodes.read():
                self._call("on_episode", self._on_episode, episode)
        for line in self._lines.read():
            if self._on_log is not None:
                self._call("on_log", self._on_log, line)

    def close(self) -> None:
        """Closes what is open."""
        if self._episodes is not None:
            self._episodes.close()

    def _call(self, name: str, callback: Callable[[Any], object], value: Any) -> None:
        try:
            callback(value)
        except StopTraining:
            raise
        except Exception as error:
            error.add_note(f"raised by {name}: the run in {self._directory} was ended in order, and may go on")
            raise


def evaluate(
    run: str | os.PathLike[str],
    *,
    best: bool = False,
    episodes: int = 100,
    num_envs: int = 16,
    greedy: bool | None = None,
    seed: int = 0,
    device: str = "auto",
    video: str | os.PathLike[str] | None = None,
    video_episodes: int = 3,
    allow_import: bool = False,
    task: str | None = None,
) -> dict[str, Any]:
    """Runs `seedbed eval`: plays episodes with a run's policy.

    Args:
        run: its directory, or the folder of one checkpoint in it.
        best: the checkpoint of the best cohort instead of the newest.
        episodes: in all, shared among the environments as equally as it goes.
        num_envs: environments.
        greedy: the best action instead of exploring; None: as the algorithm has it.
        seed: of the evaluation.
        device: of inference.
        video: an mp4 or gif to write, of one environment's first episodes.
        video_episodes: how many these are.
        allow_import: import the modules that the run's config.json names, its environment among them.
        task: of a run of several the only one that is played, by its name; None: all of them.

    Returns:
        "mean", "standard_error", "median", "returns" and what else `seedbed eval --json` writes.

    Raises:
        SeedbedError: what `seedbed eval` says.
    """
    with tempfile.TemporaryDirectory() as folder, ChildLog(Path(folder)) as log:
        file = Path(folder, "scores.json")
        values = {"eval_envs": num_envs, "episodes": episodes, "eval_seed": seed, "device": device}
        words = [f"--checkpoint={Path(run)}", f"--json={file}", *_words(values)]
        words += [] if task is None else _words({"task": task})
        words += [] if greedy is None else _words({"greedy": greedy})
        words += [] if video is None else _words({"video": Path(video), "video_episodes": video_episodes})
        words += [flag for flag, wanted in (("--best", best), ("--allow-import", allow_import)) if wanted]
        with in_words_of_python():
            run_child(["eval", *words], log, lambda reports: None)
        scores: dict[str, Any] = json.loads(file.read_text())
        return scores


def _name_of(env: str | Callable[..., Any] | None) -> str | None:
    """The name by which another process can import it."""
    if env is None or isinstance(env, str):
        return env
    module, name = getattr(env, "__module__", None), getattr(env, "__qualname__", None)
    if module in (None, "__main__") or name is None or "<" in name:
        raise UsageError(
            f"expected an environment that other processes can import, got {env!r}: put it into a module of its own "
            "and name it 'module:function'"
        )
    return f"{module}:{name}"


def _place_of(module: str) -> Path:
    """The directory from which a module that is imported here can be imported."""
    top = sys.modules[module.partition(".")[0]]
    paths = list(getattr(top, "__path__", ()))
    return Path(paths[0] if paths else top.__file__ or os.getcwd()).absolute().parent


def _command_line(named: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    """The words of a command line; what no option of the run is left to the algorithm's, which the child knows.

    Raises:
        UsageError: a value is wrong.
    """
    leaves = {leaf.path.rpartition(".")[2]: leaf for leaf in options_of(ServerConfig())}
    given = {name: value for name, value in named.items() if value is not None}
    if twice := sorted(set(given) & set(options)):
        raise UsageError(f"expected each option once, got {', '.join(twice)} twice")
    words: list[str] = []
    for name, value in {**given, **options}.items():
        text = json.dumps(value) if isinstance(value, Mapping) else value
        words += _checked(name, leaves[name], text) if name in leaves else _words({name: text})
    return words


def _checked(name: str, leaf: Option, value: Any) -> list[str]:
    if leaf.kind is bool:
        if not isinstance(value, bool):
            raise UsageError(f"{name}: expected true or false, got {value!r}")
        return leaf.to_argv(value)
    if value is None and not leaf.optional:
        raise UsageError(f"{name}: expected a value, got None")
    try:
        leaf.parse(str(value))
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"{name}: {error}") from None
    return leaf.to_argv(value)


def _words(options: Mapping[str, Any]) -> Iterator[str]:
    """Options whose kind nobody here knows."""
    for name, value in options.items():
        flag = name.rstrip("_").replace("_", "-")
        if isinstance(value, bool):
            yield f"--{flag}" if value else f"--no-{flag}"
        else:
            yield f"--{flag}={value}"
