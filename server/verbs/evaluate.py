"""`seedbed eval`: the score of a checkpoint, through the same code path that trained it.

A policy server without a learner answers local environment clients: same frames, same stacks, same recurrent state.
How many episodes each environment contributes is settled before they begin, as equally as they can be shared. Taking
the first N that end would favour short ones; so the result says it when some did not end, because of Ctrl-C or because
an environment never ends one.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from seedbed.common.counting import count
from seedbed.common.errors import BrokenError, UsageError
from seedbed.common.logs import LEVEL_VARIABLE, setup_logging
from seedbed.common.options import override
from seedbed.common.output_file import check_output, writing
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.algorithms.registry import find_algorithm
from seedbed.server.inference.policy_server import Frontends, Identity, PolicyServer
from seedbed.server.options.config import ServerConfig
from seedbed.server.run.checkpoint import Checkpoint
from seedbed.server.run.directory import RunFile
from seedbed.server.run.finding import find_checkpoint
from seedbed.server.run.human_scores import human_normalised
from seedbed.server.run.resuming import unexposed
from seedbed.server.run.state import RunState
from seedbed.server.run.task_facts import facts_of
from seedbed.server.shared.slots import SlotTable
from seedbed.server.training.assemble import OtherWeights, assemble
from seedbed.server.training.local_clients import LocalClients, check_video
from seedbed.server.training.recorded_data import Recording
from seedbed.server.training.resolve import admit, config_of
from seedbed.server.training.stop_signal import StopSignal
from seedbed.server.verbs.episode_collection import EpisodeCollection
from seedbed.server.verbs.eval_options import EvalConfig
from seedbed.server.verbs.eval_tasks import (
    TaskEpisodes,
    describe_tasks,
    environments_of_each,
    played_tasks,
    scores_of_tasks,
    shares_of,
)
from seedbed.server.verbs.run_operand import parse_run
from seedbed.server.verbs.scores import summarise

logger = logging.getLogger(__name__)

_INTERRUPTED = 130
_SAY_EVERY_S = 10.0
_SEED_OFFSET = 1_000_003  # evaluation must not replay the episodes of training


def main(argv: Sequence[str]) -> int:
    """Evaluates and prints; returns the exit code."""
    namespace, options = parse_run(argv, "eval", "Score a checkpoint.", EvalConfig())
    paths = [path for path in (namespace.run, options.checkpoint) if path is not None]
    if len(paths) != 1:
        came = f", got {' and '.join(map(str, paths))}; a checkpoint in a run is a RUN too" if paths else ""
        raise UsageError(f"expected one RUN to score, e.g. seedbed eval runs/pong{came}")
    file = None if options.json in (None, "-") else Path(options.json)
    if file is not None:
        check_output("--json", file)
    os.environ.setdefault(LEVEL_VARIABLE, "warning")  # the result is what counts
    setup_logging("eval")
    stop = StopSignal().catch()
    run, checkpoint = find_checkpoint(paths[0], best=options.best)
    result = evaluate(run, checkpoint, options, stop)
    text = json.dumps(result, indent=2)
    print(text if options.json == "-" else describe(result), flush=True)
    if file is not None:
        with writing("--json", file):
            file.write_text(text + "\n")
    return 0 if stop.name is None else _INTERRUPTED


def _without_episodes(num_expected: int, num_steps: int, stop: StopSignal) -> BaseException:
    """Why there is no result: a person's wish, or episodes that never end."""
    steps = count(num_steps, "agent step")
    if stop.name is not None:
        print(f"stopped before an episode had ended, after {steps}", file=sys.stderr)
        return KeyboardInterrupt()
    return BrokenError(f"expected episodes that end, none of {num_expected} did after {steps}")


