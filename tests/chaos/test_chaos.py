"""The checker of the chaos run finds what is wrong in a history: every kind of record is spoilt here in turn."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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
from seedbed.common.specs import EnvironmentSpec
from seedbed.common.timestep import StepType
from seedbed.env_client.environments.echo import ECHO_SPECS
from tests.chaos.checker import check
from tests.chaos.history import Reader, Record, Writer, nemesis_file, read_nemesis, read_servers, server_file
from tests.chaos.schedule import TRAITS, Kind, make_schedule
from tests.system.echo_rows import checksums, samples_of

NUM_ROWS = 8
NUM_UNROLLS = 6
ONE, MIXED = ECHO_SPECS["seedbed/Echo-v0"], ECHO_SPECS["seedbed/EchoMixed-v0"]


def _timesteps(spec: EnvironmentSpec, environment: int) -> Iterator[Record]:
    """What an environment sends and is answered, without end."""
    nothing = [np.zeros(part.shape, part.numpy_dtype) for part in spec.actions]
    names = [part.name for part in spec.actions]
    sent = nothing
    for episode in itertools.count():
        length = int(echo_length(environment, episode))
        for step in range(length + 1):
            observation = echo_encode(environment, episode, step)
            before, sent = nothing if step == 0 else sent, list(echo_actions(spec.actions, observation))
            samples, last = samples_of(spec.actions, sent), step == length
            shown = [part[None] for part in echo_observations(spec, observation)]
            masked = spec.mask_position is not None
            masks = {"action_mask": echo_mask(spec.actions, observation).tolist()} if masked else {}
            yield {
                "index": environment,
                "episode": episode,
                "step": step,
                "shown": checksums(spec, shown)[0],
                "step_type": int(StepType.FIRST if step == 0 else StepType.LAST if last else StepType.MID),
                "reward": float(echo_reward(observation, echo_digest(spec.actions, before))),
                "discount": float(not last or bool(echo_truncates(environment, episode))),
                **{f"action.{name}": array.tolist() for name, array in zip(names, samples, strict=True)},
                **{f"last_action.{name}": array.tolist() for name, array in zip(names, before, strict=True)},
                **masks,
                "age": step,
                "state": float(step),
            }


def _unroll(rows: list[Record], first_seq: int, **source: int) -> Record:
    valid = [row["step_type"] != StepType.LAST for row in rows[:-1]] + [False] * (NUM_ROWS - len(rows))
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return {
        "kind": "unroll",
        "first_seq": first_seq,
        "length": len(rows),
        "initial_state": rows[0]["state"],
        "valid": valid,
        **source,
        **columns,
    }


def _lease(spec: EnvironmentSpec, lease: int, slot: int, environment: int, last_rows: int = 5) -> list[Record]:
    """All unrolls of a lease of one slot; the last one is cut."""
    total = NUM_UNROLLS * (NUM_ROWS - 1) + last_rows
    rows = list(itertools.islice(_timesteps(spec, environment), total))
    starts = range(0, total - 1, NUM_ROWS - 1)
    source = {"slot": slot, "lease": lease, "environment": environment}
    return [_unroll(rows[start : start + NUM_ROWS], start, **source) for start in starts]


def _server(spec: EnvironmentSpec = ONE) -> list[Record]:
    """Two leases at once, then a third one on the slot of the first, whose client had been killed."""
    first, second, third = _lease(spec, 1, 0, 4), _lease(spec, 2, 1, 5), _lease(spec, 3, 0, 4)
    queued = sum(unroll["length"] - 1 for unroll in [*first, *second, *third])
    return [
        {"kind": "start", "num_slots": 3, "environment": spec.environment},
        {"kind": "begin", "lease": 1, "slots": [0], "environments": [4]},
        {"kind": "begin", "lease": 2, "slots": [1], "environments": [5]},
        *itertools.chain(*zip(first, second, strict=True)),
        {"kind": "sample", "live": 2, "used": 2},
        {"kind": "episode", "environment": 4, "steps": 3},
        {"kind": "cut", "slots": [0]},
        {"kind": "balance", "received": 120, "queued": 100, "dropped": 3, "open": 17},
        {"kind": "begin", "lease": 3, "slots": [0], "environments": [4]},
        *third,
        {"kind": "cut", "slots": [0]},
        {"kind": "cut", "slots": [1]},
        {"kind": "end", "received": queued + 2, "dropped": 2},
    ]


def _nemesis() -> list[Record]:
    kill = {"kind": "fault", "name": Kind.KILL_CLIENT, "incarnation": 0, "environments": [4], "healed": False}
    return [kill, {"kind": "stranger", "name": "another spec", "status": "FAILED_PRECONDITION"}]


def _unrolls(server: list[Record]) -> list[Record]:
    return [record for record in server if record["kind"] == "unroll"]


def _find(server: list[Record], kind: str) -> Record:
    return next(record for record in server if record["kind"] == kind)


@pytest.mark.parametrize("spec", ECHO_SPECS.values(), ids=lambda spec: spec.environment)
def test_a_good_history(spec: EnvironmentSpec) -> None:
    verdict = check([_server(spec), _server(spec)], [*_nemesis(), _nemesis()[0] | {"incarnation": 1}])
    assert verdict.violations == []
    assert verdict.faults == {Kind.KILL_CLIENT: 2}
    assert (verdict.incarnations, verdict.leases, verdict.unrolls) == (2, 6, 2 * 3 * (NUM_UNROLLS + 1))
    assert verdict.steps == 2 * 3 * (NUM_UNROLLS * (NUM_ROWS - 1) + 5)
    assert 0 < verdict.trained < verdict.steps
    assert (verdict.episodes, verdict.episode_steps, verdict.balances) == (2, 6, 2)


def _row_fields(unroll: Record) -> list[str]:
    """Of an unroll's record: lists over its rows."""
    return [name for name, values in unroll.items() if isinstance(values, list) and name != "valid"]


