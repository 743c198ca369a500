"""What is remembered of names that others make up."""

from __future__ import annotations

from seedbed.server.shared.recent import Recent


def test_the_ones_named_longest_ago_make_room() -> None:
    subject: Recent[str] = Recent(2)
    assert [subject.add(name) for name in ("a", "b", "a", "c")] == [1, 1, 2, 1]
    assert "b" not in subject
    assert (subject["a"], subject["b"], len(subject)) == (2, 0, 2)
    assert subject.add("b") == 1
    assert "a" not in subject
