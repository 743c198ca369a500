"""History -> violations: what must hold whatever was done to the processes. Knows no process and no clock.

    rows        action i answers observation i, each element of each array; the other observations, action mask, reward,
                discount, step type, age, last actions and agent state are those of the same row; the first row's agent
                state is the one stored; a mask where nothing may be learnt from
    unrolls     one slot, one lease, one environment; contiguous rows; each follows the one before; no transition twice
    slots       nobody gets a slot or an environment that another lease holds; never more than there are
    account     received = queued + dropped + in open unrolls, at every lease's begin and end; and at the end of a
                server that was asked to stop: received = what the learner got + dropped
    leases      none is lost without a fault that can cost it
    strangers   are refused for what they did, and for nothing else

What a client finds wrong it says itself (`check=1`), and the nemesis notes it as a problem.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from seedbed.common.echo import (
    echo_actions,
    echo_digest,
    echo_encode,
    echo_length,
    echo_mask,
    echo_observations,
    echo_reward,
    echo_truncates,
)
from seedbed.common.timestep import StepType
from seedbed.env_client.environments.echo import ECHO_SPECS
from tests.chaos.history import Record
from tests.chaos.stranger import ALLOWED
from tests.system.echo_rows import checksums, samples_of

SHARED_ROWS = 1
"""Of an unroll and the one before it."""


@dataclass
class Verdict:
    """What the checker found.

    Attributes:
        violations: each with where it was seen.
        faults: injected, by name.
        incarnations, leases, unrolls: how many were checked.
        steps: rows of unrolls that were checked, each counted once.
        trained: transitions that may be trained on.
        episodes, episode_steps: reported by clients, which had checked every action of them.
        balances: times at which the account was checked.
    """

    violations: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    incarnations: int = 0
    leases: int = 0
    unrolls: int = 0
    steps: int = 0
    trained: int = 0
    episodes: int = 0
    episode_steps: int = 0
    balances: int = 0


def check(servers: Sequence[Iterable[Record]], nemesis: Sequence[Record]) -> Verdict:
    """Checks a whole history.

    Args:
        servers: the records of every incarnation of the server, in order.
        nemesis: its records.
    """
    verdict = Verdict()
    may_lose: list[Counter[int]] = [Counter() for _ in servers]  # incarnation -> environment -> leases
    for record in nemesis:
        _check_nemesis(record, verdict, may_lose)
    for number, records in enumerate(servers):
        incarnation = _Incarnation(number, verdict, may_lose[number])
        for record in records:
            incarnation.take(record)
        verdict.incarnations += 1
    return verdict


def _check_nemesis(record: Record, verdict: Verdict, may_lose: list[Counter[int]]) -> None:
    match record["kind"]:
        case "fault":
            verdict.faults[record["name"]] += not record["healed"]
            if record["incarnation"] < len(may_lose):
                may_lose[record["incarnation"]].update(record["environments"])
        case "stranger":
            if record["status"] not in ALLOWED[record["name"]]:
                verdict.violations.append(
                    f"a stranger ({record['name']}) got {record['status']}, expected {sorted(ALLOWED[record['name']])}"
                )
        case "problem":
            verdict.violations.append(record["what"])


class _Incarnation:
    """Follows the records of one start of the server."""

    def __init__(self, number: int, verdict: Verdict, may_lose: Counter[int]) -> None:
        self._number = number
        self._verdict = verdict
        self._may_lose = may_lose
        self._num_slots = 0
        self._spec = ECHO_SPECS["seedbed/Echo-v0"]
        self._held: dict[int, int] = {}  # slot -> environment, of the leases that live
        self._granted: dict[int, dict[int, int]] = {}  # lease -> slot -> environment
        self._begun: Counter[int] = Counter()  # environment -> leases
        self._ends: dict[tuple[int, int], int] = {}  # lease and slot -> rows seen
        self._newest_lease: dict[int, int] = defaultdict(int)  # slot -> lease of its last unroll
        self._trained: set[tuple[int, int, int, int]] = set()  # lease, environment, episode, step
        self._learnt = 0

    def take(self, record: Record) -> None:
        """Checks the next record."""
        match record["kind"]:
            case "start":
                self._num_slots = record["num_slots"]
                self._spec = ECHO_SPECS[record["environment"]]
            case "begin":
                self._begin(record)
            case "cut":
                self._cut(record)
            case "balance":
                self._verdict.balances += 1
                known = record["queued"] + record["dropped"] + record["open"]
                self._expect(record["received"] == known, "transitions are missing, or counted twice", record)
            case "unroll":
                self._unroll(record)
            case "episode":
                self._verdict.episodes += 1
                self._verdict.episode_steps += record["steps"]
            case "sample":
                most = max(record["live"], record["used"])
                self._expect(most <= self._num_slots, f"more than {self._num_slots} slots in use", record)
            case "end":
                known = self._learnt + record["dropped"]
                self._expect(record["received"] == known, f"expected to know of {known} transitions", record)

    def _expect(self, right: bool | np.bool_ | NDArray[np.bool_], what: str, record: Record) -> None:
        if not np.all(right):
            self._verdict.violations.append(f"{what}: server {self._number}, {record}")

    def _begin(self, record: Record) -> None:
        granted = dict(zip(record["slots"], record["environments"], strict=True))
        free = not self._held.keys() & granted.keys() and not set(self._held.values()) & set(granted.values())
        self._expect(free, f"slots or environments that others hold ({self._held})", record)
        self._expect(all(slot < self._num_slots for slot in granted), "a slot that there is not", record)
        self._expect(record["lease"] not in self._granted, "the serial number of another lease", record)
        self._held |= granted
        self._granted[record["lease"]] = granted
        self._begun.update(granted.values())
        self._verdict.leases += 1
        for environment in granted.values():
            most = 1 + self._may_lose[environment]
            self._expect(self._begun[environment] <= most, f"lease {most} was lost without a fault", record)

    def _cut(self, record: Record) -> None:
        self._expect(all(slot in self._held for slot in record["slots"]), "the end of a lease that is over", record)
        for slot in record["slots"]:
            self._held.pop(slot, None)

    def _unroll(self, record: Record) -> None:
        lease, slot, length = record["lease"], record["slot"], record["length"]
        key = (lease, slot)
        environment = self._granted.get(lease, {}).get(slot)
        self._expect(environment == record["environment"], "not what this lease was granted", record)
        shared = SHARED_ROWS if key in self._ends else 0
        expected = self._ends.get(key, 0) - shared
        self._expect(record["first_seq"] == expected, f"expected its first row to be {expected}", record)
        self._ends[key] = record["first_seq"] + length
        self._expect(lease >= self._newest_lease[slot], "an unroll of a lease that is long over", record)
        self._newest_lease[slot] = lease
        self._check_rows(record)
        self._check_trained_once(record)
        self._learnt += length - 1
        self._verdict.unrolls += 1
        self._verdict.steps += length - shared

    def _check_trained_once(self, record: Record) -> None:
        rows = zip(record["valid"], record["index"], record["episode"], record["step"], strict=False)
        trained = {(record["lease"], *where) for valid, *where in rows if valid}
        self._expect(len(trained) == sum(record["valid"]), "a timestep twice in an unroll", record)
        self._expect(trained.isdisjoint(self._trained), "a timestep that was trained on before", record)
        self._trained |= trained
        self._verdict.trained += len(trained)

    def _check_rows(self, record: Record) -> None:
        index, episode, step = (np.array(record[name]) for name in ("index", "episode", "step"))
        state = np.array(record["state"])
        observation = echo_encode(index, episode, step)
        first, last = step == 0, step == echo_length(index, episode)
        terminated = last & ~echo_truncates(index, episode)
        following = np.where(last[:-1], episode[:-1] + 1, episode[:-1])
        valid = np.zeros(len(record["valid"]), bool)
        valid[: record["length"] - 1] = ~last[:-1]
        step_type = np.where(first, StepType.FIRST, np.where(last, StepType.LAST, StepType.MID))
        for right, what in (
            (index == record["environment"], "a row of another environment"),
            (
                np.array(record["shown"]) == checksums(self._spec, echo_observations(self._spec, observation)),
                "observation arrays of another row",
            ),
            (np.array(record["discount"]) == ~terminated, "a termination that is none, or a truncation"),
            (np.array(record["step_type"]) == step_type, "FIRST or LAST misplaced"),
            (np.array(record["age"]) == step, "the age of another row"),
            (first | (state == step), "the agent state of another row"),
            (record["initial_state"] == state[0], "an initial agent state that is not the first row's"),
            (episode[1:] == following, "rows of other episodes"),
            (step[1:] == np.where(last[:-1], 0, step[:-1] + 1), "a row is missing, or there twice"),
            (np.array(record["valid"]) == valid, "a wrong mask"),
        ):
            self._expect(right, what, record)
        self._check_actions(record, observation, first)

    def _check_actions(self, record: Record, observation: NDArray[np.float32], first: NDArray[np.bool_]) -> None:
        specs = self._spec.actions
        answers = echo_actions(specs, observation)
        came_before = [np.array(record[f"last_action.{spec.name}"]) for spec in specs]
        for spec, answer, sample, before in zip(specs, answers, samples_of(specs, answers), came_before, strict=True):
            action = np.array(record[f"action.{spec.name}"])
            self._expect(action == sample, "an action that answers another observation", record)
            sent = np.where(first[1:].reshape(-1, *[1] * len(spec.shape)), 0, answer[:-1])
            self._expect(before[1:] == sent, "the last action of another row", record)
        reward = echo_reward(observation, echo_digest(specs, came_before))
        self._expect(np.array(record["reward"]) == reward, "a reward of another transition", record)
        if self._spec.mask_position is not None:
            mask = np.array(record["action_mask"])
            self._expect(mask == echo_mask(specs, observation), "the action mask of another row", record)
