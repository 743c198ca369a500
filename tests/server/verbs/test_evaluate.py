"""When an evaluation has what it wants, and when it waits no longer."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from seedbed.common.errors import UsageError
from seedbed.common.timestep import EpisodeEnd
from seedbed.server.verbs.evaluate import EpisodeCollection, Patience, main


def end(value: float) -> EpisodeEnd:
    return EpisodeEnd(0, value, 1, 1)


def test_each_environment_owes_as_many() -> None:
    collection = EpisodeCollection(2, 2)
    for index, value in ((0, 1.0), (0, 2.0), (0, 99.0), (1, 3.0)):
        collection.add(index, end(value))
    assert (collection.num_kept, collection.num_expected, collection.complete.is_set()) == (3, 4, False)
    collection.add(1, end(4.0))
    assert collection.complete.is_set()
    assert collection.returns == [1.0, 2.0, 3.0, 4.0]


def test_episodes_that_never_end_are_given_up_and_others_waited_for() -> None:
    collection, inference = EpisodeCollection(2, 2), SimpleNamespace(num_steps=0)
    patience = Patience(100, collection, SimpleNamespace(inference=inference))  # type: ignore[arg-type]
    for inference.num_steps in (50, 100):
        assert not patience.is_over()
    collection.add(0, end(1.0))
    for inference.num_steps in (150, 240):
        assert not patience.is_over()
    collection.add(0, end(1.0))
    collection.add(0, end(99.0))
    assert not patience.is_over()
    inference.num_steps = 330
    collection.add(0, end(99.0))  # owes none: this is no progress
    assert not patience.is_over()
    inference.num_steps = 341
    assert patience.is_over()


@pytest.mark.parametrize("argv", [[], ["a", "--checkpoint", "b"]])
def test_one_run_is_scored(argv: list[str]) -> None:
    with pytest.raises(UsageError, match="expected one RUN to score"):
        main(argv)
