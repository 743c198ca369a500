"""Action masks of a vector of environments beside its observations: in `info`, or from a method `action_masks()`.

Shapes: E environments, M entries of a mask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seedbed.common.errors import SpecError
from seedbed.common.specs import MASK_NAME, ArraySpec
from seedbed.env_client.environments.action_masks import MaskFlattener

_Source = Callable[[Mapping[str, Any]], Sequence[Any]]
"""info of a reset or step -> the mask of each environment as it gives it; None where it gives none."""


class VectorMasks:
    """Masks of E environments.

    Args:
        env: a `gymnasium.vector.VectorEnv` that has been reset.
        info: of that reset.
        actions: specs of the actions.
        num_envs: E.

    Raises:
        SpecError: it shows something that is no mask for these actions.
    """

    def __init__(self, env: Any, info: Mapping[str, Any], actions: Sequence[ArraySpec], num_envs: int) -> None:
        self._flatten = MaskFlattener(actions)
        self._masks = np.ones((num_envs, sum(spec.num_mask_entries for spec in actions)), np.uint8)
        self._source = _choose_source(env, info, num_envs)
        try:
            self(info, np.zeros(num_envs, np.bool_))
        except Exception as error:  # a method may raise anything
            raise SpecError(f"the environment's action mask: {error}") from error

    @property
    def found(self) -> bool:
        """Whether it shows masks at all."""
        return self._source is not None

    def __call__(self, info: Mapping[str, Any], over: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Masks `[E, M]`, valid until the next call.

        Args:
            info: of a reset or step.
            over: which episodes that ended, `[E]`: nothing is asked of them, so they may give none.

        Raises:
            ValueError: one is missing, has another length, or other values than 0 and 1.
        """
        for row, mask in enumerate(self._source(info) if self._source else ()):
            if mask is not None:
                self._flatten(mask, self._masks[row])
            elif over[row]:
                self._masks[row] = 1
            else:
                raise ValueError(f"expected {MASK_NAME!r} in the info of every step, as in that of the first reset")
        return self._masks


def _choose_source(env: Any, info: Mapping[str, Any], num_envs: int) -> _Source | None:
    if MASK_NAME in info:
        return lambda info: [_of_row(info, row) for row in range(num_envs)]
    if callable(method := getattr(env, "action_masks", None)):
        return lambda info: method()
    single = getattr(env, "envs", None)
    try:
        if not single or not callable(single[0].get_wrapper_attr("action_masks")):
            return None
    except AttributeError:
        return None
    return lambda info: env.call("action_masks")


def _of_row(info: Mapping[str, Any], row: int) -> Any:
    """One environment's mask out of what a vector gives: an array of all for each name, and which have it by _NAME."""
    has = info.get(f"_{MASK_NAME}")
    if MASK_NAME not in info or (isinstance(has, np.ndarray) and not has[row]):
        return None
    return _part(info[MASK_NAME], row)


def _part(values: Any, row: int) -> Any:
    if isinstance(values, Mapping):
        return {name: _part(part, row) for name, part in values.items() if f"_{name}" in values or name[:1] != "_"}
    return values[row]