def evaluate(
    run: RunFile,
    checkpoint: Checkpoint,
    options: EvalConfig,
    stop: StopSignal | None = None,
    record: Callable[[SlotTable], Recording] | None = None,
) -> dict[str, Any]:
    """Plays the episodes and returns the scores as JSON data; of fewer episodes, if they do not end.

    Args:
        run, checkpoint: whose policy.
        options: of the evaluation.
        stop: ends it early.
        record: makes what records the episodes; they are in it when this returns.

    Raises:
        BrokenError: not one episode ended.
    """
    stop = stop or StopSignal()
    num_envs = options.num_envs
    if options.video is not None:
        check_video(options.video)
    config = config_of(run, options.trust)
    played = played_tasks(config, run.spec, options.task)
    collection: EpisodeCollection | TaskEpisodes
    shares = None
    if len(played) > 1:
        num_envs = environments_of_each(num_envs, len(played))
        collection = TaskEpisodes(len(played), num_envs, options.episodes)
    else:
        collection = EpisodeCollection(num_envs, options.episodes)
    config = _evaluation_config(
        config, options, max(num_envs * len(played), run.spec.num_tasks) if played else num_envs
    )
    if played:
        shares = shares_of(config, played, num_envs)
        num_envs *= len(played)
    admit(config, run.spec, options.trust)
    server, recording = _make_server(config, run, checkpoint, options, collection, record)
    events = [collection.complete, *([] if recording is None else [recording.recorder.complete])]
    clients = LocalClients(config, server.address, trust=options.trust, film=options.film, shares=shares)
    patience = Patience(options.patience_steps * num_envs, collection, server)
    _play(server, clients, lambda: all(event.wait(0.1) for event in events) or patience.is_over(), stop)
    recorded = {} if recording is None else {"recorded": recording.close(), "dataset": recording.dataset_id}
    if not collection.returns:
        raise _without_episodes(collection.num_expected, server.inference.num_steps, stop)
    if isinstance(collection, TaskEpisodes):
        scores = scores_of_tasks(config, run.spec, played, collection)
    else:
        scores = _scores(config, run.spec, played, collection)
    return _result(run, checkpoint, options, collection) | scores | recorded


def _play(server: PolicyServer, clients: LocalClients, is_over: Callable[[], bool], stop: StopSignal) -> None:
    """Serves until that is so, or somebody asks to stop; `is_over` waits a moment."""
    try:
        server.start()
        clients.start()
        while stop.name is None and not is_over():
            server.check()
            clients.check()
    finally:
        try:
            clients.stop()
        finally:
            server.stop("finished")


class Patience:
    """Says now and then how far an evaluation is, and when it has waited long enough for the next episode."""

    def __init__(self, max_steps: int, collection: EpisodeCollection | TaskEpisodes, server: PolicyServer) -> None:
        self._max_steps = max_steps
        self._collection = collection
        self._server = server
        self._kept, self._steps = 0, 0
        self._next_s = time.monotonic() + _SAY_EVERY_S

    def is_over(self) -> bool:
        """Whether none of the missing episodes has ended for so many agent steps of all environments together."""
        collection, steps = self._collection, self._server.inference.num_steps
        if collection.num_kept > self._kept:
            self._kept, self._steps = collection.num_kept, steps
        if time.monotonic() >= self._next_s:
            self._next_s += _SAY_EVERY_S
            logger.warning(
                "%d of %s, %s", self._kept, count(collection.num_expected, "episode"), count(steps, "agent step")
            )
        return steps - self._steps > self._max_steps


def _evaluation_config(config: ServerConfig, options: EvalConfig, num_envs: int) -> ServerConfig:
    return override(
        unexposed(config),
        {
            "environment.seed": options.eval_seed + _SEED_OFFSET,
            "fleet.num_envs": num_envs,
            "fleet.num_greedy_envs": 0,
            "fleet.num_clients": None,
            "serving.port": 0,
            "serving.num_slots": None,
            "run.device": options.device,
            "care.render": options.render,
            **({} if options.video is None and options.render == "none" else {"care.vector": "none"}),
            "run.train": False,
        },
    )


