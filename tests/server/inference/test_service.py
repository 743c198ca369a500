"""The inference thread's loop, with a fake policy and with the test as the frontend at the other end of a channel."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from seedbed.common.specs import ArraySpec, EnvironmentSpec
from seedbed.common.timestep import EpisodeEnd, StepType
from seedbed.server.inference import frontend_links as links_module
from seedbed.server.inference.batching import Batcher
from seedbed.server.inference.leases import ONE_TASK, LeaseTable
from seedbed.server.inference.service import InferenceService
from seedbed.server.options.task_plan import TaskPlan
from seedbed.server.shared.id_channel import Control, IdChannel
from seedbed.server.shared.slots import SlotTable
from seedbed.server.shared.vitals import VitalsTable

SPEC = EnvironmentSpec(
    environment="numbers",
    observations=(ArraySpec(name="observation", dtype="float32"),),
    actions=(ArraySpec(name="action", dtype="int64", low=(0,), high=(6,), kind="discrete"),),
)
NUM_SLOTS = 8
GRACE_S = 10.0


def indices_of(client: str, group: int) -> range:
    """Stable environment indices, different for each lease."""
    start = 100 * ord(client[-1]) + 10 * group
    return range(start, start + 10)


class Tape:
    """Stands for inference and for the sink of unrolls; writes down what it is asked, in order."""

    def __init__(self, slots: SlotTable) -> None:
        self.events: list[tuple[str, list[int]]] = []
        self.slots = slots
        self.num_steps = 0

    def begin(
        self, slots: NDArray[np.int64], lease: int, environment_indices: Sequence[int], tasks: Sequence[int]
    ) -> None:
        self.events.append(("begin", slots.tolist()))

    def act(self, slots: NDArray[np.int64], watched: bool = False) -> SimpleNamespace:
        self.events.append(("act", slots.tolist()))
        self.slots.answer(slots, [slots + 100], 1)
        return SimpleNamespace(slots=slots)

    def remember(self, answered: SimpleNamespace) -> NDArray[np.int64]:
        self.events.append(("remember", answered.slots.tolist()))
        return answered.slots[answered.slots == 3]  # the unroll of slot 3 is always complete

    def hand_over(self, slots: NDArray[np.int64]) -> None:
        self.events.append(("hand over", slots.tolist()))

    def cut(self, slots: NDArray[np.int64]) -> None:
        self.events.append(("cut", slots.tolist()))

    def take(self) -> list[tuple[str, list[int]]]:
        """What happened since the last call."""
        taken, self.events = self.events, []
        return taken


class Fleet:
    """Writes down which environments came, went and broke."""

    def __init__(self) -> None:
        self.events: list[tuple[str, list[int]]] = []

    def joined(self, indices: Sequence[int], tasks: Sequence[int]) -> None:
        self.events.append(("joined", list(indices)))

    def left(self, indices: Sequence[int]) -> None:
        self.events.append(("left", list(indices)))

    def lost(self, index: int) -> None:
        self.events.append(("lost", [index]))


class Scene:
    """A service whose loop the test turns by hand, and the far ends of its channels."""

    def __init__(self, num_frontends: int = 2, plan: TaskPlan = ONE_TASK) -> None:
        self.now_s = 0.0
        self.slots = SlotTable(SPEC, NUM_SLOTS)
        self.tape = Tape(self.slots)
        self.episodes: list[tuple[int, EpisodeEnd]] = []
        self.clients: list[str] = []
        self.fleet = Fleet()
        self.leases = LeaseTable(num_slots=NUM_SLOTS, grace_s=GRACE_S)
        self.service = InferenceService(
            slots=self.slots,
            leases=self.leases,
            batcher=Batcher(max_rows=NUM_SLOTS, max_wait_s=1.0),
            inference=self.tape,  # type: ignore[arg-type]
            sink=self.tape,
            on_episode=self._on_episode,
            vitals=VitalsTable(num_frontends).device,
            fleet=self.fleet,
            plan=plan,
            clock=lambda: self.now_s,
        )
        self.frontends: list[IdChannel] = []
        for number in range(num_frontends):
            ours, theirs = IdChannel.pair()
            self.service.links.adopt(number, ours)
            self.frontends.append(theirs)

    def _on_episode(self, index: int, end: EpisodeEnd, client: str) -> None:
        self.episodes.append((index, end))
        self.clients.append(client)

    def turn(self) -> None:
        """One turn of the loop; everything it can hear has been sent already."""
        self.service.turn(0.0)
        self.leases.check_valid()

    def ask(
        self,
        stream: int,
        *,
        frontend: int = 0,
        client: str = "a",
        run: int = 1,
        group: int = 0,
        rows: int = 2,
        wishes: Sequence[int] | None = None,
    ) -> None:
        """A Hello arrived on a stream; with wishes it lets the server choose."""
        self.frontends[frontend].send(
            {
                "type": "open",
                "stream": stream,
                "client_id": client,
                "run_id": run,
                "group": group,
                "environment_indices": list(wishes or indices_of(client, group)[:rows]),
                "assign_indices": wishes is not None,
            }
        )

    def steps(self, lease: int, *, frontend: int = 0) -> None:
        """A Steps was copied in."""
        self.slots.accepted_seq[lease] += 1
        self.frontends[frontend].send_ids([lease])

    def leave(self, stream: int, *, frontend: int = 0, goodbye: bool = False) -> None:
        """A stream ended."""
        if goodbye:
            self.frontends[frontend].send({"type": "goodbye", "stream": stream})
        self.frontends[frontend].send({"type": "detach", "stream": stream})

    def heard(self, frontend: int = 0) -> list[int | Control]:
        """What the service has told a frontend."""
        return self.frontends[frontend].receive()


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    for channel in scene.frontends:
        channel.close()
    for channel in scene.service.links._channels.values():
        channel.close()


def granted(
    stream: int, lease: int, resumed: bool = False, *, client: str = "a", group: int = 0, rows: int = 2
) -> Control:
    return {
        "type": "granted",
        "stream": stream,
        "lease": lease,
        "resumed": resumed,
        "environment_indices": list(indices_of(client, group)[:rows]),
        "tasks": [0] * rows,
    }


def test_a_lease_is_granted_answered_and_given_back(scene: Scene) -> None:
    scene.ask(0)
    scene.turn()
    assert scene.heard() == [granted(0, 0)]
    assert scene.slots.expects_first(0, 3).tolist() == [True, True, False]
    scene.steps(0)
    scene.turn()
    assert scene.heard() == [0]
    assert scene.slots.answered_seq[0] == 1
    assert scene.slots.actions[0][:2].tolist() == [100, 101]
    scene.leave(0, goodbye=True)
    scene.turn()
    assert scene.tape.take() == [("begin", [0, 1]), ("act", [0, 1]), ("remember", [0, 1]), ("cut", [0, 1])]
    assert scene.leases.used_rows == 0


def test_the_wait_of_a_request_ends_with_its_batch(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next Steps may be in the slots before the batch is counted: they do not change what the last one waited."""
    scene.ask(0)
    scene.turn()
    scene.slots.accepted_s[0] = scene.now_s
    scene.steps(0)
    scene.now_s = 3.0

    def remember(answered: SimpleNamespace) -> NDArray[np.int64]:
        scene.slots.accepted_s[0] = 7.0
        return answered.slots[:0]

    monkeypatch.setattr(scene.tape, "remember", remember)
    scene.turn()
    assert scene.service.vitals.histogram("wait").sum == 3.0


