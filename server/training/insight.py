"""Insight into a run: its dashboard, where one is wanted and installed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from seedbed.common.extras import install_command, missing_extra
from seedbed.server.dashboard.facts import DashboardFacts, RunFacts
from seedbed.server.dashboard.process import Dashboard
from seedbed.server.run.directory import METRICS_FILE
from seedbed.server.run.state import RunState
from seedbed.server.shared.insight import Sight
from seedbed.server.shared.vitals import VitalsTable
from seedbed.server.training.assemble import Parts
from seedbed.server.training.opening import OpenedRun

_NEEDS = ("starlette", "uvicorn")


@dataclass(frozen=True, slots=True)
class Insight:
    """The dashboard of a run.

    Attributes:
        dashboard: listens; None: there is none.
        introduction: where it is, or how to get it, for people; None: nobody asked for one.
    """

    dashboard: Dashboard | None = None
    introduction: str | None = None


def make_insight(
    opened: OpenedRun,
    state: RunState,
    parts: Parts,
    vitals: VitalsTable,
    sight: Sight,
    version: str,
    *,
    local: bool,
) -> Insight:
    """Takes the dashboard's port, as the options say.

    Args:
        opened: the run.
        state: where the run stands.
        parts: what acts and learns.
        vitals: of all processes.
        sight: where inference writes what is shown.
        version: of seedbed.
        local: a training on this machine, which has a dashboard unless it is told otherwise.

    Raises:
        MissingExtraError: a port was asked for, and the packages that are needed are not installed.
        PortInUseError, UsageError, AuthError: see `Dashboard`.
    """
    config = opened.config
    port = config.monitoring.dashboard_port
    if port == "off" or (port == "auto" and not local):
        return Insight()
    if not all(map(find_spec, _NEEDS)):
        command = install_command("dashboard")
        if port != "auto":
            raise missing_extra("dashboard", f"--dashboard-port needs {' and '.join(_NEEDS)}")
        return Insight(introduction=f"{command} shows every environment live")
    facts = _facts_of(opened, state, parts, vitals, sight, version)
    number = None if port == "auto" else int(port)
    dashboard = Dashboard(config.monitoring.dashboard_host, number, config.serving.credentials, facts)
    return Insight(dashboard, dashboard.url)


def _facts_of(
    opened: OpenedRun, state: RunState, parts: Parts, vitals: VitalsTable, sight: Sight, version: str
) -> DashboardFacts:
    config, spec, directory = opened.config, opened.spec, opened.directory
    return DashboardFacts(
        run=RunFacts(
            name=directory.name,
            version=version,
            algorithm=config.algorithm,
            shows=parts.algorithm.shows,
            tasks=tuple(config.tasks.names) or (f"{spec.environment} {spec.preset}".strip(),),
            task_of=config.tasks.plan.task_of,
            greedy_environments=config.fleet.greedy_environments,
            agent_steps=state.agent_steps,
            updates=state.updates,
            wall_s=state.wall_s,
            max_steps=config.run.max_steps,
            max_seconds=config.run.max_seconds,
            target_return=config.run.target_return,
            metrics=directory.path.absolute() / METRICS_FILE,
        ),
        slots=parts.slots,
        vitals=vitals,
        insight=sight.table,
        look=sight.look,
        frames=config.monitoring.dashboard_frames == "on",
    )
