"""`seedbed record RUN`: episodes of a checkpoint's policy as a Minari data set, played as `seedbed eval` plays them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seedbed.common.errors import UsageError
from seedbed.common.logs import LEVEL_VARIABLE, setup_logging
from seedbed.common.options import option
from seedbed.server.recording.episodes import Quota
from seedbed.server.run.finding import find_checkpoint
from seedbed.server.shared.slots import SlotTable
from seedbed.server.training.recorded_data import Recording
from seedbed.server.training.resolve import config_of
from seedbed.server.training.stop_signal import StopSignal
from seedbed.server.verbs.eval_options import EvalConfig
from seedbed.server.verbs.eval_tasks import played_tasks
from seedbed.server.verbs.evaluate import acts_greedily, describe, evaluate
from seedbed.server.verbs.run_operand import parse_run

_INTERRUPTED = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordConfig:
    """record"""

    dataset: str | None = option(None, "name of the data set, e.g. seedbed/cartpole-v0; must be new", metavar="ID")
    task: str | None = option(None, "of a run of several tasks the one that is played", metavar="NAME")
    best: bool = option(False, "the checkpoint of the best cohort instead of the newest")
    episodes: int = option(100, "episodes, the first of each environment", minimum=1)
    eval_envs: int = option(16, "environments", minimum=1)
    greedy: bool | None = option(
        None, "take the best action instead of exploring (default: as `seedbed eval` has it for this policy)"
    )
    eval_seed: int = option(0, "seed of the episodes", minimum=0)
    device: str = option("auto", "device of inference: auto, cpu, cuda or cuda:N")
    allow_import: bool = option(False, "import modules that the run's config.json names")
    import_from: Path | None = option(None, "where they are looked for last", metavar="DIR", hidden=True)

    @property
    def evaluation(self) -> EvalConfig:
        """How the episodes are played."""
        names = EvalConfig.__dataclass_fields__.keys() & self.__dataclass_fields__.keys()
        return EvalConfig(**{name: getattr(self, name) for name in names})


def main(argv: Sequence[str]) -> int:
    """Plays, records and prints; returns the exit code."""
    namespace, options = parse_run(
        argv, "record", "Record episodes of a run's policy as a Minari data set.", RecordConfig()
    )
    if namespace.run is None or options.dataset is None:
        raise UsageError("expected a RUN and a name, e.g. seedbed record runs/pong --dataset seedbed/pong-v0")
    os.environ.setdefault(LEVEL_VARIABLE, "warning")
    setup_logging("record")
    stop = StopSignal().catch()
    run, checkpoint = find_checkpoint(namespace.run, best=options.best)
    evaluation, dataset = options.evaluation, options.dataset
    config = config_of(run, evaluation.trust)
    played = played_tasks(config, run.spec, options.task)
    if len(played) > 1:
        raise UsageError(f"expected --task, one of {', '.join(config.tasks.names)}: the run has several")
    environment = run.spec.tasks[played[0]].environment if played else run.spec.environment
    policy = "greedy" if acts_greedily(evaluation, config, run.spec) else "sampled"

    def record(slots: SlotTable) -> Recording:
        return Recording(
            slots,
            dataset,
            algorithm=config.algorithm,
            description=f"{environment}: {policy} policy after {checkpoint.agent_steps:,} agent steps",
            tasks={number: "" for number in played} or None,
            quota=Quota(evaluation.num_envs, evaluation.episodes),
        )

    print(describe(evaluate(run, checkpoint, evaluation, stop, record)))
    return 0 if stop.name is None else _INTERRUPTED
