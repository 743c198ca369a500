"""A loop of one's own whose actions come from a server: for whoever already owns the environment.

    with seedbed.connect("gpu:7777", spec=seedbed.spec_of(env), token_file="token") as policy:
        action = policy.first(observation)
        action = policy.next(observation, reward, terminated=terminated, truncated=truncated)

Robots, game servers and browsers are not stepped by `seedbed env`; they ask for their next action. What they send is
trained on like everything else. NumPy and gRPC are all that this needs.

Shapes: N environments.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar

from seedbed.common.credentials import ClientCredentials
from seedbed.common.errors import SeedbedError, UsageError
from seedbed.common.specs import EnvironmentSpec
from seedbed.common.timestep import Array, Timesteps
from seedbed.env_client.actor import IndicesChanged, LeaseLost
from seedbed.env_client.environments.filled_up import fill_up, fits_among
from seedbed.env_client.remote_policy import RemotePolicy
from seedbed.env_client.servers import Servers, describe_servers
from seedbed.episode_rows import EpisodeRows
from seedbed.spaces import ActionWriter, ObservationReader

T = TypeVar("T")


class EpisodeLost(SeedbedError):
    """The server no longer knows this episode: reset the environment and call `first`."""

    exit_code = 75
    retryable = True


def connect(
    server: str,
    *,
    spec: EnvironmentSpec,
    num_envs: int | None = None,
    token_file: str | os.PathLike[str] | None = None,
    tls: bool = False,
    tls_ca: str | os.PathLike[str] | None = None,
    tls_cert: str | os.PathLike[str] | None = None,
    tls_key: str | os.PathLike[str] | None = None,
    tls_server_name: str | None = None,
    insecure: bool = False,
    client_id: str | None = None,
    give_up_after_s: float | None = 60.0,
) -> ConnectedPolicy:
    """Asks a server for a place, and waits until it is granted.

    Args:
        server: "HOST:PORT"; replicas as "HOST:PORT,HOST:PORT" or "dns:NAME:PORT", of which one with room is chosen.
        spec: the contract of the environment, see `seedbed.spec_of`; the server's, or that of one of its tasks, must be
            equal, or larger in channels, numbers or actions.
        num_envs: N, to step so many environments in lockstep; None: one.
        token_file, tls, tls_ca, tls_cert, tls_key, tls_server_name, insecure: as in `seedbed env`.
        client_id: stable name of this client, unique in the fleet.
        give_up_after_s: how long the server may be away; None: for ever.

    Raises:
        SpecError: the server serves another environment.
        SeedbedError: it refused for good, or stayed away too long.
        RunFinished: its run is over.
    """
    credentials = ClientCredentials(
        token_file=_path(token_file),
        tls=tls,
        tls_ca=_path(tls_ca),
        tls_cert=_path(tls_cert),
        tls_key=_path(tls_key),
        tls_server_name=tls_server_name,
        insecure=insecure,
    )
    servers = Servers(server, credentials, give_up_after_s)
    name = client_id or f"{socket.gethostname()}-{os.getpid()}-{os.urandom(3).hex()}"
    return ConnectedPolicy(servers, spec, name, num_envs)


class ConnectedPolicy:
    """A server's policy for one environment, or for N in lockstep; see `connect`.

    Of N environments everything has a first dimension N, in and out, as Gymnasium's vectors have it. A row that ended
    begins its next episode with the next call, whatever its reward: that is their default, `AutoresetMode.NEXT_STEP`.
    """

    def __init__(self, servers: Servers, spec: EnvironmentSpec, client_id: str, num_envs: int | None = None) -> None:
        """Connects; see `connect`."""
        self.spec = spec
        self._servers = servers
        self._client_id = client_id
        self._single = num_envs is None
        self._read = ObservationReader(spec)
        self._environment_action = ActionWriter(spec)
        self._num_rows = 1 if num_envs is None else num_envs
        self._episodes = EpisodeRows(num_envs, spec.frames_per_step)
        self._in_episode = False  # one goes on, of N environments any
        # In a notebook a loop runs already in this thread, and another cannot: then a thread of its own turns ours.
        self._thread = ThreadPoolExecutor(1, "seedbed") if _in_event_loop() else None
        self._rows = spec  # as they travel: of a larger environment where the server's tasks need that
        self._policy: RemotePolicy | None = self._open()

    def first(self, observation: Any, mask: Any = None) -> Any:
        """Begins an episode, of N environments one in each.

        Episodes that have not ended are given up: what was done in them is learnt from, and counts for no score.

        Args:
            observation: what a reset showed.
            mask: which actions are allowed, where the contract has a mask and the observation does not carry it.

        Returns:
            The action, in the environment's own layout and units.

        Raises:
            SpecError: the observation or mask is not what the contract says.
            RunFinished: the run is over.
            SeedbedError: the server refused for good, or stayed away too long.
        """
        rows = self._observe(observation, mask, needs_mask=True)
        if self._in_episode:
            self._renew("an episode was given up")
        timesteps = self._episodes.begin(rows)
        while True:  # nothing is lost with a lease on which nothing has happened
            sent = self._exchange(timesteps)
            if sent is not None:
                self._in_episode = True
                return self._environment_action(sent, single=self._single)

    def next(
        self,
        observation: Any,
        reward: Any,
        *,
        terminated: Any = False,
        truncated: Any = False,
        mask: Any = None,
        info: Any = None,
    ) -> Any:
        """Tells what the last action led to, and asks for the next one.

        Args:
            observation: what is seen now; the last one of an episode too.
            reward: raw.
            terminated: the episode has ended, and nothing follows.
            truncated: it was cut, and its last observation has a value.
            mask: see `first`; not needed with the last observation of an episode.
            info: what the environment's `step` gave; numbers in it become metrics when an episode ends.

        Returns:
            The action; None where the episode is over: reset, then call `first`. Of N environments always actions,
            those of rows that are over mean nothing.

        Raises:
            EpisodeLost: the server no longer knows this episode: reset, then call `first`.
            SpecError, RunFinished, SeedbedError: as `first`.
        """
        if not self._in_episode:
            raise UsageError("expected first() before next(): no episode has begun")
        terminated, ended = self._episodes.ends(terminated, truncated)
        rows = self._observe(observation, mask, needs_mask=not ended.all())
        timesteps = self._episodes.go_on(rows, reward, terminated, ended, info)
        over = self._single and bool(ended[0])
        self._in_episode = not over
        sent = self._exchange(timesteps)
        if over:
            return None
        if sent is None:
            self._in_episode = False
            raise EpisodeLost("the server no longer knows this episode: reset the environment and call first()")
        return self._environment_action(sent, single=self._single)

    def close(self) -> None:
        """Says goodbye; the place is free at once. May be called twice."""
        self._leave("finished")
        if self._thread is not None:
            self._thread.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> RemotePolicy:
        def open_policy() -> RemotePolicy:
            served = asyncio.run(describe_servers(self._servers, must_know=False))
            self._rows = fits_among(self.spec, served) or self.spec
            policy = RemotePolicy(
                self._servers,
                client_id=self._client_id,
                specs=(self._rows,),
                groups=[range(self._num_rows)],
                assign_indices=True,
            )
            try:
                policy.connect()
            except BaseException:
                policy.close("not connected")
                raise
            return policy

        return self._call(open_policy)

    def _exchange(self, rows: Timesteps) -> tuple[Array, ...] | None:
        """The answer; None where the lease is gone, and with it what the server knew of these episodes."""
        policy = self._policy
        if policy is None:
            raise UsageError("expected a connection, this one is closed")

        def exchange() -> tuple[Array, ...]:
            policy.send(0, rows)
            return policy.receive(0)

        try:
            return self._call(exchange)
        except LeaseLost:
            return None
        except IndicesChanged:  # of no account here, but a new lease must be asked for by a new policy
            self._renew("other indices")
            return None

    def _renew(self, reason: str) -> None:
        """Gives the place back and asks for another: a lease knows no way from the midst of an episode to a new one."""
        self._in_episode = False
        self._leave(reason)
        self._policy = self._open()

    def _leave(self, reason: str) -> None:
        policy, self._policy = self._policy, None
        if policy is not None:
            policy.interrupt()  # an exchange that Ctrl-C broke off
            self._call(lambda: policy.close(reason))

    def _call(self, function: Callable[[], T]) -> T:
        return function() if self._thread is None else self._thread.submit(function).result()

    def _observe(self, observation: Any, mask: Any, *, needs_mask: bool) -> tuple[Array, ...]:
        if mask is None and needs_mask and self._read.mask_beside:
            raise UsageError("expected mask=: the contract says that the environment shows which actions are allowed")
        rows = self._read(observation, mask, num=None if self._single else self._num_rows)
        return rows if self._rows == self.spec else fill_up(rows, self.spec, self._rows)


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _path(path: str | os.PathLike[str] | None) -> Path | None:
    return None if path is None else Path(path)