def _swap_rows(server: list[Record]) -> None:
    """Actions of two rows of one unroll, as if the batch had been cross-wired."""
    action = next(a for a in (unroll["action.action"] for unroll in _unrolls(server)) if a[2] != a[5])
    action[2], action[5] = action[5], action[2]


def _misroute(server: list[Record]) -> None:
    """The rows of two environments change places; each is sound in itself."""
    one, other = _unrolls(server)[:2]
    for name in _row_fields(one):
        one[name], other[name] = other[name], one[name]


def _splice(server: list[Record]) -> None:
    """The second half of an unroll comes from the next incarnation of the client, which begins anew."""
    donor, unroll = _unrolls(server)[0], _unrolls(server)[8]
    for name in _row_fields(unroll):
        unroll[name][4:] = donor[name][:4]


def _set(kind: str, name: str, change: Callable[[Any], Any]) -> Callable[[list[Record]], None]:
    def mutate(server: list[Record]) -> None:
        record = _find(server, kind)
        record[name] = change(record[name])

    return mutate


def _set_row(name: str, change: Callable[[Any], Any], row: int = 3, unroll: int = 4) -> Callable[[list[Record]], None]:
    def mutate(server: list[Record]) -> None:
        values = _unrolls(server)[unroll][name]
        values[row] = change(values[row])

    return mutate


def _set_last(change: Callable[[float], float]) -> Callable[[list[Record]], None]:
    """Another discount for a row that is LAST."""

    def mutate(server: list[Record]) -> None:
        for unroll in _unrolls(server):
            if StepType.LAST in unroll["step_type"]:
                row = unroll["step_type"].index(StepType.LAST)
                unroll["discount"][row] = change(unroll["discount"][row])
                return

    return mutate


def _remove(kind: str, place: int = 0) -> Callable[[list[Record]], None]:
    def mutate(server: list[Record]) -> None:
        server.remove([record for record in server if record["kind"] == kind][place])

    return mutate


def _repeat(server: list[Record]) -> None:
    """An unroll comes out of the queue twice."""
    unroll = _unrolls(server)[3]
    server.insert(server.index(unroll), copy.deepcopy(unroll))


def _repeat_later(server: list[Record]) -> None:
    """An unroll comes again under numbers that fit."""
    unrolls = [unroll for unroll in _unrolls(server) if unroll["lease"] == 2]
    again = copy.deepcopy(unrolls[0]) | {"first_seq": unrolls[-1]["first_seq"] + unrolls[-1]["length"] - 1}
    server.insert(server.index(unrolls[-1]) + 1, again)


def _delay(server: list[Record]) -> None:
    """An unroll of the first lease comes after one of the third, on the same slot."""
    old = [unroll for unroll in _unrolls(server) if unroll["lease"] == 1][-1]
    server.remove(old)
    server.insert(server.index(_unrolls(server)[-1]), old)


def _hand_over_early(server: list[Record]) -> None:
    """Fencing left out: the next holder comes before the last one has gone."""
    begin = [record for record in server if record["kind"] == "begin"][2]
    server.remove(begin)
    server.insert(server.index(_find(server, "cut")), begin)