def _make_server(
    config: ServerConfig,
    run: RunFile,
    checkpoint: Checkpoint,
    options: EvalConfig,
    collection: EpisodeCollection | TaskEpisodes,
    record: Callable[[SlotTable], Recording] | None,
) -> tuple[PolicyServer, Recording | None]:
    greedy = acts_greedily(options, config, run.spec)
    state = RunState.from_checkpoint(checkpoint)
    weights = None if state.learner is None else OtherWeights(state.learner["learnt"], "the checkpoint", ())
    state = replace(state, random=None, learner=None)  # it draws by its own seed, and asks no optimiser
    indices = range(config.fleet.num_envs if greedy else 0)
    parts = assemble(config, run.spec, state, weights=weights, greedy_environments=indices)
    recording = None if record is None else record(parts.slots)
    server = PolicyServer(
        config=config.serving,
        frontends=Frontends(config.serving, parts.slots, Identity(run_name="evaluation", version=run.version)),
        inference=parts.inference,
        slots=parts.slots,
        sink=parts.sink,
        on_episode=collection.add,
        tap=None if recording is None else recording.recorder,
        device=parts.device,
    )
    return server, recording


def acts_greedily(options: EvalConfig, config: ServerConfig, spec: EnvironmentSpec) -> bool:
    """Whether the best action is taken: as it was asked for, else as the run's algorithm has it on its environment."""
    if options.greedy is not None:
        return options.greedy
    return find_algorithm(config.algorithm)(config, spec).evaluates_greedily


def _scores(
    config: ServerConfig, spec: EnvironmentSpec, played: Sequence[int], collection: EpisodeCollection
) -> dict[str, Any]:
    """Of one environment, or of the only task that was played."""
    returns = collection.returns
    summary = summarise(returns)
    own = spec.tasks[played[0]] if played else spec
    facts = facts_of(config, spec)
    normalised = facts[played[0]].score(summary.mean) if played else human_normalised(spec.environment, summary.mean)
    return {
        "environment": own.environment,
        "preset": own.preset,
        "mean": summary.mean,
        "standard_error": summary.standard_error,
        "median": summary.median,
        "human_normalised": normalised,
        "returns": returns,
    }


def _result(
    run: RunFile, checkpoint: Checkpoint, options: EvalConfig, collection: EpisodeCollection | TaskEpisodes
) -> dict[str, Any]:
    """All but the scores."""
    spec = run.spec
    return {
        "environment": spec.environment,
        "preset": spec.preset,
        "agent_steps": checkpoint.agent_steps,
        "frames": checkpoint.agent_steps * spec.frames_per_step,
        "policy": "greedy" if acts_greedily(options, config_of(run), spec) else "sampled",
        "episodes": collection.num_kept,
        "episodes_missing": collection.num_expected - collection.num_kept,
        **_video(options, collection),
    }


def _video(options: EvalConfig, collection: EpisodeCollection | TaskEpisodes) -> dict[str, Any]:
    """Of the environment that was filmed."""
    if options.video is None or not options.video.exists():
        return {}
    return {"video": str(options.video), "video_returns": collection.returns_of(0)[: options.num_filmed]}


def describe(result: dict[str, Any]) -> str:
    """A result for people."""
    preset = f", preset {result['preset']}" if result["preset"] else ""
    error = "" if result["standard_error"] is None else f" +- {result['standard_error']:.2f}"
    normalised = result["human_normalised"]
    lines = [
        f"{result['environment']}{preset}: {count(result['episodes'], 'episode')}, {result['policy']} policy "
        f"after {result['agent_steps']:,} agent steps"
    ]
    if "tasks" in result:
        lines += describe_tasks(result)
    else:
        lines.append(f"mean {result['mean']:.2f}{error} (standard error), median {result['median']:.2f}")
    if missing := result["episodes_missing"]:
        lines.append(f"{count(missing, 'episode')} did not end and count for nothing: this favours short ones")
    if "video" in result:
        returns = ", ".join(f"{value:g}" for value in result["video_returns"])
        lines.append(f"video {result['video']}: {count(len(result['video_returns']), 'episode')} of return {returns}")
    if normalised is not None and "tasks" not in result:
        lines.append(f"human-normalised {normalised:.1%} (preset {result['preset']})")
    if "recorded" in result:
        lines.append(result["recorded"])
    return "\n".join(lines)
