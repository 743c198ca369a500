"""Optimiser steps of groups of parameters: learning rate, gradient, the share of other learners, clipping, step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from seedbed.server.algorithms.update_steps import Group
from seedbed.server.learning.exchange.interface import Exchange
from seedbed.server.learning.optimisers import (
    clip_gradients,
    linear_decay,
    load_optimiser,
    optimiser_of,
    set_learning_rate,
)
from seedbed.server.options.learning import OptimiserConfig


class GroupSteps:
    """Optimisers of all groups, one each.

    Attributes:
        optimisers: by the group's name.
        taken: steps of all groups together so far.
    """

    def __init__(self, groups: Mapping[str, Group], config: OptimiserConfig, *, sums: bool, graphed: bool) -> None:
        """Takes no step yet.

        Args:
            groups: by name; no two share a parameter.
            config: options of them all; a group's own learning rate and clip norm win.
            sums: losses are sums over transitions, not means: of several learners gradients are added up.
            graphed: steps can be recorded, and learning rates are tensors.
        """
        self.optimisers = {name: optimiser_of(group, config, graphed) for name, group in groups.items()}
        self.taken = 0
        self._groups = dict(groups)
        self._config = config
        self._sums = sums

    def descend(
        self, name: str, loss: Tensor | None, weight: Tensor | None, progress: float | None, exchange: Exchange
    ) -> Mapping[str, Tensor] | None:
        """One optimiser step of one group, on the gradients of all learners.

        Args:
            name: of the group.
            loss: a scalar; None: this learner has no rows for it.
            weight: what the main loss has been divided by.
            progress: share of the run that is over; None: learning rates have been set.
            exchange: with the other learners.

        Returns:
            Norms, by the names of metrics; None: no learner has rows for this step, and it was not taken.
        """
        group, optimiser = self._groups[name], self.optimisers[name]
        if progress is not None:
            set_learning_rate(optimiser, self._rate_of(group, progress))
        optimiser.zero_grad(set_to_none=True)
        if loss is not None:
            loss.backward(inputs=list(group.parameters))  # what else it runs through gets nothing
        weight = None if loss is None else weight
        shared = exchange.gradients(group.parameters, weight, mean=not self._sums)
        if shared is None:
            return None
        limit = self._config.clip_norm if group.clip_norm is None else group.clip_norm
        norm = clip_gradients(group.parameters, limit)
        made = None
        if loss is not None and progress is not None:
            made = exchange.step(self._rate_of(group, progress), loss, norm)
        if made is None:
            optimiser.step()
        self.taken += 1
        norms = {"gradient_norm": norm, **shared, **(made or {})}
        return norms if len(self._groups) == 1 else norms | {f"gradient_norm_{name}": norm}

    def set_rates(self, progress: float) -> None:
        """Sets the learning rates of all groups."""
        for name, group in self._groups.items():
            set_learning_rate(self.optimisers[name], self._rate_of(group, progress))

    def rate(self, progress: float) -> float:
        """The learning rate of groups without one of their own."""
        return linear_decay(self._config.learning_rate, self._config.final_learning_rate_share, progress)

    def _rate_of(self, group: Group, progress: float) -> float:
        if group.learning_rate is None:
            return self.rate(progress)
        return linear_decay(group.learning_rate, self._config.final_learning_rate_share, progress)

    def get_state(self) -> dict[str, Any]:
        """Of each optimiser by its group; tensors are shared with it."""
        return {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of `get_state`."""
        for name, optimiser in self.optimisers.items():
            load_optimiser(optimiser, state[name])
