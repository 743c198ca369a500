"""Gymnasium environments made from names: registered ids, MODULE:NAME, and what installed distributions bring.

Whatever a factory or a class of somebody else raises becomes one line that says where: a wrong keyword argument is
their user's mistake, no defect of ours.
"""

from __future__ import annotations

import contextlib
import copy
import difflib
import logging
import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from seedbed.common import plugins
from seedbed.common.environment_name import canonical
from seedbed.common.errors import MissingExtraError, SeedbedError, SpecError, UsageError
from seedbed.common.extras import missing_extra
from seedbed.common.plugins import Trust, import_named, installed, is_module

_log = logging.getLogger(__name__)

_GROUP = "gymnasium.envs"
"""Entry points that older versions of Gymnasium called when they were imported; packages still bring them."""
_OURS = ("<frozen ", *(str(Path(module).parent) + os.sep for module in (__file__, plugins.__file__)))
_NO_NAMESPACE = "__root__"
_called: set[tuple[str, str]] = set()
"""Entry points that have been called in this process."""
_PARTS = ("observation_space", "action_space", "reset", "step")


def make(environment_id: str, kwargs: Mapping[str, Any], trust: Trust, render: str = "none") -> tuple[Any, str]:
    """Makes an environment.

    Args:
        environment_id: an id of Gymnasium's, MODULE:NAME, or the name of an entry point of `seedbed.environments`.
        kwargs: of what makes it.
        trust: what may be imported for the id.
        render: Gymnasium's `render_mode` for a person who watches; "none" leaves it to `kwargs`. An environment
            without "rgb_array" is made all the same.

    Returns:
        The environment; its name in the contract.

    Raises:
        UsageError: the module may not be imported, or cannot be.
        MissingExtraError: Gymnasium, or what this environment needs beside it, is not installed.
        SpecError: unknown id, or it cannot be made.
    """
    given = kwargs if render == "none" else {**kwargs, "render_mode": render}
    make_it = _make_of_module if is_module(environment_id) else _make_registered
    try:
        env, name = make_it(environment_id, given, trust)
    except (SpecError, MissingExtraError):
        if render != "rgb_array":
            raise
        env, name = make_it(environment_id, kwargs, trust)  # it takes no render mode, or has not this one
    if missing := [part for part in _PARTS if not hasattr(env, part)]:
        raise SpecError(
            f"{environment_id}: expected a Gymnasium environment, got {env!r:.100}, which has no {', '.join(missing)}"
        )
    return env, name + canonical(kwargs)


def make_vector(
    environment_id: str, num_envs: int, kwargs: Mapping[str, Any], trust: Trust, max_steps: int | None = None
) -> tuple[Any, str]:
    """Makes several environments that are stepped by one call.

    Args:
        environment_id: an id of Gymnasium's: its own vector where it has one, else one after another behind the same
            interface; or MODULE:NAME, which is called with `num_envs` and gives a `gymnasium.vector.VectorEnv`.
        num_envs: how many.
        kwargs, trust: as for `make`.
        max_steps: steps after which an episode is truncated, where Gymnasium knows the id; None: as registered.

    Returns:
        The vector; its name in the contract, without `max_steps`.

    Raises:
        UsageError: as for `make`, and `max_steps` for MODULE:NAME, whose vector begins episodes by itself.
        MissingExtraError, SpecError: as for `make`.
    """
    prefix, wanted = "", environment_id
    if is_module(environment_id):
        found: Any = import_named("--env", environment_id, trust)
        prefix, wanted = environment_id.split(":", 1)
        for part in wanted.split("."):
            found = getattr(found, part, None)
        if callable(found):
            if max_steps is not None:
                raise UsageError(
                    f"expected no --max-episode-steps with --vector gymnasium --env {environment_id}, got {max_steps}: "
                    "only what makes the vector can end its episodes (gymnasium.wrappers.TimeLimit); or --vector none"
                )
            env = _call(environment_id, found, {**kwargs, "num_envs": num_envs})
            return _checked_vector(environment_id, env, num_envs), environment_id + canonical(kwargs)
        prefix += ":"
    gymnasium = _gymnasium(environment_id)
    if trust.installed and wanted not in gymnasium.registry:
        _register_installed(wanted, gymnasium.registry)
    try:
        spec = copy.deepcopy(gymnasium.spec(wanted))
        spec.disable_env_checker = True
        mode = "sync" if spec.vector_entry_point is None else "vector_entry_point"
        make_it = partial(gymnasium.make_vec, spec, num_envs=num_envs, vectorization_mode=mode)
        env = _call(environment_id, make_it, _limited(kwargs, spec, max_steps))
    except gymnasium.error.DependencyNotInstalled as error:
        raise MissingExtraError(f"{environment_id}: {error}") from error
    except gymnasium.error.Error as error:
        raise SpecError(f"cannot make a vector of {environment_id!r}: {error}") from error
    return _checked_vector(environment_id, env, num_envs), prefix + spec.id + canonical(kwargs)


def _limited(kwargs: Mapping[str, Any], spec: Any, max_steps: int | None) -> Mapping[str, Any]:
    """Keyword arguments with the smaller of two limits: `max_steps`, and that of the arguments or of the registry."""
    if max_steps is None:
        return kwargs
    own = kwargs.get("max_episode_steps", spec.max_episode_steps)
    return {**kwargs, "max_episode_steps": max_steps if own in (None, -1) else min(own, max_steps)}