def test_one_batch_answers_all_that_waits_and_hands_on_what_is_complete(scene: Scene) -> None:
    scene.ask(0, client="a", rows=2)
    scene.ask(0, client="b", rows=3, frontend=1)
    scene.turn()
    scene.tape.take()
    assert (scene.heard(0), scene.heard(1)) == ([granted(0, 0)], [granted(0, 2, client="b", rows=3)])
    scene.steps(0)
    scene.steps(2, frontend=1)
    scene.turn()
    assert scene.tape.take() == [
        ("act", [0, 1, 2, 3, 4]),
        ("remember", [0, 1, 2, 3, 4]),
        ("hand over", [3]),
    ]
    assert (scene.heard(0), scene.heard(1)) == ([0], [2])
    assert scene.service.vitals["batches"] == 1


def test_a_refusal_names_its_error_and_is_counted(scene: Scene) -> None:
    scene.ask(4, rows=NUM_SLOTS + 1)
    scene.turn()
    (refusal,) = scene.heard()
    assert isinstance(refusal, dict)
    assert (refusal["type"], refusal["stream"], refusal["error"]) == ("refused", 4, "CapacityError")


def test_indices_that_the_server_chose_stay_until_the_grace_time_is_over(scene: Scene) -> None:
    scene.ask(0, wishes=[5, 5])
    scene.turn()
    scene.leave(0)
    scene.ask(1, client="b", wishes=[5, 0])
    scene.ask(2, wishes=[7, 7])
    scene.turn()
    answers = [message for message in scene.heard() if isinstance(message, dict)]
    assert [answer["environment_indices"] for answer in answers] == [[5, 0], [1, 2], [5, 0]]
    assert [answer["resumed"] for answer in answers] == [False, False, True]
    scene.leave(1, goodbye=True)
    scene.ask(3, client="c", wishes=[1, 0])
    scene.turn()
    assert [message["environment_indices"] for message in scene.heard() if isinstance(message, dict)] == [[1, 2]]


