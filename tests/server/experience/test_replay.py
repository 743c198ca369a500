"""The replay: contents against streams kept in lists, draws, priorities of unrolls that are gone, and waiting."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from seedbed.server.experience.batch import TrainBatch
from seedbed.server.experience.open_unrolls import OpenUnrolls
from seedbed.server.experience.rate_limiter import RateLimiter
from seedbed.server.experience.replay import Prioritisation, Replay
from seedbed.server.experience.source import Empty
from seedbed.server.experience.stored_unrolls import StoredUnrolls
from seedbed.server.experience.unroll import UnrollLayout
from tests.reference.unrolls import ExpectedUnroll, Streams, complete_unrolls, cut_unroll, numbers_layout

CPU = torch.device("cpu")
NUM_SLOTS = 5


def eventually(condition: Callable[[], bool]) -> None:
    """Waits for what another thread is about to do."""
    deadline_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_s, "it never happened"
        time.sleep(0.001)


def slot_plus_one(batch: TrainBatch) -> Tensor:
    """A priority that tells from which slot an unroll is."""
    return torch.tensor([source.slot + 1.0 for source in batch.provenance])


def make_replay(
    layout: UnrollLayout,
    capacity: int,
    *,
    initial: Callable[[TrainBatch], Tensor] = slot_plus_one,
    alpha: float = 1.0,
    beta: float = 0.5,
    samples_per_insert: float = 1.0,
    min_size: int = 1,
    tolerance: float = 1e9,
    batch_size: int = 4,
) -> Replay:
    limiter = RateLimiter(
        samples_per_insert=samples_per_insert, min_size=min_size, tolerance=tolerance, batch_size=batch_size
    )
    prioritisation = Prioritisation(alpha=alpha, beta=beta, initial=initial)
    return Replay(StoredUnrolls(layout, capacity, CPU), limiter, prioritisation, seed=0)


class Scene:
    """Open unrolls, complete and ready to be inserted, of slots 0 .. NUM_SLOTS - 1."""

    def __init__(self, layout: UnrollLayout | None = None, seed: int = 0) -> None:
        self.layout = layout or numbers_layout(4, 3, 1)
        self.store = OpenUnrolls(self.layout, NUM_SLOTS, CPU)
        self.streams = Streams(NUM_SLOTS, seed)
        self.slots = np.arange(NUM_SLOTS)
        self.streams.begin(self.store, self.slots)
        for _ in range(self.layout.num_rows):
            self.streams.step(self.store, self.slots)


@pytest.mark.parametrize(("num_rows", "period", "frame_stack"), [(6, 5, 1), (13, 4, 4), (12, 4, 1)])
def test_what_is_drawn_is_what_was_put_in_last(num_rows: int, period: int, frame_stack: int) -> None:
    layout = numbers_layout(num_rows, period, frame_stack)
    store, streams = OpenUnrolls(layout, NUM_SLOTS, CPU), Streams(NUM_SLOTS, num_rows)
    replay = make_replay(layout, 7)
    expected: list[ExpectedUnroll] = []
    num_checked = 0
    for _ in range(120):
        free = [slot for slot in range(NUM_SLOTS) if slot not in streams.open and streams.random.random() < 0.3]
        streams.begin(store, np.array(free, np.int64))
        complete = streams.step(store, streams.some())
        expected += [complete_unrolls(streams.open[slot], layout)[-1] for slot in complete.tolist()]
        assert replay.put(store, store.provenance(complete)) == len(complete)
        store.complete(complete)
        leaving = np.array([slot for slot in streams.open if streams.random.random() < 0.04], np.int64)
        worth, _ = store.cut(leaving)
        replay.put(store, store.provenance(worth))
        cuts = {log.slot: cut_unroll(log, layout) for log in streams.end(leaving)}
        expected += [unroll for slot in worth.tolist() if (unroll := cuts[slot]) is not None]
        store.position[leaving] = 0
        replay.check_valid()
        held = {unroll.provenance: unroll for unroll in expected[-7:]}
        assert len(replay) == len(held)
        if held:
            batch = replay.sample(3)
            for b, source in enumerate(batch.provenance):
                held[source].check(batch, b, layout)
                num_checked += 1
    assert num_checked > 150
    assert len(expected) > 5 * 7, "the places were turned over several times"


def test_unrolls_are_drawn_in_proportion_to_their_priorities_with_the_weights_that_correct_it() -> None:
    scene = Scene()
    replay = make_replay(scene.layout, 8, alpha=0.6, beta=0.4, initial=lambda batch: torch.tensor([1.0, 2.0, 4.0, 1.0]))
    replay.put(scene.store, scene.store.provenance(scene.slots[:4]))
    counts: Counter[int] = Counter()
    weight: dict[int, float] = {}
    for _ in range(1000):
        batch = replay.sample(4)
        assert batch.sample is not None
        assert batch.sample.weights.max() == 1
        slots = [source.slot for source in batch.provenance]
        counts.update(slots)
        if set(slots) == {0, 1, 2, 3}:
            weight = dict(zip(slots, batch.sample.weights.tolist(), strict=True))
    shares = [counts[slot] / 4000 for slot in range(4)]
    assert shares == pytest.approx([0.172025, 0.260741, 0.395209, 0.172025], abs=0.02)
    assert [weight[slot] for slot in range(4)] == pytest.approx([1.0, 0.846745, 0.716978, 1.0], abs=1e-6)


def test_with_beta_one_the_weights_give_the_uniform_mean() -> None:
    scene = Scene()
    replay = make_replay(scene.layout, 8, beta=1.0)
    replay.put(scene.store, scene.store.provenance(scene.slots))
    sums, total = 0.0, 0.0
    for _ in range(2000):
        batch = replay.sample(8)
        assert batch.sample is not None
        slots = torch.tensor([source.slot for source in batch.provenance]).double()
        probability = (slots + 1) / 15  # the weights of a batch are relative to its largest: undo that
        weights = batch.sample.weights.double() * (1 / (5 * probability)).max()
        sums, total = sums + float((weights * slots**2).sum()), total + len(slots)
    assert sums / total == pytest.approx(np.mean(np.arange(5) ** 2), rel=0.02)


def test_new_priorities_count_from_the_next_draw_on() -> None:
    scene = Scene()
    replay = make_replay(scene.layout, 8)
    replay.put(scene.store, scene.store.provenance(scene.slots))
    batch = replay.sample(64)
    replay.update_priorities(batch, torch.tensor([100.0 * (source.slot == 3) for source in batch.provenance]))
    assert {source.slot for source in replay.sample(64).provenance} == {3}


def test_a_priority_of_an_unroll_that_was_overwritten_is_ignored() -> None:
    scene = Scene()
    replay = make_replay(scene.layout, 3)
    replay.put(scene.store, scene.store.provenance(scene.slots[:3]))
    batch = replay.sample(32)
    replay.put(scene.store, scene.store.provenance(scene.slots[3:4]))  # takes the place of slot 0
    before = {source.slot for source in replay.sample(64).provenance}
    assert before == {1, 2, 3}
    replay.update_priorities(batch, torch.tensor([0.0 if source.slot else 1e9 for source in batch.provenance]))
    assert {source.slot for source in replay.sample(64).provenance} == {3}, "it kept its own priority"
    assert replay._tree[np.array([0])].item() == 4.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_priority_that_is_not_finite_spoils_nothing(value: float) -> None:
    scene = Scene()
    replay = make_replay(
        scene.layout, 8, initial=lambda batch: torch.tensor([value if x.slot == 2 else 1.0 for x in batch.provenance])
    )
    replay.put(scene.store, scene.store.provenance(scene.slots))
    assert {source.slot for source in replay.sample(64).provenance} == {0, 1, 3, 4}
    replay.update_priorities(replay.sample(64), torch.full((64,), value))
    batch = replay.sample(64)
    assert {source.slot for source in batch.provenance} == {0, 1, 2, 3, 4}, "when none is worth anything, any is taken"
    assert batch.sample is not None
    assert torch.equal(batch.sample.weights, torch.ones(64))


def test_a_batch_of_which_a_part_is_overwritten_while_it_is_gathered_is_drawn_again() -> None:
    scene = Scene()
    replay = make_replay(scene.layout, 3)
    replay.put(scene.store, scene.store.provenance(scene.slots[:3]))
    gather = replay._storage.gather

    def interrupted(*args: object) -> TrainBatch:
        batch = gather(*args)  # type: ignore[arg-type]
        replay._storage.gather = gather  # type: ignore[method-assign]
        replay.put(scene.store, scene.store.provenance(scene.slots[3:5]))
        return batch

    replay._storage.gather = interrupted  # type: ignore[method-assign, assignment]
    batch = replay.sample(16)
    assert replay.num_redrawn >= 1
    assert {source.slot for source in batch.provenance} == {2, 3, 4}
    replay.check_valid()


def test_what_is_being_overwritten_is_not_drawn() -> None:
    scene = Scene()
    replay = make_replay(scene.layout, 3)
    replay.put(scene.store, scene.store.provenance(scene.slots[:3]))
    replay.sample(8)  # reads the notes: place 0 has a priority from now on
    seen: set[int] = set()
    copy_in = replay._storage.copy_in

    def watched(store: OpenUnrolls, slots: np.ndarray, places: np.ndarray) -> None:
        seen.update(source.slot for source in replay.sample(64).provenance)  # the other thread's view, in mid-copy
        copy_in(store, slots, places)

    replay._storage.copy_in = watched  # type: ignore[method-assign]
    replay.put(scene.store, scene.store.provenance(scene.slots[3:4]))
    assert seen == {1, 2}


def test_two_threads_at_full_speed_never_see_a_torn_unroll() -> None:
    """Every row of an unroll says which lease it is of; the writer overwrites three places as fast as it can."""
    scene = Scene(numbers_layout(30, 29, 1))
    replay = make_replay(scene.layout, 3, batch_size=2)
    replay.put(scene.store, scene.store.provenance(scene.slots[:3]))
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for slot in scene.slots:
                replay.insert(scene.store, scene.store.provenance(np.array([slot])))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        deadline_s = time.monotonic() + 60
        num_batches = 0
        while num_batches < 200 or replay.num_redrawn < 5:
            assert time.monotonic() < deadline_s, "nothing was overwritten on the way: nothing was tested"
            batch = replay.sample(2)
            for b, source in enumerate(batch.provenance):
                assert batch.observations[0][:, b, 0, 0].unique().tolist() == [source.slot]
                assert batch.state[0][b, 0] == source.slot
            replay.update_priorities(batch, torch.tensor([1.0, 2.0]))
            num_batches += 1
    finally:
        stop.set()
        writer.join(10)
    replay.check_valid()


def test_both_sides_wait_for_the_ratio_and_wake_one_another() -> None:
    scene = Scene()
    replay = make_replay(scene.layout, 20, samples_per_insert=2.0, min_size=3, tolerance=3.0, batch_size=4)
    done: list[object] = []
    reader = threading.Thread(target=lambda: done.append([isinstance(replay.get(4), TrainBatch) for _ in range(3)]))
    reader.start()
    replay.put(scene.store, scene.store.provenance(scene.slots[:3]))
    reader.join(0.3)
    assert reader.is_alive(), "three inserts owe nothing: a batch would lead by 4"
    replay.put(
        scene.store, scene.store.provenance(scene.slots[:1])
    )  # owed 2: after a batch 2 too many were drawn, which is allowed
    eventually(lambda: replay._limiter.samples == 4)
    for _ in range(4):
        replay.put(scene.store, scene.store.provenance(scene.slots[:1]))
    reader.join(10)
    assert done == [[True, True, True]]
    writer = threading.Thread(
        target=lambda: done.append(replay.put(scene.store, scene.store.provenance(np.tile(scene.slots, 4))))
    )
    writer.start()
    eventually(lambda: not replay._limiter.num_inserts_allowed())
    inserts = replay._limiter.inserts
    assert isinstance(replay.get(4), TrainBatch)
    eventually(lambda: replay._limiter.inserts == inserts + 2)
    replay.close()
    writer.join(10)
    assert done[1] == replay._limiter.inserts - 8 < 20
    assert replay.get(4) is Empty.CLOSED


def test_the_ratio_is_kept_over_a_long_run() -> None:
    scene = Scene()
    replay = make_replay(scene.layout, 50, samples_per_insert=1.5, min_size=10, tolerance=8.0, batch_size=8)
    stop = threading.Event()

    def read() -> None:
        while replay.get(8) is not Empty.CLOSED:
            pass

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(600):
        replay.put(scene.store, scene.store.provenance(scene.slots))
    stop.set()
    replay.close()
    reader.join(10)
    inserts, samples = replay._limiter.inserts, replay._limiter.samples
    assert inserts == 3000
    assert samples / (inserts - 10) == pytest.approx(1.5, rel=0.01)


def test_a_state_restored_draws_what_the_original_draws() -> None:
    scene = Scene()
    one, two = make_replay(scene.layout, 4), make_replay(scene.layout, 4)
    one.put(scene.store, scene.store.provenance(scene.slots))
    one.update_priorities(one.sample(4), torch.tensor([3.0, 1.0, 2.0, 5.0]))
    for name, tensor in two.tensors.items():
        tensor.copy_(one.tensors[name])
    two.set_state(json.loads(json.dumps(one.get_state())))
    two.check_valid()
    for _ in range(5):
        ours, theirs = one.sample(8), two.sample(8)
        assert ours.provenance == theirs.provenance
        assert torch.equal(ours.observations[0], theirs.observations[0])
        assert ours.sample is not None
        assert theirs.sample is not None
        assert torch.equal(ours.sample.weights, theirs.sample.weights)
    one.put(scene.store, scene.store.provenance(scene.slots[:2]))
    two.put(scene.store, scene.store.provenance(scene.slots[:2]))
    assert one.get_state() == two.get_state()
