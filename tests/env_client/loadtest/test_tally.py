"""What drivers count, as it crosses to the parent and is subtracted there."""

from __future__ import annotations

import json

from seedbed.env_client.loadtest.latency import bucket_of
from seedbed.env_client.loadtest.tally import Sample, Tally, difference, total


def make_tally(messages: int) -> Tally:
    tally = Tally(pack_s=0.5 * messages, lags=messages, sent_bytes=100 * messages)
    for _ in range(messages):
        tally.answer(0.25, 0.125, 7)
    return tally


def test_an_answer_is_counted_in_every_place() -> None:
    tally = make_tally(2)
    assert (tally.messages, tally.agent_steps, tally.latency_s, tally.exchange_s) == (2, 14, 0.5, 0.25)
    assert tally.latency[bucket_of(0.25)] == tally.latency.sum() == 2


def test_a_sample_survives_its_way_through_json() -> None:
    tally = make_tally(3)
    tally.fail("disconnected", "it broke")
    sample = Sample.take(tally)
    again = Sample.from_json(json.loads(json.dumps(sample.to_json())))
    assert (again.tally.latency == tally.latency).all()
    assert again.to_json() == sample.to_json()
    assert again.tally.errors["disconnected"] == 1
    assert again.rss_bytes > 1e6


def test_differences_hold_what_happened_in_between() -> None:
    before, after = make_tally(2), make_tally(5)
    after.fail("a", "first")
    after.fail("a", "second")
    between = difference(after, before)
    assert (between.messages, between.agent_steps, between.pack_s, between.sent_bytes) == (3, 21, 1.5, 300)
    assert between.latency.sum() == 3
    assert between.errors == {"a": 2}
    assert between.examples == {"a": "first"}


def test_totals_are_over_all_drivers() -> None:
    first, second = make_tally(1), make_tally(4)
    second.fail("b", "text")
    both = total([first, second])
    assert (both.messages, both.latency.sum(), both.lags) == (5, 5, 5)
    assert both.errors == {"b": 1}
    assert both.examples == {"b": "text"}
    assert first.messages == 1, "the parts stay as they were"
    assert first.latency.sum() == 1