def test_resuming_with_another_number_of_rows_is_refused_whoever_chose(scene: Scene) -> None:
    scene.ask(0, wishes=[0, 0])
    scene.turn()
    scene.leave(0)
    scene.ask(1, wishes=[0, 0, 0])
    scene.turn()
    refusal = scene.heard()[-1]
    assert isinstance(refusal, dict)
    assert refusal["error"] == "InvalidMessageError"


def test_a_resume_waits_until_the_old_stream_has_left(scene: Scene) -> None:
    scene.ask(0)
    scene.turn()
    scene.ask(7, frontend=1)
    scene.turn()
    scene.heard(0).remove(granted(0, 0))
    assert scene.heard(1) == [], "two streams would write the same rows"
    scene.leave(0)
    scene.turn()
    assert scene.heard(1) == [granted(7, 0, resumed=True)]
    assert scene.tape.take() == [("begin", [0, 1])], "nothing begins anew, nothing is cut"


def test_what_a_stream_asked_for_is_void_when_it_leaves_before_it_was_granted(scene: Scene) -> None:
    scene.ask(0)
    scene.turn()
    scene.ask(7, frontend=1)
    scene.leave(7, frontend=1)
    scene.turn()
    scene.leave(0)
    scene.turn()
    assert scene.heard(1) == []
    assert scene.leases.live_rows == 0, "nobody is there: its rows would be waited for"


def test_a_newer_run_ends_every_group_of_the_older_one_once_its_streams_have_left(scene: Scene) -> None:
    for group in (0, 1):
        scene.ask(group, group=group)
    scene.turn()
    scene.heard()
    scene.tape.take()
    scene.ask(9, run=2)
    scene.turn()
    assert sorted(message["stream"] for message in scene.heard() if isinstance(message, dict)) == [0, 1]
    scene.leave(0)
    scene.turn()
    assert scene.tape.take() == []
    scene.leave(1)
    scene.turn()
    assert scene.tape.take() == [("cut", [0, 1]), ("cut", [2, 3]), ("begin", [0, 1])]
    assert scene.heard()[-1] == granted(9, 0)
    assert scene.service.vitals["leases_fenced"] == 2


def test_two_live_clients_of_one_name_do_not_take_turns(scene: Scene) -> None:
    scene.ask(0, run=1)
    scene.turn()
    scene.ask(1, run=2)
    scene.ask(2, run=1)  # the first one's reconnect, already under way
    scene.turn()
    scene.leave(0)
    scene.turn()
    scene.ask(3, run=1)
    scene.turn()
    answers = {message["stream"]: message for message in scene.heard() if isinstance(message, dict)}
    assert answers[1] == granted(1, 0)
    assert [answers[stream]["error"] for stream in (2, 3)] == ["FencedError"] * 2
    assert len(scene.leases) == 1


