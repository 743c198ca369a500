"""Action masks: where an environment shows which actions are allowed, and the flat array that travels.

There are three habits: a Dict observation with the key "action_mask", `info["action_mask"]`, and a method
`action_masks()`. Which one an environment has is seen at its first reset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seedbed.common.containers import follow, path_of
from seedbed.common.errors import SpecError
from seedbed.common.specs import MASK_NAME, ArraySpec

MaskSource = Callable[[Mapping[str, Any], bool], Any]
"""(info of a reset or step, whether the episode is over) -> the mask as the environment gives it; None: all allowed."""


class MaskFlattener:
    """Masks of any layout -> one flat array: an entry for each value of each discrete element, in the spec's order.

    An environment may give that very array, one array for each action in containers like those of its action space, or
    one for each element of a MultiDiscrete.

    Args:
        actions: specs of the actions.
    """

    def __init__(self, actions: Sequence[ArraySpec]) -> None:
        discrete = [spec for spec in actions if spec.num_mask_entries]
        self._paths = [path_of(spec.name) for spec in discrete]
        self._bare = len(actions) == 1 and not actions[0].name.startswith(("/", "["))
        self._entries = sum(spec.num_mask_entries for spec in discrete)

    def __call__(self, mask: Any, target: NDArray[Any]) -> None:
        """Writes a mask into a uint8 array `[M]`.

        Raises:
            ValueError: it has another length, or other values than 0 and 1.
        """
        nested = isinstance(mask, Mapping | tuple | list)
        parts = [follow(path, mask) for path in self._paths] if nested and not self._bare else [mask]
        flat = np.concatenate([_flat(part) for part in parts])
        if flat.size != self._entries or not ((flat == 0) | (flat == 1)).all():
            raise ValueError(f"expected an action mask of {self._entries} entries, each 0 or 1, got {mask}")
        target[...] = flat


def find_mask_source(env: Any, info: Mapping[str, Any], actions: Sequence[ArraySpec]) -> MaskSource | None:
    """Where an environment shows masks beside its observations, if it does.

    Args:
        env: a Gymnasium environment that has been reset.
        info: of that reset.
        actions: specs of the actions.

    Raises:
        SpecError: it shows something that is no mask for these actions.
    """
    source = _choose_source(env, info)
    if source is None:
        return None
    try:
        MaskFlattener(actions)(source(info, False), np.zeros(sum(spec.num_mask_entries for spec in actions), np.uint8))
    except Exception as error:  # a method may raise anything, or want arguments
        raise SpecError(f"the environment's action mask: {error}") from error
    return source


def _choose_source(env: Any, info: Mapping[str, Any]) -> MaskSource | None:
    if isinstance(info, Mapping) and MASK_NAME in info:
        return _from_info
    try:
        method = env.get_wrapper_attr("action_masks")
    except AttributeError:
        return None
    return (lambda info, over: method()) if callable(method) else None


def _from_info(info: Mapping[str, Any], over: bool) -> Any:
    if MASK_NAME not in info and not over:
        raise ValueError(f"expected {MASK_NAME!r} in the info of every step, as in that of the first reset, got none")
    return info.get(MASK_NAME)


def _flat(mask: Any) -> NDArray[Any]:
    if isinstance(mask, tuple | list):
        return np.concatenate([np.ravel(part) for part in mask])
    return np.ravel(mask)
