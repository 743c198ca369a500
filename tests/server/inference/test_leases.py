"""Who holds which slots: single rules, then any order of them with every invariant checked after each."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from seedbed.common.errors import CapacityError, FencedError, IndexTakenError, InvalidMessageError
from seedbed.server.inference.leases import Lease, LeaseKey, LeaseTable, StreamId
from seedbed.server.shared.indices import INDEX_STRIDE, indices_of

GRACE_S = 10.0


def key(client: str = "a", run: int = 1, group: int = 0) -> LeaseKey:
    return LeaseKey(client, run, group)


def stream(number: int = 0, frontend: int = 0) -> StreamId:
    return StreamId(frontend, number)


def table(num_slots: int = 8) -> LeaseTable:
    return LeaseTable(num_slots=num_slots, grace_s=GRACE_S)


def test_ranges_are_contiguous_and_the_first_gap_that_fits_is_used() -> None:
    subject = table(8)
    places = {"a": range(2), "b": range(10, 13), "c": range(20, 22)}
    a, b, c = (subject.open(key(name), indices, stream()) for name, indices in places.items())
    assert [lease.first for lease in (a, b, c)] == [0, 2, 5]
    subject.end(b)
    assert subject.open(key("d"), [30, 31], stream()).first == 2
    assert subject.open(key("e"), [40], stream()).first == 4
    assert subject.open(key("f"), [50], stream()).first == 7
    subject.check_valid()


def test_a_full_table_says_what_was_asked_and_what_there_is() -> None:
    subject = table(4)
    subject.open(key("a"), range(3), stream())
    with pytest.raises(CapacityError, match=r"expected 2 free slots in a row, the server has 4 of which 3 are leased"):
        subject.open(key("b"), [10, 11], stream())
    subject.check_valid()
    assert subject.find(key("b")) is None


def test_free_slots_that_do_not_touch_are_no_range() -> None:
    subject = table(4)
    leases = [subject.open(key(name), [ord(name)], stream()) for name in "abcd"]
    subject.end(leases[0])
    subject.end(leases[2])
    with pytest.raises(CapacityError, match="4 of which 2 are leased"):
        subject.open(key("e"), [0, 1], stream())


def test_indices_that_are_kept_go_to_nobody_else() -> None:
    """Whoever held one while its client is away would keep it out, and the run gives up a client that is kept out."""
    subject = table(8)
    subject.keep(range(3), {"local-0-5f"})
    with pytest.raises(IndexTakenError, match="environment index 2 is held by another client"):
        subject.open(key("stranger"), [5, 2], stream())
    assert subject.choose_indices([0, 1]) == [3, 4]
    assert subject.choose_indices([7, 2]) == [7, 3]
    assert subject.open(key("local-0-5f"), [0, 2], stream()).num_rows == 2
    assert subject.open(key("stranger"), [3, 4], stream(1)).num_rows == 2
    subject.check_valid()


def test_grace_keeps_the_slots_but_is_not_live() -> None:
    subject = table()
    lease = subject.open(key(), range(3), stream())
    subject.detach(lease, 5.0)
    assert (subject.live_rows, subject.used_rows) == (0, 3)
    assert subject.next_expiry_s() == 15.0
    assert subject.expired(14.9) == []
    assert subject.expired(15.0) == [lease]
    subject.detach(lease, 9.0)
    assert subject.next_expiry_s() == 15.0, "a second detach must not lengthen the grace time"


def test_resume_gives_back_the_same_lease() -> None:
    subject = table()
    lease = subject.open(key(), [7, 8], stream(0))
    subject.detach(lease, 0.0)
    subject.resume(lease, [7, 8], stream(1))
    assert (lease.stream, lease.expires_s) == (stream(1), None)
    assert (subject.live_rows, subject.used_rows) == (2, 2)
    assert subject.expired(1e9) == []
    subject.check_valid()


def test_resume_with_other_environments_is_refused() -> None:
    subject = table()
    lease = subject.open(key(), [7, 8], stream(0))
    subject.detach(lease, 0.0)
    with pytest.raises(InvalidMessageError, match=r"\[7, 8\].*got \[8, 7\]"):
        subject.resume(lease, [8, 7], stream(1))
    assert lease.stream is None
    subject.check_valid()


def test_resume_while_the_old_stream_lives_is_a_defect() -> None:
    subject = table()
    lease = subject.open(key(), [0], stream(0))
    with pytest.raises(AssertionError, match="two streams would write"):
        subject.resume(lease, [0], stream(1))


def test_a_newer_run_fences_every_group_of_that_client_alone() -> None:
    subject = table()
    old = [subject.open(key("a", 1, group), [group], stream(group)) for group in (0, 1)]
    subject.open(key("b", 1, 0), [2], stream(2))
    assert subject.fenced_by(key("a", 2, 0)) == old
    assert subject.fenced_by(key("a", 1, 1)) == []


def test_streams_are_found_by_frontend() -> None:
    subject = table()
    lease = subject.open(key("a"), [0], stream(0, frontend=3))
    subject.open(key("b"), [1], stream(0, frontend=4))
    assert subject.on_frontend(3) == [lease]
    subject.detach(lease, 0.0)
    assert subject.on_frontend(3) == []


def test_serials_tell_successive_holders_apart() -> None:
    subject = table(1)
    serials = []
    for run in (1, 2, 3):
        lease = subject.open(key(run=run), [0], stream())
        serials.append(lease.serial)
        subject.end(lease)
    assert serials == sorted(set(serials))


def test_an_index_that_a_live_client_holds_is_refused_and_says_who_has_it() -> None:
    subject = table()
    subject.open(key("a", group=1), [3, 4], stream())
    with pytest.raises(IndexTakenError, match=r"index 4 is held by another client: .*--first-index"):
        subject.open(key("b"), [4, 5], stream(1))
    with pytest.raises(IndexTakenError):
        subject.open(key("a", group=0), [4], stream(2))
    assert (subject.used_rows, subject.choose_indices([5])) == (2, [5]), "a refusal takes nothing"
    subject.check_valid()


def test_an_index_of_a_client_that_is_away_may_become_free() -> None:
    subject = table()
    lease = subject.open(key("a"), [3], stream())
    subject.detach(lease, 0.0)
    with pytest.raises(CapacityError, match="index 3 is held by a client that is away"):
        subject.open(key("b"), [3], stream(1))
    subject.end(lease)
    assert subject.open(key("b"), [3], stream(1)).environment_indices == (3,)


def test_an_index_may_not_be_named_twice() -> None:
    with pytest.raises(InvalidMessageError, match=r"that differ, got \[3, 3\]"):
        table().open(key("a"), [3, 3], stream())


def test_the_server_chooses_what_is_wished_for_or_else_the_lowest_free() -> None:
    subject = table()
    assert subject.choose_indices([0, 0, 0]) == [0, 1, 2]
    subject.open(key("a"), [0, 2], stream())
    assert subject.choose_indices([0, 1]) == [3, 1], "not 1 for the first row: the second wishes for it"
    assert subject.choose_indices([7, 2, 7, 9]) == [7, 1, 3, 9]
    subject.detach(subject.all()[0], 0.0)
    assert subject.choose_indices([2]) == [1], "a lease in grace keeps its indices"


class LeaseLife(RuleBasedStateMachine):
    """Any order of everything that can happen to leases, against a plain dictionary of who owns each slot."""

    NUM_SLOTS = 9

    @initialize()
    def start(self) -> None:
        self.table = table(self.NUM_SLOTS)
        self.now_s = 0.0
        self.owner: list[LeaseKey | None] = [None] * self.NUM_SLOTS
        self.held: dict[LeaseKey, Lease] = {}
        self.indices: dict[int, LeaseKey] = {}
        self.streams = 0

    def new_stream(self) -> StreamId:
        self.streams += 1
        return StreamId(self.streams % 2, self.streams)

    def pick(self, data: st.DataObject, *, live: bool) -> Lease:
        return data.draw(st.sampled_from([x for x in self.held.values() if (x.stream is not None) == live]))

    def forget(self, lease: Lease) -> None:
        self.table.end(lease)
        del self.held[lease.key]
        self.owner = [None if holder == lease.key else holder for holder in self.owner]
        self.indices = {index: holder for index, holder in self.indices.items() if holder != lease.key}

    @rule(
        client=st.sampled_from("abc"),
        run=st.integers(1, 2),
        group=st.integers(0, 1),
        wishes=st.lists(st.integers(0, 9), min_size=1, max_size=4),
        assign=st.booleans(),
    )
    def open(self, client: str, run: int, group: int, wishes: list[int], assign: bool) -> None:
        wanted = key(client, run, group)
        for fenced in self.table.fenced_by(wanted):
            assert fenced.key.client_id == client
            assert fenced.key.run_id != run
            self.forget(fenced)
        assert {x.run_id for x in self.held if x.client_id == client} <= {run}
        if wanted in self.held:
            return
        rows = len(wishes)
        indices = self.table.choose_indices(wishes) if assign else wishes
        fits = any(self.owner[i : i + rows] == [None] * rows for i in range(self.NUM_SLOTS - rows + 1))
        differ = len(set(indices)) == rows and not self.indices.keys() & set(indices)
        assert differ or not assign
        try:
            lease = self.table.open(wanted, indices, self.new_stream())
        except (CapacityError, IndexTakenError, InvalidMessageError):
            assert not (fits and differ)
            return
        assert fits
        assert differ
        self.indices |= dict.fromkeys(indices, wanted)
        assert self.owner[lease.first : lease.first + rows] == [None] * rows
        self.owner[lease.first : lease.first + rows] = [wanted] * rows
        self.held[wanted] = lease

    @precondition(lambda self: any(lease.stream for lease in self.held.values()))
    @rule(data=st.data())
    def detach(self, data: st.DataObject) -> None:
        self.table.detach(self.pick(data, live=True), self.now_s)

    @precondition(lambda self: any(lease.stream is None for lease in self.held.values()))
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        lease = self.pick(data, live=False)
        first = lease.first
        self.table.resume(lease, lease.environment_indices, self.new_stream())
        assert self.table.find(lease.key) is lease
        assert lease.first == first

    @precondition(lambda self: bool(self.held))
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self.forget(data.draw(st.sampled_from(list(self.held.values()))))

    @rule(pause_s=st.floats(0.0, 1.5 * GRACE_S))
    def expire(self, pause_s: float) -> None:
        self.now_s += pause_s
        for lease in self.table.expired(self.now_s):
            assert lease.stream is None
            self.forget(lease)
        next_s = self.table.next_expiry_s()
        assert next_s is None or self.now_s < next_s <= self.now_s + GRACE_S

    @invariant()
    def agrees_with_the_model(self) -> None:
        if not hasattr(self, "table"):
            return
        self.table.check_valid()
        assert {lease.key: lease for lease in self.table.all()} == self.held
        assert len(self.table) == len(self.held)
        assert self.table.used_rows == sum(holder is not None for holder in self.owner)
        in_grace = sum(lease.num_rows for lease in self.held.values() if lease.stream is None)
        assert self.table.used_rows == self.table.live_rows + in_grace
        assert {index: key for key, lease in self.held.items() for index in lease.environment_indices} == self.indices
        for lease in self.held.values():
            assert self.table.get(lease.first) is lease
            assert self.owner[lease.first : lease.first + lease.num_rows] == [lease.key] * lease.num_rows


TestLeaseLife = LeaseLife.TestCase
TestLeaseLife.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_a_replaced_incarnation_must_not_come_back() -> None:
    table = LeaseTable(num_slots=4, grace_s=1.0)
    table.retire("actor", 1)
    with pytest.raises(FencedError, match="two live clients must not share a client_id"):
        table.check_not_retired(LeaseKey("actor", 1, 0))
    table.check_not_retired(LeaseKey("actor", 2, 0))
    table.check_not_retired(LeaseKey("other", 1, 0))


def test_replicas_choose_indices_of_their_own() -> None:
    """A wish from another replica, where the client was before, is not granted: the environment would come twice."""
    leases = LeaseTable(num_slots=8, grace_s=GRACE_S, indices=indices_of(1))
    first = INDEX_STRIDE
    assert leases.choose_indices([0, first + 5, 2 * INDEX_STRIDE]) == [first, first + 5, first + 1]
    assert LeaseTable(num_slots=8, grace_s=GRACE_S, indices=indices_of(0)).choose_indices([first + 5, 3]) == [0, 3]
    assert LeaseTable(num_slots=8, grace_s=GRACE_S).choose_indices([first + 5]) == [first + 5]
