"""Counted things in sentences."""

from __future__ import annotations

from seedbed.common.counting import count


def test_numbers_agree_with_their_nouns() -> None:
    assert [count(number, "episode") for number in (0, 1, 1000)] == ["0 episodes", "1 episode", "1,000 episodes"]
