"""Clients that come with ever new names and environments: nothing that remembers them grows for ever."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Set
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from seedbed.common.options import override
from seedbed.common.timestep import StepType
from seedbed.server.inference import claims, leases
from seedbed.server.options import task_plan
from seedbed.server.options.config import ServerConfig
from seedbed.server.options.task_plan import TaskPlan
from seedbed.server.recording import episodes
from seedbed.server.recording.episodes import EpisodeRecorder, Quota
from seedbed.server.run.state import RunState
from seedbed.server.run.task_facts import TaskFacts
from seedbed.server.shared.recent import Recent
from seedbed.server.shared.vitals import VitalsTable
from seedbed.server.training.run_clock import RunClock
from tests.server.inference.test_service import Scene

FACTS = tuple(
    TaskFacts(name=name, environment=name, frames_per_step=1, share=0.5, target=None, scale=None) for name in ("a", "b")
)
REMEMBERED = 16


def contents(of: object) -> int:
    """Entries of all that can grow and can be reached from an object of ours."""
    seen: dict[int, object] = {}
    found, todo = 0, [of]
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen[id(one)] = one
        if isinstance(one, Mapping):
            found += len(one)
            todo += [*one.keys(), *one.values()]
        elif isinstance(one, (list, tuple, deque, Set)):
            found += len(one)
            todo += list(one)
        elif type(one).__module__.startswith(("seedbed.server", "tests.")):
            names = [name for base in type(one).__mro__ for name in getattr(base, "__slots__", ())]
            todo += [getattr(one, name, None) for name in (*names, *getattr(one, "__dict__", {}))]
    return found


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """The loop with all that hears of clients: clocks and cohorts of two tasks, and a recorder."""
    limits = {claims: "_MOST_DOUBTED", leases: "_MAX_RETIRED", episodes: "_MOST_ENVIRONMENTS", task_plan: "_PERIOD"}
    for module, name in limits.items():
        monkeypatch.setattr(module, name, REMEMBERED)
    scene = Scene(1)
    inference: Any = SimpleNamespace(num_steps=0, steps_of_tasks=np.zeros(len(FACTS), np.int64))
    parts: Any = SimpleNamespace(inference=inference, learner=SimpleNamespace(num_updates=1))
    config = override(ServerConfig(), {"fleet.num_envs": 4})
    clock = RunClock(config, RunState(), parts, VitalsTable(0).device, FACTS)
    service = scene.service
    recorder = EpisodeRecorder(scene.slots, lambda episode: True, quota=Quota(4, 100))
    service._openings._plan, service._fleet, service._tap = TaskPlan((1.0, 1.0)), clock, recorder
    service._claims._on_episode = clock.on_episode
    scene.heard_by = clock  # type: ignore[attr-defined]
    yield scene
    for channel in (*scene.frontends, *service.links._channels.values()):
        channel.close()


def live_once(scene: Scene, number: int) -> None:
    """A client of a name, a run and environments of its own: an episode that it lies about, one that it does not."""
    name, start = f"client {number}", 10 * number
    for run in (1, 2):  # the second replaces the first
        scene.frontends[0].send(
            {
                "type": "open",
                "stream": 2 * number + run,
                "client_id": name,
                "run_id": run,
                "group": 0,
                "environment_indices": [start, start + 1],
                "assign_indices": False,
                "tasks": [number % 2] * 2,
            }
        )
        scene.turn()
        if run == 2:
            scene.leave(2 * number + 1)
            scene.turn()
    for seq, (types, claimed) in enumerate(((StepType.FIRST, None), (StepType.LAST, 5.0)), start=1):
        scene.slots.step_type[:2] = types
        scene.slots.reward[:2] = seq - 1
        if claimed is not None:
            ends = [[0, claimed, 1, 1, False, {}], [1, 1.0, 1, 1, False, {f"number {number}": 1.0}]]
            scene.frontends[0].send({"type": "episode_ends", "lease": 0, "seq": seq, "ends": ends})
        scene.steps(0)
        scene.turn()
    scene.leave(2 * number + 2, goodbye=True)
    scene.turn()
    scene.frontends[0].receive()
    scene.tape.take()
    scene.heard_by.episodes.take()  # type: ignore[attr-defined]


def test_what_is_remembered_of_clients_has_an_end(scene: Scene) -> None:
    for number in range(240):  # windows of 100 episodes are full
        live_once(scene, number)
    assert scene.service.vitals["episodes_refused"] == 240
    assert scene.service.vitals["leases_fenced"] == 240
    before = contents(scene.service)
    assert any(isinstance(one, Recent) and len(one) == REMEMBERED for one in vars(scene.leases).values())
    for number in range(240, 400):
        live_once(scene, number)
    assert contents(scene.service) < before + 2 * REMEMBERED, "an open cohort has more or less in it"
