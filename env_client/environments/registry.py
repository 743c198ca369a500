"""How a name becomes an environment.

Ids: "ALE/Pong-v5" (or "Pong"), "seedbed/Catch-v0" and the other tasks (`tasks.py`, `space_tasks.py`,
`memory_tasks.py`, `detour.py`), "seedbed/Synthetic-v0", "seedbed/Echo-v0" and its kin (`echo.py`), everything that
Gymnasium has registered, and what somebody else's module makes: "my_pkg:make". Options of the built-in ones follow
after commas, "seedbed/MemoryChain-v0,length=12", or are keyword arguments as for all others:
`seedbed.common.environment_name` has the form.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from seedbed.common.environment_name import EnvironmentName
from seedbed.common.errors import SpecError
from seedbed.common.plugins import NOTHING_TYPED, Trust, check_trusted, installed
from seedbed.env_client.environments.detour import Detour, DetourOptions
from seedbed.env_client.environments.echo import ECHO_SPECS, Echo, EchoOptions
from seedbed.env_client.environments.interface import Asides, Environment
from seedbed.env_client.environments.memory_tasks import IMaze, IMazeOptions, MetaFetch, MetaFetchOptions
from seedbed.env_client.environments.space_tasks import (
    CatchDict,
    CatchMasked,
    CatchMaskedOptions,
    Lights,
    LightsOptions,
    Reach,
)
from seedbed.env_client.environments.synthetic import Synthetic, SyntheticOptions
from seedbed.env_client.environments.tasks import Catch, CatchOptions, MemoryChain, MemoryChainOptions

Builder = Callable[[int, int], Environment]
"""(stable index, seed) -> environment."""

_OptionsT = TypeVar("_OptionsT")

_LOCAL_OPTIONS = ("step_ms", "jitter_ms", "check", "strict", "fault", "fault_index", "fault_at")
"""Options that do not change what the environment looks like: left out of the spec's id."""


def environment_seed(run_seed: int, index: int, rebuilt: int = 0) -> int:
    """The seed of one environment: a 32-bit number, the same wherever and whenever the environment runs.

    Args:
        run_seed, index: of the run, and of the environment in the fleet.
        rebuilt: how many of this index broke before; with the same seed the next might go the same way.
    """
    entropy = [run_seed, index, rebuilt] if rebuilt else [run_seed, index]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def builder(environment: str, preset: str, trust: Trust = NOTHING_TYPED, asides: Asides | None = None) -> Builder:
    """What builds the environments of a name.

    Args:
        environment: an id with all that is asked for, as in the contract.
        preset: of Atari preprocessing; environments without presets ignore it.
        trust: what may be imported for it.
        asides: what they show beside the contract.

    Raises (here or when called):
        SpecError: unknown id or preset, an unsupported space, or keyword arguments that it does not take.
        UsageError: the id would import a module, and may not.
        MissingExtraError: a package that the environment needs is not installed.
    """
    name = EnvironmentName.parse(environment)
    check_trusted("--env", name.id, trust)
    asides = asides or Asides()
    build = _builder(name, preset, trust, asides)
    if name.around("") != "":
        build = _adapted(build, name)
    return build if asides.film is None else _filmed(build, asides)


def is_ours(environment: str) -> bool:
    """Whether the environments of a name are seedbed's own code, which shows what it says that it shows."""
    return environment.startswith(("seedbed/", "ALE/"))


def _adapted(build: Builder, name: EnvironmentName) -> Builder:
    from seedbed.env_client.environments.adapted import Adapted

    return lambda index, seed: Adapted(build(index, seed), name)


def _filmed(build: Builder, asides: Asides) -> Builder:
    """Environment 0 is the one that is filmed."""
    from seedbed.env_client.environments.filmed import Filmed

    def build_filmed(index: int, seed: int) -> Environment:
        environment = build(index, seed)
        return environment if index else Filmed(environment, asides)

    return build_filmed