def test_a_turn_under_load_expires_leases_and_shows_that_it_turns(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is always busy never ends a turn: what must happen now and then happens within it."""
    scene.ask(0, client="a")
    scene.ask(1, client="b", rows=1)
    scene.turn()
    assert scene.service.vitals["clients"] == 2
    scene.leave(1)
    act, turns_s = scene.tape.act, []

    def busy_act(slots: NDArray[np.int64], watched: bool) -> SimpleNamespace:
        turns_s.append(scene.service.vitals["turn_s"])
        scene.now_s += 1.0
        if scene.now_s < 2 * GRACE_S:
            scene.steps(0)
        return act(slots)

    monkeypatch.setattr(scene.tape, "act", busy_act)
    scene.steps(0)
    scene.turn()
    assert len(turns_s) >= GRACE_S
    assert turns_s == sorted(set(turns_s)), "every batch is a sign of life"
    assert scene.service.vitals["leases_expired"] == 1
    assert (scene.service.vitals["clients"], scene.service.vitals["used_rows"]) == (1, 2)


def test_a_request_ends_with_its_lease(scene: Scene) -> None:
    scene.ask(0)
    scene.turn()
    scene.tape.take()
    scene.steps(0)
    scene.leave(0)
    scene.ask(1, run=2)
    scene.turn()
    assert scene.tape.take() == [("cut", [0, 1]), ("begin", [0, 1])]
    assert scene.heard() == [granted(0, 0), granted(1, 0)]


def test_a_lost_stream_keeps_its_lease_for_the_grace_time_and_nobody_waits_for_it(scene: Scene) -> None:
    scene.ask(0)
    scene.turn()
    scene.leave(0)
    scene.turn()
    assert (scene.leases.live_rows, scene.leases.used_rows) == (0, 2)
    scene.now_s = GRACE_S
    scene.tape.take()
    scene.turn()
    assert scene.tape.take() == [("cut", [0, 1])]
    assert scene.service.vitals["leases_expired"] == 1


def says(scene: Scene, row: int, seq: int, episode_return: float, steps: int, more: Sequence[Any] = ()) -> None:
    """A frontend tells of the end of an episode; its rows come next."""
    end = [row, episode_return, steps, 4 * steps, *more]
    scene.frontends[0].send({"type": "episode_ends", "lease": 0, "seq": seq, "ends": [end]})


def play(scene: Scene, row: int, rewards: Sequence[float], *, last: bool = True) -> None:
    """Rows of an episode, one Steps each, the last of them LAST."""
    for number, reward in enumerate(rewards, start=1):
        scene.slots.step_type[:2] = StepType.MID
        scene.slots.step_type[row] = StepType.LAST if last and number == len(rewards) else StepType.MID
        scene.slots.reward[:2] = 0.0
        scene.slots.reward[row] = reward
        scene.steps(0)
        scene.turn()


def test_an_episode_end_is_told_with_the_index_of_its_environment(scene: Scene) -> None:
    scene.ask(0)
    scene.turn()
    play(scene, 1, [0.5, 1.0], last=False)
    says(scene, 1, 7, 2.5, 3, [True, {"won": 1.0}])
    scene.turn()
    assert scene.episodes == [], "not before its last row"
    play(scene, 1, [1.0])
    assert scene.episodes == [(indices_of("a", 0)[1], EpisodeEnd(1, 2.5, 3, 12, True, {"won": 1.0}))]
    assert scene.clients == ["a"]


def test_the_ends_of_a_repeated_steps_count_once(scene: Scene) -> None:
    """The frontend that told of them first died before the Steps was accepted. A later lease counts from 1 again."""
    for run in (1, 2):
        scene.ask(run, run=run)
        scene.turn()
        for seq, repeats in ((1, 2), (3, 3)):
            for _ in range(repeats):
                says(scene, 0, seq, float(seq), 1)
            play(scene, 0, [seq])
        scene.leave(run, goodbye=True)
        scene.turn()
    assert [end.episode_return for _, end in scene.episodes] == [1, 3, 1, 3]


@pytest.mark.parametrize(("episode_return", "steps"), [(5000.0, 2), (3.0, 200), (3.01, 2), (-3.0, 2), (math.nan, 2)])
def test_an_end_that_its_rows_do_not_say_is_not_counted(
    episode_return: float, steps: int, scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """Two messages of a hostile client would otherwise end a run as finished."""
    scene.ask(0)
    scene.turn()
    for seq in (1, 2):
        says(scene, 0, seq, episode_return, steps)
        play(scene, 0, [1.0, 2.0])
    assert scene.episodes == []
    assert scene.service.vitals["episodes_refused"] == 2
    assert caplog.text.count("is not counted, its rows say 3 over 2") == 1
    says(scene, 0, 3, 3.0, 2)
    play(scene, 0, [1.0, 2.0])
    assert len(scene.episodes) == 1, "what is right counts again"


def test_a_lost_life_is_no_end_and_a_broken_environment_begins_anew(scene: Scene) -> None:
    scene.ask(0)
    scene.turn()
    scene.slots.discount[:2] = 0.0
    play(scene, 0, [1.0, 2.0])  # a life is lost
    says(scene, 0, 1, 7.0, 3)
    play(scene, 0, [4.0])
    assert [end.episode_return for _, end in scene.episodes] == [7.0]
    scene.slots.discount[:2] = 1.0
    play(scene, 0, [9.0])  # it broke
    says(scene, 0, 2, 1.0, 1)
    play(scene, 0, [1.0])
    assert [end.episode_return for _, end in scene.episodes] == [7.0, 1.0]


def test_a_dead_frontend_loses_its_streams_not_its_leases(scene: Scene) -> None:
    scene.ask(0)
    scene.ask(0, client="b", frontend=1)
    scene.turn()
    scene.frontends[0].close()
    scene.turn()
    assert list(scene.service.links.lost) == [0]
    assert (scene.leases.live_rows, scene.leases.used_rows) == (2, 4)
    scene.ask(5, frontend=1)
    scene.turn()
    assert scene.heard(1)[-1] == granted(5, 0, resumed=True)


def test_what_a_frontend_said_before_it_died_counts(scene: Scene) -> None:
    scene.ask(0)
    scene.turn()
    says(scene, 0, 1, 1.0, 1)
    scene.slots.step_type[:2], scene.slots.reward[:2] = StepType.LAST, 1.0
    scene.steps(0)
    scene.frontends[0].send({"type": "goodbye", "stream": 0})
    scene.frontends[0].close()
    scene.turn()
    assert scene.leases.used_rows == 0
    assert len(scene.episodes) == 1


def test_a_request_that_only_the_rows_know_is_found_on_resume(scene: Scene) -> None:
    """The frontend died between copying the rows in and sending their id."""
    scene.ask(0)
    scene.turn()
    scene.slots.accepted_seq[0] = 1
    scene.frontends[0].close()
    scene.turn()
    scene.tape.take()
    scene.ask(5, frontend=1)
    scene.turn()
    assert scene.tape.take() == [("act", [0, 1]), ("remember", [0, 1])]
    assert scene.heard(1) == [granted(5, 0, resumed=True), 0]
    assert scene.slots.answered_seq[0] == 1


def test_a_frontend_that_dies_during_a_batch_gives_nothing_away_before_it_is_remembered(scene: Scene) -> None:
    """Its death lets a newer run have the slots: not before the rows of the batch are in the older one's unrolls."""
    scene.ask(0)
    scene.turn()
    scene.ask(1, run=2, frontend=1)  # waits for the stream of run 1
    scene.turn()
    scene.tape.take()
    scene.steps(0)
    act = scene.tape.act

    def act_and_lose(slots: NDArray[np.int64], watched: bool = False) -> SimpleNamespace:
        scene.frontends[0].close()
        return act(slots)

    scene.tape.act = act_and_lose  # type: ignore[method-assign]
    scene.turn()
    assert scene.tape.take() == [("act", [0, 1]), ("remember", [0, 1]), ("cut", [0, 1]), ("begin", [0, 1])]
    assert scene.heard(1) == [granted(1, 0)]


def test_a_reconnect_that_waits_on_a_dead_frontend_gets_nothing(scene: Scene) -> None:
    """Otherwise its stream would hold the lease for ever: nobody is left to say that it ended."""
    scene.ask(0)
    scene.turn()
    scene.ask(1)  # the same lease, over the same frontend
    scene.turn()
    scene.frontends[0].close()
    scene.turn()
    assert scene.leases.live_rows == 0


def test_requests_of_a_frontend_that_hears_nothing_any_more_leave_no_live_lease(scene: Scene) -> None:
    for stream in range(3):
        scene.ask(stream, client=f"client {stream}")
    scene.frontends[0].close()
    scene.turn()
    scene.turn()
    assert list(scene.service.links.lost) == [0]
    assert scene.leases.live_rows == 0


def test_a_frontend_may_die_while_another_is_heard(scene: Scene) -> None:
    scene.ask(0, frontend=1)
    scene.turn()
    scene.ask(1, frontend=0)  # fences the stream on frontend 1, which is gone
    scene.frontends[1].close()
    scene.turn()
    assert scene.heard(0) == [granted(1, 0, resumed=True)]


def test_what_a_slow_frontend_did_not_take_is_sent_when_it_reads_again(scene: Scene) -> None:
    """All its clients wait for what is held back, so nothing it says will come first."""
    scene.ask(0)
    scene.turn()
    num_answers = 0
    while not scene.service.links._channels[0].backlog_bytes:
        scene.steps(0)
        scene.turn()
        num_answers += 1
    heard: list[int | Control] = []
    for _ in range(num_answers):
        heard += scene.heard()
        scene.turn()
        if len(heard) == 1 + num_answers:
            break
    assert heard == [granted(0, 0), *[0] * num_answers]


def test_a_frontend_that_takes_nothing_is_given_up(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links_module, "_MAX_BACKLOG_BYTES", 1000)
    scene.ask(0)
    scene.turn()
    while not scene.service.links.lost:
        scene.steps(0)
        scene.turn()
    assert scene.leases.live_rows == 0


def test_the_end_cuts_every_lease_and_tells_every_frontend(scene: Scene) -> None:
    scene.ask(0)
    scene.ask(0, client="b", frontend=1)
    scene.turn()
    scene.tape.take()
    scene.service.stop()
    scene.service.run()
    scene.service.end_all()
    scene.service.links.broadcast({"type": "stop"})
    assert sorted(scene.tape.take()) == [("cut", [0, 1]), ("cut", [2, 3])]
    assert scene.heard(0)[-1] == scene.heard(1)[-1] == {"type": "stop"}


def test_it_tells_which_environments_are_there_and_whose_episodes_were_cut(scene: Scene) -> None:
    """A truncated row that is no real end is an environment that broke; a lost life is neither."""
    scene.ask(0, rows=3)
    scene.turn()
    first = list(indices_of("a", 0)[:3])
    assert scene.fleet.events == [("joined", first)]
    scene.slots.step_type[:3] = StepType.LAST
    scene.slots.discount[:3] = (1, 1, 0)  # cut; the time limit, told of; a life lost
    for _ in range(2):
        seq = int(scene.slots.accepted_seq[0]) + 1
        scene.frontends[0].send({"type": "episode_ends", "lease": 0, "seq": seq, "ends": [[1, 5.0, 7, 7]]})
        scene.steps(0)
        scene.turn()
    assert scene.fleet.events[1:] == [("lost", first[:1])] * 2
    scene.steps(0)  # nothing is told: what was told before has been used up
    scene.turn()
    assert scene.fleet.events[3:] == [("lost", first[:1]), ("lost", first[1:2])]
    scene.leave(0)
    scene.turn()
    scene.ask(1, rows=3)
    scene.turn()
    assert len(scene.fleet.events) == 5, "a lease that goes on is nothing new"
    scene.leave(1, goodbye=True)
    scene.turn()
    assert scene.fleet.events[5:] == [("left", first)]
