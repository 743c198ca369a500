"""`connect`: what a loop of one's own says to a server, and what it hears, in every turn an episode may take."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
import numpy as np
import pytest

import seedbed
from seedbed.common.errors import SpecError, UnavailableError, UsageError
from seedbed.common.specs import EnvironmentSpec
from seedbed.env_client import lease, replicas
from seedbed.env_client.connection import Backoff
from seedbed.env_client.environments.echo import ECHO_SPECS
from seedbed.proto import seedbed_pb2 as pb
from tests.conformance.scripted_server import Script, ScriptedServer, serving
from tests.env_client.environments.odd_spaces import Mixed

SPEC = ECHO_SPECS["seedbed/Echo-v0"]
MASKED = ECHO_SPECS["seedbed/EchoMasked-v0"]
FIRST, MID, LAST = 0, 1, 2


@pytest.fixture(autouse=True)
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "Backoff", lambda **options: Backoff(initial_s=0.01, max_s=0.05, **options))


@pytest.fixture
def script(request: pytest.FixtureRequest) -> Script:
    """What the server does; nothing odd unless a test says so."""
    script: Script = getattr(request, "param", None) or Script()
    script.welcome_after_s = 0.0
    return script


@pytest.fixture
def server(script: Script) -> Iterator[tuple[ScriptedServer, str]]:
    aborts = bool(script.losses or script.refusals)
    with serving(SPEC, script) as served:
        yield served
    if aborts:
        gc.collect()  # calls that it aborted complain when they go: here, not in somebody else's test


def rows_of(steps: pb.Steps) -> tuple[Any, ...]:
    """Step types, rewards, discounts and observations of a message."""
    arrays = [np.frombuffer(data, "<f4").reshape(-1, 3) for data in steps.observations]
    return (
        list(steps.step_type),
        np.frombuffer(steps.reward, "<f4").tolist(),
        np.frombuffer(steps.discount, "<f4").tolist(),
        arrays[0].tolist(),
    )


def seen(number: float, rows: int | None = None) -> Any:
    return np.full(3 if rows is None else (rows, 3), number, np.float32)


def said(server: ScriptedServer) -> list[str]:
    return [heard.kind for heard in server.heard]


def test_an_episode_as_it_is_sent(server: tuple[ScriptedServer, str]) -> None:
    served, address = server
    with seedbed.connect(address, spec=SPEC) as policy:
        action = policy.first(seen(1))
        assert isinstance(action, np.int64)
        assert policy.next(seen(2), 0.5) in range(SPEC.num_actions)
        assert policy.next(seen(3), -2.0, terminated=True) is None
        assert policy.first(seen(4)) is not None
        assert policy.next(seen(5), 1.5, truncated=True) is None
        assert policy.first(seen(6)) is not None
        assert policy.next(seen(7), 1.0, truncated=True, terminated=True) is None
    steps = [heard.body for heard in served.of_group(0)]
    assert [rows_of(step) for step in steps] == [
        ([FIRST], [0.0], [1.0], [[1, 1, 1]]),
        ([MID], [0.5], [1.0], [[2, 2, 2]]),
        ([LAST], [-2.0], [0.0], [[3, 3, 3]]),
        ([FIRST], [0.0], [1.0], [[4, 4, 4]]),
        ([LAST], [1.5], [1.0], [[5, 5, 5]]),
        ([FIRST], [0.0], [1.0], [[6, 6, 6]]),
        ([LAST], [1.0], [0.0], [[7, 7, 7]]),
    ]
    ends = [(end.row, end.episode_return, end.steps, end.frames) for step in steps for end in step.episode_ends]
    assert ends == [(0, -1.5, 2, 2), (0, 1.5, 1, 1), (0, 1.0, 1, 1)]
    assert said(served)[-1] == "goodbye", "its place is free at once"


def test_several_in_lockstep(server: tuple[ScriptedServer, str]) -> None:
    """Gymnasium's next-step autoreset: the call after a row's last one shows its new episode, with a reward of 0."""
    served, address = server
    with seedbed.connect(address, spec=SPEC, num_envs=3) as policy:
        actions = policy.first(seen(1, 3))
        assert actions.shape == (3,)
        assert actions.dtype == np.int64
        policy.next(seen(2, 3), np.array([1.0, 2.0, 3.0]), terminated=np.array([True, False, False]))
        policy.next(seen(3, 3), [9.0, 1.0, 1.0], terminated=[True, False, False], truncated=[False, True, False])
        info = {"won": np.array([0.5, 9.0, 9.0]), "_won": np.array([True, False, False])}
        policy.next(seen(4, 3), [4.0, 5.0, 1.0], truncated=[True, False, False], info=info)
    steps = [heard.body for heard in served.of_group(0)]
    assert [rows_of(step)[:3] for step in steps] == [
        ([FIRST, FIRST, FIRST], [0, 0, 0], [1, 1, 1]),
        ([LAST, MID, MID], [1, 2, 3], [0, 1, 1]),
        ([FIRST, LAST, MID], [0, 1, 1], [1, 1, 1]),
        ([LAST, FIRST, MID], [4, 0, 1], [1, 1, 1]),
    ]
    ends = [(end.row, end.episode_return, end.steps, dict(end.info)) for step in steps for end in step.episode_ends]
    assert ends == [(0, 1.0, 1, {}), (1, 3.0, 2, {}), (0, 4.0, 1, {"won": 0.5})]


def test_an_episode_that_is_given_up_is_followed_by_a_new_lease(server: tuple[ScriptedServer, str]) -> None:
    served, address = server
    with seedbed.connect(address, spec=SPEC) as policy:
        policy.first(seen(1))
        policy.next(seen(2), 1.0)
        policy.first(seen(3))
        policy.next(seen(4), 1.0, terminated=True)
    expected = ["hello", "steps", "steps", "goodbye", "hello", "steps", "steps", "goodbye"]
    assert said(served) == expected
    assert [list(heard.body.step_type) for heard in served.of_group(0)] == [[FIRST], [MID], [FIRST], [LAST]]
    assert [end.episode_return for heard in served.of_group(0) for end in heard.body.episode_ends] == [1.0]


@pytest.mark.parametrize("script", [Script(losses={(0, 2): "before", (0, 4): "after"})], indirect=True)
def test_lost_connections_go_unnoticed(server: tuple[ScriptedServer, str]) -> None:
    _, address = server
    with seedbed.connect(address, spec=SPEC) as policy:
        policy.first(seen(1))
        actions = [policy.next(seen(number), 1.0) for number in range(4)]
    assert None not in actions


@pytest.mark.parametrize("script", [Script(losses={(0, 3): "lease"})], indirect=True)
def test_a_lost_lease_is_a_lost_episode(server: tuple[ScriptedServer, str]) -> None:
    served, address = server
    with seedbed.connect(address, spec=SPEC) as policy:
        policy.first(seen(1))
        policy.next(seen(2), 1.0)
        with pytest.raises(seedbed.EpisodeLost, match="first"):
            policy.next(seen(3), 1.0)
        with pytest.raises(UsageError, match="first"):
            policy.next(seen(4), 1.0)
        policy.first(seen(5))
        policy.next(seen(6), 2.0, terminated=True)
    assert [end.episode_return for heard in served.of_group(0) for end in heard.body.episode_ends] == [2.0]


@pytest.mark.parametrize("script", [Script(losses={(0, 3): "lease"})], indirect=True)
def test_a_lease_lost_with_an_episode_s_last_row_is_nobody_s_concern(server: tuple[ScriptedServer, str]) -> None:
    _, address = server
    with seedbed.connect(address, spec=SPEC) as policy:
        policy.first(seen(1))
        policy.next(seen(2), 1.0)
        assert policy.next(seen(3), 1.0, terminated=True) is None
        assert policy.first(seen(4)) is not None


@pytest.mark.parametrize("script", [Script(losses={(0, 3): "lease"})], indirect=True)
def test_a_lease_lost_with_an_episode_s_first_row_is_asked_for_again(server: tuple[ScriptedServer, str]) -> None:
    served, address = server
    with seedbed.connect(address, spec=SPEC) as policy:
        policy.first(seen(1))
        policy.next(seen(2), 1.0, terminated=True)
        assert policy.first(seen(3)) is not None
        assert policy.next(seen(4), 1.0) is not None
    assert rows_of(served.of_group(0)[-2].body)[3] == [[3, 3, 3]]


@pytest.mark.parametrize(
    "script", [Script(drain=pb.Drain(reason=pb.Drain.REASON_FINISHED), drain_after=2)], indirect=True
)
def test_a_finished_run_is_told(server: tuple[ScriptedServer, str]) -> None:
    _, address = server
    with seedbed.connect(address, spec=SPEC) as policy:
        policy.first(seen(1))
        with pytest.raises(seedbed.RunFinished):
            policy.next(seen(2), 1.0)


@pytest.mark.parametrize(
    "script", [Script(refusals=[(grpc.StatusCode.FAILED_PRECONDITION, "SpecError")])], indirect=True
)
def test_a_refusal_is_raised_by_its_class(server: tuple[ScriptedServer, str]) -> None:
    _, address = server
    with pytest.raises(SpecError, match="as the script says"):
        seedbed.connect(address, spec=SPEC)


def test_nobody_there() -> None:
    with pytest.raises(UnavailableError, match="gave up"):
        seedbed.connect("127.0.0.1:9", spec=SPEC, give_up_after_s=0.0)


def test_in_a_notebook(server: tuple[ScriptedServer, str]) -> None:
    """A cell runs inside an event loop: another cannot turn in the same thread."""
    _, address = server

    async def cell() -> Any:
        with seedbed.connect(address, spec=SPEC) as policy:
            policy.first(seen(1))
            return policy.next(seen(2), 1.0, terminated=True)

    assert asyncio.run(cell()) is None


def test_ctrl_c_while_it_waits(server: tuple[ScriptedServer, str], caplog: pytest.LogCaptureFixture) -> None:
    """The place is given back, and nothing is left that would complain later."""
    served, address = server
    with seedbed.connect(address, spec=SPEC) as policy:
        policy.first(seen(1))
        served._answer = too_late  # type: ignore[method-assign]
        threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT]).start()
        with pytest.raises(KeyboardInterrupt):
            policy.next(seen(2), 1.0)
    assert said(served)[:3] == ["hello", "steps", "steps"]
    del policy
    gc.collect()
    assert "destroyed" not in caplog.text, "an exchange was still under way"


def too_late(seq: int, num_rows: int) -> pb.Actions:
    """An answer, when nobody waits for it any more."""
    time.sleep(1.5)  # longer than a goodbye may take
    return pb.Actions(seq=seq, actions=[np.zeros(num_rows, "<i8").tobytes()])


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ((seen(1), np.nan), "finite"),
            ((seen(1), 1e39), "finite"),
            ((seen(1), [1.0, 2.0]), "one value or 1"),
        ],
    )
    def test_rewards(self, server: tuple[ScriptedServer, str], arguments: Sequence[Any], words: str) -> None:
        with seedbed.connect(server[1], spec=SPEC) as policy:
            policy.first(seen(1))
            with pytest.raises(UsageError, match=words):
                policy.next(*arguments)
            assert policy.next(seen(2), 1.0) is not None, "nothing has been sent"

    def test_turns(self, server: tuple[ScriptedServer, str]) -> None:
        with seedbed.connect(server[1], spec=SPEC) as policy:
            with pytest.raises(UsageError, match=r"first\(\)"):
                policy.next(seen(1), 0.0)
            policy.first(seen(1))
            policy.next(seen(2), 0.0, terminated=True)
            with pytest.raises(UsageError, match=r"first\(\)"):
                policy.next(seen(1), 0.0)
        with pytest.raises(UsageError, match="closed"):
            policy.first(seen(1))
        policy.close()

    def test_observations(self, server: tuple[ScriptedServer, str]) -> None:
        with seedbed.connect(server[1], spec=SPEC) as policy, pytest.raises(SpecError, match=r"float32\[3\]"):
            policy.first(np.ones(4))


def test_masks_are_demanded_but_at_the_end_of_an_episode(script: Script) -> None:
    with serving(MASKED, script) as (served, address), seedbed.connect(address, spec=MASKED) as policy:
        mask = np.zeros(MASKED.num_mask_entries, np.int8)
        mask[1] = 1
        with pytest.raises(UsageError, match="mask="):
            policy.first(seen(1))
        policy.first(seen(1), mask)
        with pytest.raises(UsageError, match="mask="):
            policy.next(seen(2), 0.0)
        policy.next(seen(2), 0.0, mask=mask)
        assert policy.next(seen(3), 0.0, terminated=True) is None
    masks = [list(heard.body.observations[1]) for heard in served.of_group(0)]
    assert masks == [mask.tolist(), mask.tolist(), [1] * len(mask)]


def test_observations_and_actions_have_the_environment_s_layout(script: Script) -> None:
    env = Mixed()
    spec: EnvironmentSpec = seedbed.spec_of(env, name="mixed")
    with serving(spec, script) as (served, address), seedbed.connect(address, spec=spec) as policy:
        action = policy.first(env.reset()[0])
        for _ in range(3):
            assert env.action_space.contains(action)
            observation, reward, terminated, truncated, _ = env.step(action)
            action = policy.next(observation, reward, terminated=terminated, truncated=truncated)
        assert action is None
    assert len(served.of_group(0)) == 4


def test_one_of_several_servers_is_chosen(server: tuple[ScriptedServer, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The other is away."""
    monkeypatch.setattr(replicas, "_START_JITTER_S", 0.0)
    served, address = server
    with seedbed.connect(f"127.0.0.1:1,{address}", spec=SPEC) as policy:
        policy.first(seen(1))
    assert said(served)[0] == "hello"
    with pytest.raises(UsageError, match="empty part"):
        seedbed.connect(f"{address},", spec=SPEC)
