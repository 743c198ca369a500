"""Environment clients as tasks of a Ray cluster: one each, anywhere, started again wherever there is room.

Tasks and not actors: when a node is lost Ray starts its tasks elsewhere at once, actors only when the node is declared
dead. A client runs in the process of its task, so nothing is left when that ends.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
import ray.exceptions

from seedbed.common.counting import count
from seedbed.common.errors import BrokenError, ConfigError, UnavailableError
from seedbed.common.restarts import RestartBudget
from seedbed.env_client.config import EnvConfig
from seedbed.env_client.fleets.carried import Outcome, run_client

_log = logging.getLogger(__name__)

_RETRY = 75  # see common/errors.py
_MAX_RESTARTS, _WINDOW_S = 10, 600.0
_MAX_WAIT_S = 30.0  # all restarts that there may be fit into the window
_POLL_S = 1.0
_LEAVE_S = 10.0
"""For clients to say goodbye. Those that do not are ended with the job; their places are free after the grace time."""


class RayFleet:
    """Clients on a Ray cluster; use it as a context, which ends them.

    Args:
        address: of the cluster, as `ray.init` takes it.
        clients: options of each.
        files: of their credentials, see `read_files`.
        cpus: reserved for each client.
    """

    def __init__(self, address: str, clients: Sequence[EnvConfig], files: Mapping[str, bytes], cpus: float) -> None:
        self._address = address
        self._clients = clients
        self._files = dict(files)
        self._cpus = cpus
        self._running: dict[Any, int] = {}
        self._due_s: dict[int, float] = {}  # when a client that ended is started again
        self._budgets = [RestartBudget(_MAX_RESTARTS, _WINDOW_S) for _ in clients]

    def run(self, stopping: Callable[[], bool]) -> None:
        """Runs until the run is finished, so that all clients have ended, or until told to stop.

        Raises:
            BrokenError: a client ends again and again.
            SeedbedError: one ended for a reason that another start would not mend.
        """
        self._tell_room()
        self._due_s = dict.fromkeys(range(len(self._clients)), 0.0)
        task = ray.remote(_client_task).options(
            name="seedbed env", num_cpus=self._cpus, max_retries=-1, scheduling_strategy="SPREAD"
        )
        files = ray.put(self._files)
        while (self._running or self._due_s) and not stopping():
            now_s = time.monotonic()
            for number in [number for number, due_s in self._due_s.items() if due_s <= now_s]:
                del self._due_s[number]
                self._running[task.remote(self._clients[number], files)] = number
            self._collect()

    def _collect(self) -> None:
        """Looks for clients that have ended, for a second."""
        if not self._running:
            time.sleep(_POLL_S)
            return
        ended, _ = ray.wait(list(self._running), timeout=_POLL_S)
        for reference in ended:
            number = self._running.pop(reference)
            outcome = _outcome_of(reference)
            if outcome.exit_code == 0:
                continue
            if outcome.exit_code != _RETRY:
                raise outcome.raised
            self._due_s[number] = time.monotonic() + self._wait_s(number, outcome)

    def _wait_s(self, number: int, outcome: Outcome) -> float:
        restarts = self._budgets[number].spend(time.monotonic())
        name = self._clients[number].client_id
        if restarts is None:
            often = f"{_MAX_RESTARTS} times within {_WINDOW_S / 60:g} minutes"
            raise BrokenError(f"client {name} ended {often}, at last with: {outcome.text}")
        wait_s = min(2.0 ** (restarts - 1), _MAX_WAIT_S)
        _log.warning("client %s ended: %s; starting it again in %g s", name, outcome.text, wait_s)
        return wait_s

    def _tell_room(self) -> None:
        room, wanted = ray.cluster_resources().get("CPU", 0.0), self._cpus * len(self._clients)
        nodes = sum(bool(node["Alive"]) for node in ray.nodes())
        text = f"{count(len(self._clients), 'client')} on {count(nodes, 'node')} with {room:g} cores"
        if wanted > room:
            _log.warning("%s: they need %g, some wait until there are more (or lower --cpus-per-client)", text, wanted)
        else:
            _log.info("%s", text)

    def __enter__(self) -> RayFleet:
        try:
            ray.init(address=self._address, log_to_driver=True, logging_level=logging.WARNING)
        except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RaySystemError) as error:
            text = " ".join(str(error).split())
            raise UnavailableError(f"expected a Ray cluster at --ray {self._address}: {text}") from None
        return self

    def __exit__(self, *_: object) -> None:
        for reference in self._running:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.cancel(reference, recursive=False)
        with contextlib.suppress(ray.exceptions.RayError):
            ray.wait(list(self._running), num_returns=len(self._running), timeout=_LEAVE_S) if self._running else None
        ray.shutdown()


def _outcome_of(reference: Any) -> Outcome:
    """Of a task that has ended.

    Raises:
        ConfigError: a node has no seedbed, or another one.
    """
    try:
        outcome: Outcome = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ImportError | AttributeError):
            raise ConfigError(
                f"expected every node of the cluster to have this version of seedbed: one says {error.cause}"
            ) from None
        raise
    except ray.exceptions.RayError as error:  # of a worker or node that Ray itself has given up
        return Outcome(_RETRY, BrokenError.__name__, " ".join(str(error).split()))
    return outcome


def _client_task(config: EnvConfig, files: Mapping[str, bytes]) -> Outcome:
    """The task."""
    return run_client(config, files)