def _builder(name: EnvironmentName, preset: str, trust: Trust, asides: Asides) -> Builder:
    render = asides.render
    if name.id.startswith("seedbed/"):
        if render == "human":
            raise SpecError(f"{name.id} has no picture: expected --render none, got {render}")
        return _built_in(name)
    # Imported late: a client pays only for what it steps.
    if name.id.startswith("ALE/") or name.id.isalnum():  # Gymnasium's own ids all carry a version
        from seedbed.env_client.environments.ale import game_id, is_game
        from seedbed.env_client.environments.atari import AtariEnvironment

        full_id = name.id if "/" in name.id else game_id(name.id)
        plugged_in = trust.installed and name.id in installed("environments")
        if "/" not in name.id and not plugged_in and not is_game(full_id):
            _expect_game(name.id)
        if not plugged_in or is_game(full_id):
            return lambda _, seed: AtariEnvironment(full_id, preset, seed, name.kwargs, render)
    from seedbed.env_client.environments.gymnasium import GymnasiumEnvironment
    from seedbed.env_client.environments.making import make

    return lambda _, seed: GymnasiumEnvironment(*make(name.id, name.kwargs, trust, render), seed, asides.info_keys)


def _expect_game(word: str) -> None:
    """Refuses a word that is no game where Gymnasium has environments of that name, or a module may be meant.

    Raises:
        SpecError: says what to type.
    """
    with contextlib.suppress(ImportError):
        import gymnasium

        versions = [key for key in gymnasium.registry if key.rpartition("-v")[0].lower() == word.lower()]
        if versions:
            newest = max(versions, key=lambda key: int(key.rpartition("-v")[2]))
            raise SpecError(f"unknown environment {word!r}: did you mean {newest}?")
    with contextlib.suppress(ImportError, ValueError):
        if importlib.util.find_spec(word) is not None or Path(f"{word}.py").exists():
            raise SpecError(f"unknown environment {word!r}: one that a module makes is {word}:NAME")


def _built_in(wanted: EnvironmentName) -> Builder:
    name, *given = wanted.id.split(",")
    given += [f"{key}={value}" for key, value in wanted.kwargs.items()]
    plain: dict[str, Callable[[str, int], Environment]] = {
        "seedbed/CatchDict-v0": CatchDict,
        "seedbed/Reach-v0": Reach,
    }
    if name in plain and not given:
        return lambda _, seed: plain[name](name, seed)
    with_options: dict[str, tuple[Any, Callable[[str, Any, int], Environment]]] = {
        "seedbed/Catch-v0": (CatchOptions(), Catch),
        "seedbed/CatchMasked-v0": (CatchMaskedOptions(), CatchMasked),
        "seedbed/Detour-v0": (DetourOptions(), Detour),
        "seedbed/IMaze-v0": (IMazeOptions(), IMaze),
        "seedbed/Lights-v0": (LightsOptions(), Lights),
        "seedbed/MemoryChain-v0": (MemoryChainOptions(), MemoryChain),
        "seedbed/MetaFetch-v0": (MetaFetchOptions(), MetaFetch),
        "seedbed/Synthetic-v0": (SyntheticOptions(), Synthetic),
    }
    if name in with_options:
        defaults, task = with_options[name]
        full_id, options = _read_options(name, given, defaults)
        return lambda _, seed: task(full_id, options, seed)
    if name in ECHO_SPECS:
        _, echo = _read_options(name, given, EchoOptions())
        return lambda index, seed: Echo(name, echo, index, seed)
    known = [*plain, *with_options, *ECHO_SPECS]
    near = difflib.get_close_matches(name, known, n=1) or known
    raise SpecError(f"unknown environment {wanted.id!r}: did you mean {', '.join(near)}?")


def _read_options(name: str, given: Sequence[str], defaults: _OptionsT) -> tuple[str, _OptionsT]:
    """Reads `key=value` parts.

    Returns:
        The id with the options that belong to the contract, sorted, without those that have their default; all options.

    Raises:
        SpecError: an unknown key, or a value of the wrong kind.
    """
    kinds = {field.name: type(getattr(defaults, field.name)) for field in dataclasses.fields(defaults)}  # type: ignore[arg-type]
    values = {}
    for part in given:
        key, _, text = part.partition("=")
        if key not in kinds:
            raise SpecError(f"{name}: expected options out of {', '.join(kinds)}, got {part!r}")
        try:
            values[key] = kinds[key](text)
        except ValueError:
            raise SpecError(f"{name}: expected {key} to be of type {kinds[key].__name__}, got {text!r}") from None
    contract = [
        f",{key}={values[key]}"
        for key in sorted(values)
        if key not in _LOCAL_OPTIONS and values[key] != getattr(defaults, key)
    ]
    return name + "".join(contract), dataclasses.replace(defaults, **values)  # type: ignore[type-var]
