"""Does what the schedule says to the processes of an arena, heals it when it is time, and writes down both."""

from __future__ import annotations

import heapq
import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import psutil

from tests.chaos.arena import Arena, Client
from tests.chaos.history import Writer
from tests.chaos.schedule import Fault, Kind
from tests.chaos.stranger import ALLOWED, INDEX, intrude
from tests.system.proxy import Direction, Proxy

_TURN_S = 0.05
_RETURN_S = 120.0  # some may be frozen, or held up by their proxy
_LATENCY_S = 0.05
_JITTER_S = 0.03
_SLICE_BYTES = 24

_T = TypeVar("_T")
Heal = Callable[[], None]


class Nemesis:
    """Injects faults, one after the other; those that last overlap."""

    def __init__(self, arena: Arena, history: Writer, schedule: Iterator[Fault]) -> None:
        self._arena = arena
        self._history = history
        self._schedule = schedule
        self._healing: list[tuple[float, int, Heal]] = []  # a heap: when, a number that no two share, what
        self._numbers = itertools.count()
        self._strangers: list[threading.Thread] = []
        self._actions: dict[Kind, Callable[[Fault], bool]] = {
            Kind.KILL_CLIENT: self._kill_client,
            Kind.KILL_CLIENT_PAST_GRACE: self._kill_client,
            Kind.FREEZE_CLIENT: partial(self._freeze_client, proxied=False),
            Kind.FREEZE_PAST_GRACE: partial(self._freeze_client, proxied=True),
            Kind.FREEZE_SILENTLY: partial(self._freeze_client, proxied=False),
            Kind.KILL_FRONTEND: self._kill_frontend,
            Kind.FREEZE_FRONTEND: self._freeze_frontend,
            Kind.RESET: partial(self._disconnect, how=Proxy.reset),
            Kind.CUT: partial(self._disconnect, how=Proxy.cut),
            Kind.BLACK_HOLE_TO_SERVER: partial(self._spoil, both=False, change=_swallow),
            Kind.BLACK_HOLE_TO_CLIENT: partial(self._spoil, both=False, change=_swallow),
            Kind.LOSE_ANSWERS: partial(self._spoil, both=False, change=_swallow),
            Kind.LATENCY: partial(self._spoil, both=True, change=_delay),
            Kind.SLICING: partial(self._spoil, both=True, change=_slice),
            Kind.TERMINATE_SERVER: partial(self._restart_server, number=signal.SIGTERM),
            Kind.KILL_SERVER: partial(self._restart_server, number=signal.SIGKILL),
            Kind.STRANGER: self._intrude,
        }

    def run(self, until_s: float, least_faults: int = 0) -> None:
        """Works until a monotonic time, and until there were so many faults, then heals everything.

        Raises:
            ChaosError: the arena cannot go on.
        """
        try:
            self._follow_schedule(until_s, least_faults)
            self._heal(float("inf"))
        finally:
            for stranger in self._strangers:
                stranger.join()

    def _follow_schedule(self, until_s: float, least_faults: int) -> None:
        num_faults, next_s = 0, time.monotonic()
        while (now_s := time.monotonic()) < until_s or num_faults < least_faults:
            self._heal(now_s)
            if now_s >= next_s:
                fault = next(self._schedule)
                num_faults += self._actions[fault.kind](fault)
                next_s = time.monotonic() + fault.pause_s
            time.sleep(_TURN_S)
            self._arena.update()

    def _heal(self, now_s: float) -> None:
        while self._healing and self._healing[0][0] <= now_s:
            heapq.heappop(self._healing)[2]()

    def _heal_later(self, fault: Fault, heal: Heal) -> None:
        heapq.heappush(self._healing, (time.monotonic() + fault.duration_s, next(self._numbers), heal))

    def _note(self, kind: Kind, clients: Sequence[Client], *, healed: bool = False) -> bool:
        """Writes down whom it may cost a lease. Returns True: the fault was injected."""
        environments = [index for client in clients for index in client.indices]
        incarnation = self._arena.incarnation
        if kind is Kind.STRANGER:
            environments = [INDEX]
        self._history.write("fault", name=kind, incarnation=incarnation, environments=environments, healed=healed)
        return True

    def _kill_client(self, fault: Fault) -> bool:
        client = _choose([client for client in self._arena.clients if client.process], fault)
        if client is None:
            return False
        self._arena.kill_client(client)
        self._heal_later(fault, partial(self._arena.start_client, client))
        return self._note(fault.kind, [client])

    def _freeze_client(self, fault: Fault, *, proxied: bool) -> bool:
        """With `proxied` the server is told at once, by a reset, so it does not take its detection time."""
        clients = [client for client in self._arena.clients if client.process and (client.proxy or not proxied)]
        client = _choose(clients, fault)
        if client is None or client.process is None:
            return False
        process = client.process
        process.send_signal(signal.SIGSTOP)
        if proxied and client.proxy is not None:
            client.proxy.reset()

        def thaw() -> None:
            process.send_signal(signal.SIGCONT)
            self._note(fault.kind, [client], healed=True)

        self._heal_later(fault, thaw)
        return self._note(fault.kind, [client])

    def _kill_frontend(self, fault: Fault) -> bool:
        frontend = _choose(self._arena.frontends(), fault)
        if frontend is None:
            return False
        frontend.kill()
        return self._note(fault.kind, self._arena.clients)

    def _freeze_frontend(self, fault: Fault) -> bool:
        frontend = _choose(self._arena.frontends(), fault)
        if frontend is None:
            return False
        frontend.suspend()

        def thaw() -> None:
            try:
                frontend.resume()
            except psutil.NoSuchProcess:  # killed meanwhile
                return
            self._note(fault.kind, self._arena.clients, healed=True)

        self._heal_later(fault, thaw)
        return self._note(fault.kind, self._arena.clients)

    def _disconnect(self, fault: Fault, how: Callable[[Proxy], None]) -> bool:
        client, proxy = self._choose_proxy(fault)
        how(proxy)
        return self._note(fault.kind, [client])

    def _spoil(self, fault: Fault, *, both: bool, change: Callable[[Direction, bool], None]) -> bool:
        """Changes the directions of a proxy for a while."""
        client, proxy = self._choose_proxy(fault)
        directions = [proxy.to_server, proxy.to_client]
        if not both:
            directions = [proxy.to_server if fault.kind is Kind.BLACK_HOLE_TO_SERVER else proxy.to_client]
        for direction in directions:
            change(direction, True)

        def heal() -> None:
            if fault.kind is Kind.LOSE_ANSWERS:
                proxy.reset()
            for direction in directions:
                change(direction, False)
            self._note(fault.kind, [client], healed=True)

        self._heal_later(fault, heal)
        return self._note(fault.kind, [client])

    def _restart_server(self, fault: Fault, number: signal.Signals) -> bool:
        self._note(fault.kind, [])  # every lease is lost; the first one of the next incarnation needs no excuse
        self._arena.end_server(number)
        self._arena.start_server()
        half = sum(len(client.indices) for client in self._arena.clients) // 2
        what = f"{half} environments to find the restarted server"  # the next fault must have somebody to hit

        def found() -> bool:
            self._heal(time.monotonic())  # most of them may be killed, frozen or cut off
            return self._arena.live >= half

        self._arena.wait_for(found, what, _RETURN_S)
        return True

    def _intrude(self, fault: Fault) -> bool:
        """In a thread: a frozen frontend does not answer, and the schedule goes on."""
        name = list(ALLOWED)[len(self._strangers) % len(ALLOWED)]
        seed = int(fault.victim * 2**32)

        def run() -> None:
            self._history.write(
                "stranger", name=name, status=intrude(self._arena.address, self._arena.environment, name, seed)
            )

        stranger = threading.Thread(target=run, name="stranger")
        stranger.start()
        self._strangers.append(stranger)
        return self._note(fault.kind, [])

    def _choose_proxy(self, fault: Fault) -> tuple[Client, Proxy]:
        proxied = [(client, client.proxy) for client in self._arena.clients if client.proxy is not None]
        return proxied[int(fault.victim * len(proxied))]


def _choose(candidates: Sequence[_T], fault: Fault) -> _T | None:
    return candidates[int(fault.victim * len(candidates))] if candidates else None


def _swallow(direction: Direction, on: bool) -> None:
    direction.black_hole = on


def _delay(direction: Direction, on: bool) -> None:
    direction.latency_s, direction.jitter_s = (_LATENCY_S, _JITTER_S) if on else (0.0, 0.0)


def _slice(direction: Direction, on: bool) -> None:
    direction.slice_bytes = _SLICE_BYTES if on else None
