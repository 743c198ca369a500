"""Facts about the tasks of a run that its scores are made of: names, targets, and what returns are measured by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seedbed.common.specs import EnvironmentSpec
from seedbed.server.options.config import ServerConfig
from seedbed.server.run.human_scores import normalised, scale_of


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFacts:
    """One task of several.

    Attributes:
        name: for people and metrics.
        environment: the contract's name.
        frames_per_step: emulator frames of an agent step.
        share: of the environments, and where shares are kept of the loss.
        target: return at which it counts as learnt; None: it has none.
        scale: returns of random play and of people; None: nobody has measured them.
    """

    name: str
    environment: str
    frames_per_step: int
    share: float
    target: float | None
    scale: tuple[float, float] | None

    def score(self, value: float | None) -> float | None:
        """The human-normalised score of a return; None without a return or a scale."""
        return None if self.scale is None or value is None else normalised(value, *self.scale)


def facts_of(config: ServerConfig, spec: EnvironmentSpec) -> tuple[TaskFacts, ...]:
    """Of all tasks of a run, in their order; empty where it has one."""
    tasks, shares = config.tasks, config.tasks.plan.shares
    if not tasks.tasks:
        return ()
    return tuple(
        TaskFacts(
            name=name,
            environment=own.environment,
            frames_per_step=own.frames_per_step,
            share=share,
            target=config.run.target_return if task.target is None else task.target,
            scale=scale_of(own.environment) if task.random is None or task.human is None else (task.random, task.human),
        )
        for task, name, own, share in zip(tasks.tasks, tasks.names, spec.tasks, shares, strict=True)
    )


def have_scales(facts: Sequence[TaskFacts]) -> bool:
    """Whether the scores of all tasks can be compared with those of people."""
    return all(task.scale is not None for task in facts)
