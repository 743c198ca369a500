"""Environments built from a name, as far as they are trusted: E of them as rows, or one for a look at its spec."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from seedbed.common.environment_name import EnvironmentName
from seedbed.common.errors import BrokenError, SeedbedError, SpecError
from seedbed.common.image_layout import image_layout
from seedbed.common.plugins import NOTHING_TYPED, Trust
from seedbed.common.specs import EnvironmentSpec
from seedbed.env_client.environments.filled_up import FilledUp, fits_among
from seedbed.env_client.environments.images import with_medians
from seedbed.env_client.environments.interface import Asides, Environment, Limits, Row
from seedbed.env_client.environments.isolated import EnvironmentProcessError, IsolatedEnvironment
from seedbed.env_client.environments.isolated_process import Recipe
from seedbed.env_client.environments.making import told
from seedbed.env_client.environments.random_actions import some_action
from seedbed.env_client.environments.registry import Builder, builder, environment_seed, is_ours
from seedbed.env_client.environments.rows import Environments
from seedbed.env_client.environments.step_watchdog import Watchdog
from seedbed.env_client.environments.supervised import Supervised
from seedbed.env_client.environments.vectors import Kind

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Care:
    """How much environments are trusted.

    Attributes:
        trust: what may be imported for their names.
        isolate: each in a process of its own.
        asides: what they show beside the contract.
        limits: how long each may take.
        watchdog: told when environments work.
        vector: a group is stepped by one call, see `vectors.py`; "none": one environment after another.
        vector_threads: of vectors that have threads.
        served: specs that a server lists: rows of an environment among them are filled up to its one.
    """

    trust: Trust = NOTHING_TYPED
    isolate: bool = False
    asides: Asides = field(default_factory=Asides)
    limits: Limits = field(default_factory=Limits)
    watchdog: Watchdog = field(default_factory=Watchdog)
    vector: Kind | Literal["none"] = "none"
    vector_threads: int = 1
    served: tuple[EnvironmentSpec, ...] = ()


def make_environments(
    environment: str, preset: str, indices: Sequence[int], run_seed: int, care: Care | None = None
) -> Environments:
    """Builds one environment for each index.

    Args:
        environment: its name with all that is asked for; see `registry.py`.
        preset: of Atari preprocessing; environments without presets ignore it.
        indices: stable indices, unique in the fleet. At least one.
        run_seed: with an index it decides an environment's seed.
        care: how much they are trusted.

    Raises:
        SpecError: unknown id or preset, an unsupported space, or keyword arguments that it does not take.
        UsageError: the id would import a module, and may not.
        MissingExtraError: a package that the environment needs is not installed.
    """
    care = care or Care()
    build = careful_builder(environment, preset, care)

    def seat(index: int) -> Supervised:
        def build_again(rebuilt: int) -> Environment:
            return build(index, environment_seed(run_seed, index, rebuilt))

        return Supervised(index, build_again, limits=care.limits, watchdog=care.watchdog)

    environments = Environments([seat(index) for index in indices])
    seeds = {index: environment_seed(run_seed, index) for index in indices}
    _log.info("%s, seed of each environment index: %s", environments.spec.environment, seeds)
    return environments


def describe(environment: str, preset: str, care: Care | None = None) -> EnvironmentSpec:
    """The spec of an environment, found out by building one and, of somebody else's and of images, by looking at it.

    Raises:
        SpecError, UsageError, MissingExtraError: as in `make_environments`, or it shows something else than it says.
        BrokenError: it is isolated, and its process died or hung.
    """
    care = replace(care or Care(), asides=Asides())
    build = careful_builder(environment, preset, care)
    seat = Supervised(0, lambda _: build(0, 0), limits=care.limits, watchdog=care.watchdog)
    assert seat.environment is not None
    try:
        if is_ours(environment) and not any(map(image_layout, seat.environment.spec.observations)):
            return seat.environment.spec
        return with_medians(seat.environment.spec, _try_out(seat.environment))
    except EnvironmentProcessError as error:
        raise BrokenError(f"cannot build {environment}: {error}") from error
    except SeedbedError:
        raise
    except (Exception, SystemExit) as fault:
        _log.debug("%s failed", environment, exc_info=True)
        raise SpecError(f"{environment}: its first reset or step raised {told(fault)}") from fault
    finally:
        seat.close()


def _try_out(environment: Environment) -> Row:
    """What is shown after a reset and one step; the environment looks at it itself, too."""
    spec = environment.spec
    row = tuple(np.zeros(array.shape, array.numpy_dtype) for array in spec.observations)
    environment.reset(row)
    environment.step(some_action(spec, row, np.random.default_rng(0)), row)
    return row


def careful_builder(environment: str, preset: str, care: Care) -> Builder:
    """What builds the environments of a name, as far as they are trusted, with rows as the server wants them."""
    build = _careful_builder(environment, preset, care)
    if not care.served:
        return build

    def build_filled_up(index: int, seed: int) -> Environment:
        made = build(index, seed)
        like = fits_among(made.spec, care.served)
        return made if like is None else FilledUp(made, like)

    return build_filled_up


def _careful_builder(environment: str, preset: str, care: Care) -> Builder:
    trust = care.trust
    if not care.isolate:
        return builder(environment, preset, trust, care.asides)

    def build(index: int, seed: int) -> Environment:
        recipe = Recipe(
            environment_id=environment,
            preset=preset,
            index=index,
            seed=seed,
            allow_import=trust.covers(EnvironmentName.parse(environment).id),
            installed=trust.installed,
            asides=dataclasses.asdict(care.asides),
            import_from=None if trust.start_directory is None else str(trust.start_directory),
        )
        return IsolatedEnvironment(recipe, care.limits)

    return build
