"""Who gets a dashboard: trainings do, servers where it is asked for, nobody without the packages, which is told how."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from seedbed.common.errors import MissingExtraError, UsageError
from seedbed.common.extras import install_command
from seedbed.server.options.config import ServerConfig
from seedbed.server.options.serving import MonitoringConfig
from seedbed.server.run.directory import RunDirectory
from seedbed.server.run.resuming import unexposed
from seedbed.server.run.state import RunState
from seedbed.server.shared.insight import Sight
from seedbed.server.training import insight
from seedbed.server.training.insight import Insight, make_insight
from seedbed.server.training.opening import OpenedRun
from tests.server.dashboard.scene import Scene

pytest.importorskip("starlette")


def make(folder: Path, *, local: bool, **options: Any) -> Insight:
    scene = Scene(folder)
    parts: Any = SimpleNamespace(slots=scene.slots, algorithm=SimpleNamespace(shows="policy"))
    config = ServerConfig(monitoring=MonitoringConfig(**options))
    directory = RunDirectory(folder / "run")
    sight = Sight(scene.insight, scene.look)
    opened = OpenedRun(config, scene.spec, directory, before=None)
    found = make_insight(opened, RunState(), parts, scene.vitals, sight, "0", local=local)
    if found.dashboard is not None:
        found.dashboard.stop()
    return found


def test_a_training_has_one_and_says_where(tmp_path: Path) -> None:
    found = make(tmp_path, local=True)
    assert found.dashboard is not None
    assert found.introduction == f"http://127.0.0.1:{found.dashboard.port}"


def test_a_server_has_one_where_it_is_asked_for(tmp_path: Path) -> None:
    assert make(tmp_path, local=False).dashboard is None
    assert make(tmp_path, local=False, dashboard_port="0").dashboard is not None
    found = make(tmp_path, local=True, dashboard_port="off")
    assert found.dashboard is found.introduction is None


def test_without_the_packages_one_line_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(insight, "find_spec", lambda name: None)
    found = make(tmp_path, local=True)
    assert found.dashboard is None
    assert found.introduction == f"{install_command('dashboard')} shows every environment live"
    with pytest.raises(MissingExtraError, match=r"\[dashboard\]"):
        make(tmp_path, local=True, dashboard_port="7780")


@pytest.mark.parametrize("port", ["7780.5", "-1", "65536", "on", ""])
def test_ports_that_are_none(port: str) -> None:
    with pytest.raises(UsageError, match="--dashboard-port auto, off, or a number"):
        MonitoringConfig(dashboard_port=port)


def test_where_it_listens_is_said_at_every_start() -> None:
    config = ServerConfig(monitoring=MonitoringConfig(dashboard_host="0.0.0.0", dashboard_port="7780"))
    again = unexposed(config).monitoring
    assert (again.dashboard_host, again.dashboard_port) == ("127.0.0.1", "7780")
