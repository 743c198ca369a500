"""`seedbed list`: every name with a few words that are true."""

from __future__ import annotations

from seedbed.common.specs import ArraySpec, EnvironmentSpec
from seedbed.server.algorithms.registry import SUMMARIES, suiting
from seedbed.server.presets import registry as presets
from seedbed.server.verbs.listing import BUILT_IN, describe


def test_every_name_has_a_few_words() -> None:
    shown = describe()
    for group, (names, summaries) in BUILT_IN.items():
        assert set(summaries) == set(names), group
        assert all(text in shown for text in summaries.values())
    assert set(presets.SUMMARIES) == set(presets.PRESETS)
    assert max(map(len, shown.splitlines())) <= 120


def test_those_that_take_boxes_say_so() -> None:
    box = ArraySpec(name="action", dtype="float32", shape=(2,), low=(-1,), high=(1,))
    seen = (ArraySpec(name="o", dtype="float32", shape=(3,)),)
    able = set(suiting(EnvironmentSpec(environment="x", observations=seen, actions=(box,))))
    assert able == {name for name, text in SUMMARIES.items() if "boxes" in text or "any actions" in text}
