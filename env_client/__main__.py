"""`seedbed env`: step environments, ask a server for their actions."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from seedbed.common.environment_name import EnvironmentName
from seedbed.common.errors import SpecError, UsageError
from seedbed.common.image_layout import cost_remark
from seedbed.common.logs import run_main, setup_logging
from seedbed.common.options import parse
from seedbed.common.plugins import WIRE, is_module
from seedbed.common.report import report
from seedbed.common.specs import EnvironmentSpec
from seedbed.common.stop_signals import URGENT, on_stop
from seedbed.env_client.actor import IndicesChanged, RunFinished, Stopped, run_actor
from seedbed.env_client.config import EnvConfig
from seedbed.env_client.environments.building import Care
from seedbed.env_client.environments.groups import describe, make_group
from seedbed.env_client.environments.interface import Asides, Group, Limits
from seedbed.env_client.remote_policy import RemotePolicy
from seedbed.env_client.servers import Servers, describe_servers

_log = logging.getLogger(__name__)

_LEAVE_S = 5.0
"""How long a client may take to leave when whoever started it is gone."""


def main(argv: Sequence[str]) -> int:
    """Runs the client until it is told to stop or the run is finished.

    Args:
        argv: without the program's name.

    Returns:
        0, also after a signal that says stop.

    Raises:
        SeedbedError: wrong options, an environment that cannot be made, or a server that refused or stayed away.
    """
    config = parse(EnvConfig(), argv, prog="seedbed env", description="Step environments for a policy server.")
    config.validate()
    setup_logging(f"env {config.effective_client_id}")
    if config.describe:
        _print_spec(config)
    else:
        _run(config)
    return 0


def _print_spec(config: EnvConfig) -> None:
    with _printing_elsewhere():
        spec = describe(config.environment.env_name, config.environment.atari_preset, _care(config)).to_json()
    report({"spec": spec})
    print(json.dumps(spec))


@contextlib.contextmanager
def _printing_elsewhere() -> Iterator[None]:
    """What environments print, C libraries included, goes to standard error: the output is for the spec alone."""
    sys.stdout.flush()
    output = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(output, 1)
        os.close(output)


def _care(config: EnvConfig) -> Care:
    limits = Limits(step_s=config.care.step_timeout_s, reset_s=config.care.reset_timeout_s)
    return Care(
        trust=config.trust,
        isolate=config.care.isolate,
        asides=_asides(config),
        limits=limits,
        vector=config.care.vector,
        vector_threads=config.care.vector_threads,
    )


def _asides(config: EnvConfig) -> Asides:
    film = config.film
    return Asides(
        render=config.care.render if film.film is None else "rgb_array",
        info_keys=config.care.info_keys,
        film=None if film.film is None else str(film.film),
        film_episodes=film.film_episodes,
        film_fps=film.film_fps,
    )


def _run(config: EnvConfig) -> None:
    assert config.server is not None
    servers = Servers(config.server, config.credentials, config.give_up_after_s)
    if config.first_index is not None and servers.names.only is None:
        raise UsageError(
            f"expected --first-index with one server, got {servers}: of several each gives its environments indices of "
            "its own, so leave it out"
        )
    _on_signals(lambda: sys.exit(0))  # nothing is leased yet
    if config.exit_with_parent:
        _stop_at_end_of_input()
    care = _care(config)
    if not care.isolate:
        care.watchdog.start(max(care.limits.step_s, care.limits.reset_s))
    choices = _choose_environment(config, servers, care)
    while True:
        with contextlib.suppress(IndicesChanged):  # as if started anew, with a run id of its own
            return _step_for_server(config, servers, choices)


class _Choice(NamedTuple):
    """Which environment to step, and how much it is trusted."""

    environment: str
    preset: str
    care: Care

    def describe(self) -> EnvironmentSpec:
        """What it looks like."""
        return describe(*self)

    def make(self, indices: Sequence[int], run_seed: int) -> Group:
        """One for each stable index."""
        self.check()
        return make_group(self.environment, self.preset, indices, run_seed, self.care)

    def check(self) -> None:
        """What comes over the wire never decides what is imported.

        Raises:
            SpecError: it would.
        """
        if self.care.trust == WIRE:
            _check_harmless(self.environment)


def _choose_environment(config: EnvConfig, servers: Servers, care: Care) -> list[_Choice]:
    """The user's environment or, without one, the server's: of several it will choose one."""
    given = config.environment
    specs = asyncio.run(describe_servers(servers, must_know=given.env is None))
    care = replace(care, served=specs)
    if given.env is not None:
        return [_Choice(given.env_name, given.atari_preset, care)]
    _log.info("the server serves %s", ", ".join(spec.environment for spec in specs))
    choices = [_Choice(spec.environment, spec.preset, replace(care, trust=WIRE)) for spec in specs]
    if len(choices) == 1:
        choices[0].check()
    return choices


def _check_harmless(environment: str) -> None:
    name = EnvironmentName.parse(environment)
    if is_module(name.id):
        raise SpecError(
            f"the server serves {name}, which would import a module: that is never done for a server. If it is meant, "
            f"say --env {name.id} with the same keyword arguments and image size"
        )
    name.check_harmless()


def _step_for_server(config: EnvConfig, servers: Servers, choices: Sequence[_Choice]) -> None:
    groups: list[Group] = []
    if len(choices) > 1:  # which of them, is known when the server has chosen
        specs = choices[0].care.served
    else:
        knows = bool(choices[0].care.served)  # else it learns from this client what its environment shows
        if knows and config.chooses_indices and not config.care.isolate:  # no need to build one only to look at it
            groups += [choices[0].make(indices, config.environment.seed) for indices in config.group_indices]
        specs = (groups[0].spec if groups else choices[0].describe(),)
    if not config.exit_with_parent and (remark := cost_remark(specs[0])) is not None:  # else the server has said it
        _log.warning("%s", remark)
    policy = RemotePolicy(
        servers,
        client_id=config.effective_client_id,
        specs=specs,
        groups=config.group_indices,
        assign_indices=not config.chooses_indices,
    )
    stopping = False

    def stop() -> None:
        nonlocal stopping
        stopping = True
        policy.interrupt()

    _on_signals(stop)
    try:
        with contextlib.suppress(RunFinished, Stopped):
            granted = policy.connect()
            if not groups:  # the server may have chosen the indices
                pairs = zip(policy.tasks, granted, strict=True)
                groups += [choices[task].make(indices, config.environment.seed) for task, indices in pairs]
            run_actor(policy, groups, stop=lambda: stopping)
    finally:
        policy.close("told to stop" if stopping else "finished")
        for environments in groups:
            environments.close()


def _stop_at_end_of_input() -> None:
    """Sends this process SIGTERM when its standard input closes, however the process at the other end died."""

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        if sys.platform == "win32":
            signal.raise_signal(signal.SIGTERM)  # kill would end it at once, whatever it has caught
        else:
            os.kill(os.getpid(), signal.SIGTERM)  # the main thread gets it, also where it waits
        time.sleep(_LEAVE_S)
        os._exit(0)  # an environment is busy, and nobody waits for it

    threading.Thread(target=wait, name="parent watch", daemon=True).start()


def _on_signals(action: Callable[[], None]) -> None:
    """Calls `action` on the first signal that says stop; an urgent one after it ends the process the hard way."""

    def handle(_signal: int, _frame: object) -> None:
        for number in URGENT:
            signal.signal(number, signal.SIG_DFL)
        action()

    on_stop(handle)


if __name__ == "__main__":
    sys.exit(run_main(main))
