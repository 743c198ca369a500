"""Tasks of leases: what a client names it gets, what it leaves open is chosen, and every row says which it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from seedbed.common.joint_spec import join
from seedbed.server.experience.unroll import TASK
from seedbed.server.options.network import NetworkConfig
from seedbed.server.options.task_plan import TaskPlan
from seedbed.server.training.recording import with_fields
from tests.reference.acting import World
from tests.server.inference.test_policy import NETWORKS, log_rhos
from tests.server.inference.test_service import Scene


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene(1, plan=TaskPlan([1.0, 1.0]))
    yield scene
    for channel in (*scene.frontends, *scene.service.links._channels.values()):
        channel.close()


def ask(
    scene: Scene, stream: int, client: str, wishes: Sequence[int], tasks: Sequence[int | None], group: int = 0
) -> dict[str, Any]:
    """The grant, of one Hello that lets the server choose the indices."""
    scene.frontends[0].send(
        {
            "type": "open",
            "stream": stream,
            "client_id": client,
            "run_id": 1,
            "group": group,
            "environment_indices": list(wishes),
            "assign_indices": True,
            "tasks": list(tasks),
        }
    )
    scene.turn()
    (grant,) = scene.heard()
    assert isinstance(grant, dict)
    return grant


def test_a_client_gets_the_task_it_names_and_indices_of_it(scene: Scene) -> None:
    grant = ask(scene, 0, "a", [0, 1], [1, 1])
    assert (grant["tasks"], grant["environment_indices"]) == ([1, 1], [3, 1])  # 1 was its wish
    grant = ask(scene, 1, "b", [0, 1], [0, 1])
    assert (grant["tasks"], grant["environment_indices"]) == ([0, 1], [0, 5])


def test_a_client_that_names_none_is_given_the_least_played_and_the_same_for_its_other_stream(scene: Scene) -> None:
    assert ask(scene, 0, "a", [0, 1], [None, None])["tasks"] == [0, 0]
    assert ask(scene, 1, "b", [0, 1], [None, None])["tasks"] == [1, 1]
    assert ask(scene, 2, "b", [0, 1], [None, None], group=1)["tasks"] == [1, 1]
    assert ask(scene, 3, "c", [0], [None])["tasks"] == [0]


TOLD = replace(NETWORKS["lstm"][0], task_input=True, num_tasks=3)


def world(network: NetworkConfig = NETWORKS["mlp"][0]) -> World:
    """A policy of three tasks whose rows are alike."""
    plain = World(NETWORKS["mlp"][0])
    return World(network, spec=join([replace(plain.spec, environment=name) for name in "abc"], "abc"))


def test_every_row_says_which_task_it_is_whoever_has_the_index_now() -> None:
    subject = world()
    tasks = {100 + slot: slot % 3 for slot in range(6)}
    begin = subject.inference.begin

    def lease(slots: Any, serial: int, indices: Sequence[int]) -> None:
        begin(slots, serial, indices, [tasks[index] for index in indices])
        tasks[indices[0]] = (tasks[indices[0]] + 1) % 3  # its next holder plays another

    subject.inference.begin = lease  # type: ignore[method-assign,assignment]
    subject.run(80)
    seen = set()
    for batch in subject.batches():
        for b, source in enumerate(batch.provenance):
            assert source.lease > 0
            rows = batch.fields[TASK][: source.length, b].unique()
            assert len(rows) == 1
            seen.add((source.slot, int(rows[0])))
    assert len(seen) > 6
    steps = subject.inference.steps_of_tasks
    assert steps.sum() == subject.inference.num_steps
    assert np.all(steps > 0)


def test_a_single_task_records_none() -> None:
    subject = World(NETWORKS["mlp"][0])
    assert TASK not in subject.store.rows.fields
    subject.run(10)
    assert subject.inference.steps_of_tasks.tolist() == [0]


def test_a_network_that_is_told_the_task_says_the_same_in_inference_and_learner() -> None:
    subject = world(TOLD)
    begin = subject.inference.begin

    def lease(slots: Any, serial: int, indices: Sequence[int]) -> None:
        begin(slots, serial, indices, [serial % 3 for _ in indices])

    subject.inference.begin = lease  # type: ignore[method-assign,assignment]
    subject.run(60)
    batches = subject.batches()
    ratios = torch.cat([log_rhos(subject.learner.network, batch) for batch in batches])
    assert len(ratios) > 100
    assert ratios.abs().max() < 1e-4
    changed = [with_fields(batch, task=(batch.fields[TASK] + 1) % 3) for batch in batches]
    assert max(float(log_rhos(subject.learner.network, one).abs().max()) for one in changed) > 1e-3
