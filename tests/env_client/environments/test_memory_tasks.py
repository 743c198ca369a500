"""Tasks that only a memory solves: what perfect players reach, and those without a memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from seedbed.common.errors import SpecError
from seedbed.common.timestep import StepType
from seedbed.env_client.environments.building import make_environments
from seedbed.env_client.environments.memory_tasks import MOVES, IMaze, IMazeOptions, MetaFetch, MetaFetchOptions

NORTH, EAST, SOUTH, WEST = range(4)
NUM_EPISODES = 60


def play(name: str, player: Callable[[], Callable[[Any, float], int]], episodes: int) -> list[tuple[float, int, bool]]:
    """(return, steps, truncated) of episodes, each with a new player, who sees observations and rewards alone."""
    environments = make_environments(name, "", [0], 0)
    rows, act = environments.reset(), player()
    ends: list[tuple[float, int, bool]] = []
    while len(ends) < episodes:
        rows = environments.step((np.array([act(rows.observations[0][0], float(rows.reward[0]))]),))
        if rows.step_type[0] == StepType.LAST:
            ends += [(end.episode_return, end.steps, end.truncated) for end in rows.episode_ends]
            rows = environments.step((np.array([0]),))
            act = player()
    return ends


def maze_player(height: int, *, looks: bool, remembers: bool) -> Callable[[], Callable[[Any, float], int]]:
    """Looks or not, then walks down and to the side that the cue names, else west."""

    def player() -> Callable[[Any, float], int]:
        way = ([WEST, EAST] if looks else []) + [SOUTH] * (height - 1)
        state = {"step": 0, "cue": 0.0}

        def act(view: Any, reward: float) -> int:
            if remembers:
                state["cue"] = state["cue"] or float(view[9:].sum())
            move = way[int(state["step"])] if state["step"] < len(way) else (EAST if state["cue"] > 0 else WEST)
            state["step"] += 1
            return move

        return act

    return player


@pytest.mark.parametrize("height", [3, 9, 15])
def test_imaze_pays_whoever_looks_and_remembers(height: int) -> None:
    name = "seedbed/IMaze-v0" if height == 9 else f"seedbed/IMaze-v0,height={height}"
    ends = play(name, maze_player(height, looks=True, remembers=True), 20)
    assert {(round(end[0], 6), *end[1:]) for end in ends} == {(round(1 - 0.01 * (height + 2), 6), height + 3, False)}


@pytest.mark.parametrize(("looks", "remembers"), [(True, False), (False, True)])
def test_imaze_is_a_guess_without_looking_or_without_memory(looks: bool, remembers: bool) -> None:
    ends = play("seedbed/IMaze-v0", maze_player(9, looks=looks, remembers=remembers), 400)
    assert {round(end[0] + 0.01 * (end[1] - 1), 6) for end in ends} == {-1.0, 1.0}
    assert np.mean([end[0] for end in ends]) == pytest.approx(-0.01 * (ends[0][1] - 1), abs=0.12)
    assert {end[1] for end in ends} == {12 if looks else 10}


def test_imaze_shows_its_cue_beside_the_start_alone_and_ends_by_a_time_limit() -> None:
    maze = IMaze("maze", IMazeOptions(height=4), 3)
    view = np.zeros(18, np.float32)
    maze.reset((view,))
    assert view.tolist() == [*[0, 0, 0, 1, 1, 1, 0, 1, 0], *[0] * 9]
    seen = []
    for step, move in enumerate([WEST, EAST, *[NORTH] * 38]):
        reward, status = maze.step((np.array(move),), (view,))
        assert reward == -0.01
        assert (status.name == "TRUNCATED") == (step == 39)
        seen.append(view[9:].copy())
    assert np.flatnonzero(seen[0]).tolist() == [3]  # west of the cell that one stands on
    assert not np.any(seen[1:])
    cues = set()
    for _ in range(20):
        maze.reset((view,))
        maze.step((np.array(WEST),), (view,))
        cues.add(float(view[9:].sum()))
    assert cues == {-1.0, 1.0}
    for row, move in enumerate([EAST, SOUTH, SOUTH, SOUTH, EAST], start=1):  # down the stem, once one is back in it
        maze.step((np.array(move),), (view,))
        assert not row > 1 or not view[9:].any()
    assert view[:9].tolist() == [1, 0, 0, 1, 1, 1, 0, 0, 0]


class Fetcher:
    """Goes to one object after the other, past the others, and knows what is where from the observation alone.

    With a memory it keeps how much of the order it knows; without one it takes any object that is left.
    """

    def __init__(self, size: int, rng: np.random.Generator, *, remembers: bool) -> None:
        self._size, self._rng, self._remembers = size, rng, remembers
        self._plan: int | None = None
        self._known: list[int] = []
        self._wrong: set[int] = set()

    def __call__(self, observation: Any, reward: float) -> int:
        boards = observation.reshape(-1, self._size**2)
        agent = int(boards[0].argmax())
        places = {i: int(board.argmax()) for i, board in enumerate(boards[1:]) if board.any()}
        done = len(boards) - 1 - len(places)
        if self._plan is not None and (reward or places.get(self._plan) == agent):
            if reward and self._plan not in self._known:
                self._known.append(self._plan)
                self._wrong = set()
            elif not reward:
                self._wrong.add(self._plan)
            self._plan = None
        if self._plan is None:
            options = [i for i in places if not self._remembers or i not in self._wrong]
            knows = self._remembers and done < len(self._known)
            self._plan = self._known[done] if knows else int(self._rng.choice(options))
        return self._towards(agent, places[self._plan], {place for i, place in places.items() if i != self._plan})

    def _towards(self, agent: int, goal: int, avoid: set[int]) -> int:
        for blocked in (avoid, set[int]()):
            distances, queue = {goal: 0}, [goal]
            for cell in queue:
                for neighbour, _ in self._neighbours(cell):
                    if neighbour not in distances and neighbour not in blocked:
                        distances[neighbour] = distances[cell] + 1
                        queue.append(neighbour)
            ways = [(distances[cell], move) for cell, move in self._neighbours(agent) if cell in distances]
            if ways:
                return min(ways)[1]
        raise AssertionError("expected a way")

    def _neighbours(self, cell: int) -> list[tuple[int, int]]:
        row, column = divmod(cell, self._size)
        moved = [(row + down, column + right, move) for move, (down, right) in enumerate(MOVES)]
        inside = [(r, c, move) for r, c, move in moved if 0 <= r < self._size and 0 <= c < self._size]
        return [(r * self._size + c, move) for r, c, move in inside]


@pytest.mark.parametrize(
    ("suffix", "size", "with_memory", "without"),
    [(",objects=2,size=4,steps=40", 4, 17.9, 12.0), ("", 5, 18.0, 8.8)],
)
def test_metafetch_pays_memory_more(suffix: str, size: int, with_memory: float, without: float) -> None:
    rng = np.random.default_rng(0)
    for remembers, expected in ((True, with_memory), (False, without)):
        ends = play(f"seedbed/MetaFetch-v0{suffix}", lambda: Fetcher(size, rng, remembers=remembers), NUM_EPISODES)  # noqa: B023
        assert all(end[1] == (40 if size == 4 else 60) and end[2] for end in ends)
        returns = np.array([end[0] for end in ends])
        assert returns.mean() == pytest.approx(expected, abs=3 * returns.std() / NUM_EPISODES**0.5)


def test_metafetch_puts_all_back_after_a_wrong_object_and_after_the_last() -> None:
    task = MetaFetch("fetch", MetaFetchOptions(size=3, objects=2, steps=1000), 0)
    board = np.zeros(27, np.float32)
    task.reset((board,))
    task._agent, task._places, task._order = 4, np.array([1, 7]), np.array([1, 0])  # objects above and below the middle
    left = []
    for move in (NORTH, NORTH, SOUTH, SOUTH, SOUTH, NORTH, NORTH, NORTH, SOUTH, NORTH):
        reward, _ = task.step((np.array(move),), (board,))
        left.append((int(board[:9].argmax()), reward, *board.reshape(3, 9)[1:].sum(1).tolist()))
    assert left == [
        (1, 0, 1, 1),  # the wrong one
        (1, 0, 1, 1),  # the edge: nothing is entered
        (4, 0, 1, 1),
        (7, 1, 1, 0),  # the first
        (7, 0, 1, 0),
        (4, 0, 1, 0),
        (1, 1, 1, 1),  # the last: all are back
        (1, 0, 1, 1),  # under oneself it does not count
        (4, 0, 1, 1),
        (1, 0, 1, 1),  # entered again: the wrong one
    ]


def test_metafetch_a_wrong_object_costs_all_that_were_collected() -> None:
    task = MetaFetch("fetch", MetaFetchOptions(size=3, objects=3, steps=1000), 0)
    board = np.zeros(36, np.float32)
    task.reset((board,))
    task._agent, task._places, task._order = 4, np.array([1, 7, 3]), np.array([1, 0, 2])
    seen = []
    for move in (SOUTH, NORTH, WEST, EAST, SOUTH, NORTH, NORTH, SOUTH, WEST):
        reward, _ = task.step((np.array(move),), (board,))
        seen.append((reward, *board.reshape(4, 9)[1:].sum(1).tolist()))
    assert seen == [
        (1, 1, 0, 1),
        (0, 1, 0, 1),
        (0, 1, 1, 1),  # the third instead of the second
        (0, 1, 1, 1),
        (1, 1, 0, 1),
        (0, 1, 0, 1),
        (1, 0, 0, 1),
        (0, 0, 0, 1),
        (1, 1, 1, 1),
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("seedbed/IMaze-v0,height=2", "expected height of at least 3, got 2"),
        ("seedbed/MetaFetch-v0,size=1", "expected size of at least 2, got 1"),
        ("seedbed/MetaFetch-v0,size=3,objects=9", "expected objects between 1 and 8, got 9"),
        ("seedbed/MetaFetch-v0,steps=0", "expected steps of at least 1, got 0"),
    ],
)
def test_impossible_sizes_are_refused(name: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make_environments(name, "", [0], 0)