MUTATIONS: dict[str, tuple[Callable[[list[Record]], None], str]] = {
    "swapped actions": (_swap_rows, "answers another observation"),
    "misrouted rows": (_misroute, "another environment"),
    "spliced incarnations": (_splice, "other episodes"),
    "a wrong reward": (_set_row("reward", lambda x: x + 0.125), "reward of another transition"),
    "NaN": (_set_row("reward", lambda _: np.nan), "reward of another transition"),
    "swapped termination": (_set_last(lambda x: 1 - x), "termination that is none"),
    "a wrong step type": (_set_row("step_type", lambda x: (x + 1) % 3), "FIRST or LAST misplaced"),
    "a wrong age": (_set_row("age", lambda x: x + 1), "age of another row"),
    "a wrong last action": (_set_row("last_action.action", lambda x: (x + 1) % 7), "last action of another row"),
    "a stale agent state": (_set_row("state", lambda x: x + 1, row=0), "agent state"),
    "a wrong initial state": (_set("unroll", "initial_state", lambda x: x + 1), "initial agent state"),
    "a wrong mask": (_set_row("valid", lambda x: not x), "a wrong mask"),
    "a missing unroll": (_remove("unroll", 4), "expected its first row"),
    "a repeated unroll": (_repeat, "expected its first row"),
    "a repeated unroll that fits": (_repeat_later, "trained on before"),
    "a lost last unroll": (_remove("unroll", -1), "expected to know of"),
    "an unroll after its lease": (_delay, "long over"),
    "a slot given twice": (_hand_over_early, "others hold"),
    "a lease of nobody": (_remove("begin", 1), "not what this lease was granted"),
    "an end without a beginning": (_remove("begin", 2), "a lease that is over"),
    "a slot that there is not": (_set("start", "num_slots", lambda _: 1), "a slot that there is not"),
    "too many slots": (_set("sample", "used", lambda _: 4), "slots in use"),
    "a wrong account": (_set("balance", "received", lambda x: x + 1), "missing, or counted twice"),
    "a wrong last account": (_set("end", "dropped", lambda x: x - 1), "expected to know of"),
    "the environment of another": (_set("unroll", "environment", lambda x: x + 1), "not what this lease was granted"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_spoilt_history(name: str) -> None:
    mutate, words = MUTATIONS[name]
    server = _server()
    mutate(server)
    violations = check([server], _nemesis()).violations
    assert any(words in violation for violation in violations), violations


def _change_element(values: Any) -> Any:
    """Another last element, however deep it is."""
    if isinstance(values, list):
        return [*values[:-1], _change_element(values[-1])]
    return 1 - values if values in (0, 1) else values + 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("shown", "observation arrays of another row"),
        ("action_mask", "the action mask of another row"),
        *((f"action.{part.name}", "an action that answers another observation") for part in MIXED.actions),
        *((f"last_action.{part.name}", "the last action of another row") for part in MIXED.actions),
    ],
)
def test_one_wrong_element_of_any_array(name: str, words: str) -> None:
    server = _server(MIXED)
    row = next(row for row in range(1, 7) if _unrolls(server)[4]["step"][row])
    _set_row(name, _change_element, row)(server)
    violations = check([server], _nemesis()).violations
    assert any(words in violation for violation in violations), violations


def test_a_lease_lost_without_a_fault() -> None:
    _, stranger = _nemesis()
    assert "lost without a fault" in check([_server()], [stranger]).violations[0]
    elsewhere = _nemesis()[0] | {"environments": [5]}
    assert "lost without a fault" in check([_server()], [elsewhere]).violations[0]


def test_what_the_nemesis_saw() -> None:
    kill, stranger = _nemesis()
    accepted = stranger | {"status": "OK"}
    found = check([_server()], [kill, accepted, {"kind": "problem", "what": "client-1 ended by itself"}]).violations
    assert len(found) == 2
    assert "got OK" in found[0]
    assert found[1] == "client-1 ended by itself"


def test_a_history_survives_its_writer(tmp_path: Path) -> None:
    """Whole lines count; one that was torn off does not, and is read once it is whole."""
    for number in range(11):
        with Writer(server_file(tmp_path, number)) as writer:
            writer.write("start", num_slots=number)
    with Writer(nemesis_file(tmp_path)) as writer:
        writer.write("problem", what="none")
    assert [[record["num_slots"] for record in records] for records in read_servers(tmp_path)] == [
        [n] for n in range(11)
    ]
    assert read_nemesis(tmp_path) == [{"kind": "problem", "what": "none"}]
    reader, path = Reader(server_file(tmp_path, 0)), server_file(tmp_path, 0)
    assert len(list(reader.new())) == 1
    line = json.dumps({"kind": "serving"}) + "\n"
    for half, expected in ((line[:7], 0), (line[7:], 1)):
        with path.open("a") as file:
            file.write(half)
        assert len(list(reader.new())) == expected
    assert list(Reader(tmp_path / "nothing").new()) == []


def test_the_schedule_follows_its_seed() -> None:
    a, b, c = (list(itertools.islice(make_schedule(seed, 1.0), 100)) for seed in (1, 1, 2))
    assert a == b != c
    length = sum(trait.weight for trait in TRAITS.values())
    assert {fault.kind for fault in a[:length]} == set(Kind), "every kind in every round"
    for fault in a:
        assert TRAITS[fault.kind].shortest_s <= fault.duration_s <= TRAITS[fault.kind].longest_s
        assert 0 <= fault.victim < 1
        assert 0 <= fault.pause_s <= 2