def _checked_vector(name: str, env: Any, num_envs: int) -> Any:
    parts = ("single_observation_space", "single_action_space", "reset", "step")
    if missing := [part for part in parts if not hasattr(env, part)]:
        raise SpecError(
            f"{name}: expected a gymnasium.vector.VectorEnv, got {env!r:.100}, without {', '.join(missing)}"
        )
    if getattr(env, "num_envs", None) != num_envs:
        raise SpecError(f"{name}: expected a vector of {num_envs}, got {getattr(env, 'num_envs', None)} environments")
    return env


def told(error: BaseException) -> str:
    """What an error of somebody else's code says, and where in their files it was raised."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_OURS)]
    mine = [frame for frame in frames if "site-packages" not in frame.filename] or frames
    return f"{text} ({mine[-1].filename}, line {mine[-1].lineno})" if mine else text


def _make_of_module(name: str, kwargs: Mapping[str, Any], trust: Trust) -> tuple[Any, str]:
    """Calls a function or a class of a module, or makes an id that the module has registered."""
    module = import_named("--env", name, trust)
    attribute = name.partition(":")[2]
    found: Any = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if callable(found):
        return _call(name, found, kwargs), name
    gymnasium = _gymnasium(name)
    if attribute not in gymnasium.registry and "-v" not in attribute:
        place = getattr(module, "__file__", None) or module.__name__
        near = difflib.get_close_matches(attribute, [key for key in vars(module) if not key.startswith("_")], n=1)
        hint = f", did you mean {near[0]}?" if near else ""
        raise SpecError(
            f"--env {name}: expected {attribute!r} to be a function or a class in {place}, or an id that it registers "
            f"with Gymnasium; it is neither{hint}"
        )
    env = _call_gymnasium(gymnasium, attribute, name, kwargs)
    return env, f"{name.partition(':')[0]}:{env.spec.id}"


def _make_registered(environment_id: str, kwargs: Mapping[str, Any], trust: Trust) -> tuple[Any, str]:
    gymnasium = _gymnasium(environment_id)
    unknown = gymnasium.error.NamespaceNotFound, gymnasium.error.NameNotFound
    try:
        gymnasium.spec(environment_id)
    except unknown:
        if trust.installed and (brought := installed("environments").get(environment_id)) is not None:
            everything = Trust(allow_import=True)  # an installed distribution named the module
            return make(brought.target, kwargs, everything)[0], environment_id
        if trust.installed:
            _register_installed(environment_id, gymnasium.registry)
    except gymnasium.error.Error:
        pass  # a version that is not there, and the like: making it says so
    env = _call_gymnasium(gymnasium, environment_id, environment_id, kwargs)
    return env, env.spec.id


def _register_installed(environment_id: str, registry: Mapping[str, Any]) -> None:
    """Calls entry points of `gymnasium.envs`, each in its namespace, as Gymnasium once did, until the id is there."""
    from importlib.metadata import entry_points

    wanted = environment_id.rpartition("/")[0]
    for point in sorted(entry_points(group=_GROUP), key=lambda point: point.name != wanted):
        if (point.name, point.value) in _called or (not wanted and point.name != _NO_NAMESPACE):
            continue
        _called.add((point.name, point.value))
        try:
            register = point.load()
            with _namespace(None if point.name == _NO_NAMESPACE else point.name):
                register()
        except Exception as error:  # another package than the one that is wanted may be the broken one
            _log.warning("the entry point %s = %s of %s failed: %s", point.name, point.value, _GROUP, told(error))
        if environment_id in registry:
            return


@contextlib.contextmanager
def _namespace(name: str | None) -> Iterator[None]:
    """Ids that are registered now get this namespace. Gymnasium's own context keeps it when something is raised."""
    from gymnasium.envs import registration

    before, registration.current_namespace = registration.current_namespace, name
    try:
        yield
    finally:
        registration.current_namespace = before


def _gymnasium(environment_id: str) -> Any:
    try:
        import gymnasium
    except ImportError as error:
        raise missing_extra("env", f"{environment_id} needs it ({error})") from error
    return gymnasium


def _call_gymnasium(gymnasium: Any, environment_id: str, name: str, kwargs: Mapping[str, Any]) -> Any:
    # The checker warns about style and costs time in every step.
    make_it = partial(gymnasium.make, environment_id, disable_env_checker=True)
    try:
        return _call(name, make_it, kwargs)
    except gymnasium.error.DependencyNotInstalled as error:
        raise MissingExtraError(f"{name}: {error}") from error
    except gymnasium.error.Error as error:
        near = difflib.get_close_matches(environment_id, gymnasium.registry, n=3)
        hint = (
            f"; did you mean {', '.join(near)}?"
            if near
            else "; one that a package registers when it is imported is PACKAGE:ID, one of your own MODULE:NAME"
        )
        if any(other in str(error) for other in near):
            hint = ""  # Gymnasium has said so
        raise SpecError(f"cannot make {name!r}: {str(error).rstrip('.')}{hint}") from error


def _call(name: str, factory: Callable[..., Any], kwargs: Mapping[str, Any]) -> Any:
    """Calls it; arguments that it does not take, or refuses, are a mistake of whoever typed them."""
    try:
        return factory(**kwargs)
    except SeedbedError:
        raise
    except ImportError as error:
        raise MissingExtraError(f"{name}: {error}") from error
    except (TypeError, ValueError, KeyError, AssertionError, AttributeError) as error:
        _log.debug("making %s failed", name, exc_info=True)
        given = f" with {canonical(kwargs)}" if kwargs else ""
        raise SpecError(f"cannot make {name!r}{given}: {told(error)}") from error
