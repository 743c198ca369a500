"""Groups of environments, stepped one after another or by one call."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from seedbed.common.environment_name import EnvironmentName
from seedbed.common.errors import UsageError
from seedbed.common.specs import EnvironmentSpec
from seedbed.env_client.environments import building
from seedbed.env_client.environments.batched import BatchedEnvironments
from seedbed.env_client.environments.building import Care, make_environments
from seedbed.env_client.environments.images import with_medians
from seedbed.env_client.environments.interface import Asides, Group
from seedbed.env_client.environments.random_actions import some_action
from seedbed.env_client.environments.registry import environment_seed
from seedbed.env_client.environments.vectors import vector_maker

_log = logging.getLogger(__name__)


def make_group(environment: str, preset: str, indices: Sequence[int], run_seed: int, care: Care | None = None) -> Group:
    """Builds one environment for each index; arguments and errors are those of `building.make_environments`."""
    care = care or Care()
    if care.vector == "none":
        return make_environments(environment, preset, indices, run_seed, care)
    seeds = {index: environment_seed(run_seed, index) for index in indices}
    group = _batched(environment, preset, seeds, care)
    _log.info("%s, a vector of %s; seed of each environment index: %s", group.spec.environment, care.vector, seeds)
    return group


def describe(environment: str, preset: str, care: Care | None = None) -> EnvironmentSpec:
    """The spec of an environment, found out by building it, as it is stepped; see `building.describe`."""
    care = replace(care or Care(), asides=Asides())
    if care.vector == "none":
        return building.describe(environment, preset, care)
    group = _batched(environment, preset, {0: 0, 1: 1}, care)
    try:
        shown = group.reset()
        random = np.random.default_rng(0)
        actions = [some_action(group.spec, tuple(array[row] for array in shown.observations), random) for row in (0, 1)]
        shown = group.step(tuple(map(np.stack, zip(*actions, strict=True))))
        return with_medians(group.spec, tuple(array[0] for array in shown.observations))
    finally:
        group.close()


def _batched(environment: str, preset: str, seeds: Mapping[int, int], care: Care) -> BatchedEnvironments:
    assert care.vector != "none"
    if len(care.served) > 1:
        raise UsageError(f"expected --vector none with {len(care.served)} tasks, got {care.vector}")
    if care.asides.film is not None:
        raise UsageError(
            f"expected --vector none with a video, got {care.vector}: environments of a vector are not filmed"
        )
    return BatchedEnvironments(
        vector_maker(environment, preset, care.vector, care.trust, care.vector_threads),
        EnvironmentName.parse(environment),
        list(seeds),
        list(seeds.values()),
        limits=care.limits,
        watchdog=care.watchdog,
        info_keys=care.asides.info_keys,
    )
