"""The answer to `Status` names the clients, where they are asked for."""

from __future__ import annotations

import asyncio
import math
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from seedbed.env_client.top.figures import figures_between
from seedbed.proto import seedbed_pb2 as pb
from seedbed.server.frontend.admission import FrontendConfig
from seedbed.server.frontend.frontend import Frontend
from seedbed.server.frontend.status import status_message
from seedbed.server.shared.fleet import Fleet
from seedbed.server.shared.insight import Sight
from tests.server.dashboard.scene import NUM_SLOTS, Scene


def config_of(scene: Scene) -> FrontendConfig:
    return FrontendConfig(
        number=0,
        address="127.0.0.1:1",
        spec=scene.spec,
        num_slots=NUM_SLOTS,
        run_name="r",
        server_version="0",
        grace_s=1.0,
        stall_limit_s=1.0,
        sight=Sight(scene.facts.insight, scene.look),
    )


@pytest.mark.parametrize(
    ("peer", "name"), [("ipv4:127.0.0.1:4", "box"), ("ipv4:192.0.2.9:4", ""), ("ipv6:%5B::1%5D:4", "box")]
)
def test_names_are_told_within_this_machine_alone(tmp_path: Path, peer: str, name: str) -> None:
    scene = Scene(tmp_path)
    scene.join("box", 5, 3)
    scene.look.take()
    scene.writer.is_watched(time.monotonic())
    scene.writer.write_fleet(scene.leases, time.monotonic())
    frontend = SimpleNamespace(config=config_of(scene), _slots=scene.slots, _all_vitals=scene.vitals, _fleet=None)
    request, context = pb.StatusRequest(clients=True), SimpleNamespace(peer=lambda: peer)
    answer = asyncio.run(Frontend.Status(frontend, request, context))  # type: ignore[arg-type]  # all that it uses
    assert [(one.client_id, one.environments) for one in answer.clients] == [(name, 2)]


def test_clients(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    config = config_of(scene)
    scene.look.take()
    lease = scene.join("box", 5, 3)
    pixels = np.zeros((2, *scene.spec.observations[0].shape), np.uint8)
    now_s = time.monotonic()
    for step in range(3):
        scene.send(lease, pixels, step_type=min(step, 1))
        scene.answer(lease, torch.tensor([0.2, 0.3, 0.5]), 0.0, now_s + step)
    fleet = Fleet(scene.facts.insight, scene.facts.slots)
    fleet.read()
    message = status_message(config, scene.vitals, fleet.rows())
    (client,) = message.clients
    assert (client.client_id, client.host, client.environments, client.state) == ("box", "192.0.2.7", 2, "live")
    assert client.steps_per_s == pytest.approx(2.0, rel=0.01)  # two environments, one message a second
    assert not status_message(config, scene.vitals).clients
    figures = figures_between(message, message, 1.0)
    assert figures is not None
    assert figures.clients is not None
    assert figures.clients[0].client == "box"


def test_tasks_are_told_with_what_is_known_of_them(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    assert not any(name.startswith("task/") for name in status_message(config_of(scene), scene.vitals).gauges)
    scene.vitals.tasks.write({"return_mean:a/b": 2.0, "return_mean:c": math.nan, "agent_steps:c": 3.0})
    gauges = status_message(config_of(scene), scene.vitals).gauges
    told = {name: value for name, value in gauges.items() if name.startswith("task/")}
    assert told == {"task/a/b/return_mean": 2.0, "task/c/agent_steps": 3.0}
