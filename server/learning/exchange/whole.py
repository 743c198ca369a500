"""Whole updates: a learner whose peers are gone in the midst of one goes back to the end of the one before."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from torch import Tensor

from seedbed.common.errors import PeerLostError


class Stateful(Protocol):
    """A learner, as far as its state is concerned."""

    @property
    def num_steps(self) -> int:
        """Steps of the next update."""

    def get_state(self) -> dict[str, Any]:
        """Shares tensors with it."""

    def set_state(self, state: Mapping[str, Any]) -> None:
        """The inverse."""


@contextlib.contextmanager
def whole_update(learner: Stateful, world: int) -> Iterator[None]:
    """Restores a learner when the block, an update, ends with PeerLostError.

    Of an update of one step there is nothing to restore: gradients and moments are shared before it is made.

    Args:
        learner: what changes.
        world: learners of the run.
    """
    if world == 1 or learner.num_steps == 1:
        yield
        return
    before = copied(learner.get_state())
    try:
        yield
    except PeerLostError:
        learner.set_state(before)
        raise


def copied(value: Any) -> Any:
    """A nested state with tensors of its own, where they are."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, Mapping):
        return {key: copied(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(copied(part) for part in value)
    return value
