"""What inference writes for people who look: nothing while nobody does, else the right numbers in the right rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from seedbed.common.timestep import StepType
from seedbed.server.shared.insight import LOOK_S, MAX_NUMBERS, TRAIL_STEPS, InsightTable, Look
from tests.server.dashboard.scene import ACTION, IMAGE, Scene, spec_of

FRAMES = np.zeros((2, 40, 36, 1), np.uint8)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def step(
    scene: Scene, lease: object, reward: float, *, first: bool = False, value: float = 0.0, now_s: float | None = None
) -> bool:
    scene.send(lease, FRAMES, step_type=StepType.FIRST if first else StepType.MID, reward=reward)  # type: ignore[arg-type]
    return scene.answer(lease, torch.tensor([0.25, 0.75]), value, now_s or time.monotonic())  # type: ignore[arg-type]


def test_nothing_is_written_while_nobody_looks(scene: Scene) -> None:
    lease = scene.join("a", 3, 4)
    before = scene.insight.contents()
    for reward in (0.0, 1.0, 2.0):
        assert not step(scene, lease, reward, first=reward == 0)
    assert scene.insight.contents() == before


def test_nothing_is_written_once_nobody_looks_any_more(scene: Scene) -> None:
    lease = scene.join("a", 3, 4)
    scene.look.take()
    now_s = time.monotonic()
    assert step(scene, lease, 0.0, first=True, now_s=now_s)
    before = scene.insight.contents()
    assert not step(scene, lease, 5.0, now_s=now_s + LOOK_S + 0.1)
    assert scene.insight.contents() == before


def test_returns_and_steps_begin_with_the_episode(scene: Scene) -> None:
    lease = scene.join("a", 3, 4)
    scene.look.take()
    step(scene, lease, 2.0)  # the episode began before anybody looked
    step(scene, lease, 3.0)
    table = scene.insight
    assert (table.episode_return[0], table.episode_step[0], table.begun[0]) == (5.0, 2, 0)
    step(scene, lease, 7.0, first=True)
    step(scene, lease, 1.5)
    assert (table.episode_return[0], table.episode_step[0], table.begun[0]) == (1.5, 1, 1)
    assert table.policy[1, :2].tolist() == [0.25, 0.75]
    assert table.num_numbers[:3].tolist() == [2, 2, 0]
    assert table.version[0] == 7


def test_a_new_look_begins_anew(scene: Scene) -> None:
    lease = scene.join("a", 3, 4)
    scene.look.take()
    now_s = time.monotonic()
    step(scene, lease, 0.0, first=True, now_s=now_s)
    step(scene, lease, 5.0, now_s=now_s)
    assert not scene.writer.is_watched(now_s + 10)
    step(scene, lease, 1.0)  # and somebody still looks: this is a look of its own
    assert (scene.insight.episode_return[0], scene.insight.begun[0], scene.insight.trail_length[0]) == (1.0, 0, 1)


def test_the_trail_holds_the_newest_steps_in_a_ring(scene: Scene) -> None:
    lease = scene.join("a", 3, 4)
    scene.look.take()
    for number in range(TRAIL_STEPS + 5):
        step(scene, lease, float(number), value=-float(number))
    assert scene.insight.trail_length[0] == TRAIL_STEPS + 5
    assert scene.insight.trail[0, 4].tolist() == [-(TRAIL_STEPS + 4.0), TRAIL_STEPS + 4.0]
    assert scene.insight.trail[0, 5].tolist() == [-5.0, 5.0]


def test_a_lease_that_follows_another_shows_nothing_of_it(scene: Scene) -> None:
    lease = scene.join("a", 3, 4)
    scene.look.take()
    step(scene, lease, 5.0)
    slots = np.array([0, 1])
    scene.leases.end(lease)
    scene.writer.end(slots)
    assert scene.insight.environment[:2].tolist() == [-1, -1]
    scene.join("b", 8, 9)
    assert scene.insight.environment[:2].tolist() == [8, 9]
    assert scene.insight.num_numbers[:2].tolist() == [0, 0]
    assert scene.insight.episode_return[:2].tolist() == [0, 0]


class _NotHere(torch.Tensor):
    """Stands for a tensor on a GPU: says so, and computes here."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda")


def test_numbers_from_a_gpu_come_a_batch_later(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = scene.join("a", 3, 4)
    scene.look.take()
    assert scene.writer.is_watched(time.monotonic())
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *sizes, pin_memory: empty(*sizes))

    def show(rewards: Sequence[float], value: float) -> None:
        step_type = torch.full((2,), int(StepType.MID), dtype=torch.uint8).as_subclass(_NotHere)
        shown = {"policy": torch.tensor([[0.1, 0.9], [0.6, 0.4]]), "value": torch.full((2,), value)}
        scene.writer.show(np.array([0, 1]), step_type, torch.tensor(rewards), 3, shown)

    show([1.0, 2.0], 5.0)
    assert scene.insight.trail_length[0] == 0
    show([10.0, 20.0], 6.0)
    assert scene.insight.trail[0, 0].tolist() == [5.0, 1.0]
    assert scene.insight.policy[1, :2].tolist() == pytest.approx([0.6, 0.4])
    scene.leases.end(lease)
    scene.writer.end(np.array([0, 1]))
    show([0.0, 0.0], 0.0)  # of whoever holds the slots now
    assert scene.insight.trail_length[0] == 0


def test_many_numbers_are_cut(tmp_path: Path) -> None:
    scene = Scene(tmp_path, spec_of(IMAGE, actions=[ACTION]))
    lease = scene.join("a", 3, 4)
    scene.look.take()
    scene.send(lease, FRAMES)
    scene.answer(lease, torch.rand(100), 0.0, time.monotonic())
    assert scene.insight.num_numbers[0] == MAX_NUMBERS


def test_the_fleet_says_how_long_clients_think(scene: Scene) -> None:
    lease = scene.join("a", 3, 4)
    now_s = time.monotonic()
    for number in range(4):
        scene.look.take()
        scene.send(lease, FRAMES)
        scene.slots.accepted_s[lease.first] = now_s + number * 0.5 + 0.3
        scene.answer(lease, torch.tensor([1.0]), 0.0, now_s + number * 0.5 + 0.4)
    fleet = scene.insight.read_fleet()
    assert fleet is not None
    (row,) = fleet["leases"]
    assert row["think_ms"] == pytest.approx(400, abs=1)  # from an answer at .4 to the next Steps at .8
    assert row["steps_per_s"] == pytest.approx(4, rel=0.6)
    assert (row["client"], row["rows"], row["state"]) == ("a", 2, "live")


def test_a_fleet_without_end_is_cut(scene: Scene) -> None:
    table = InsightTable(4)
    assert not table.write_fleet({"leases": ["x" * (1 << 20)]})
    assert table.read_fleet() is None
    assert table.write_fleet({"leases": []})
    assert table.read_fleet() == {"leases": []}


def test_a_fleet_that_is_being_written_is_not_read() -> None:
    table = InsightTable(4)
    table.write_fleet({"leases": [1]})
    table._fleet[0] += 1  # its first number is written first
    assert table.read_fleet() is None


def test_a_look_ends() -> None:
    look = Look()
    assert not look.lasts(time.monotonic())
    look.take()
    assert look.lasts(time.monotonic())
    assert not look.lasts(time.monotonic() + LOOK_S)
