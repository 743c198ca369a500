"""`python -m tests.chaos`: faults for a while, recovery, an orderly end, and what the checker says about all of it."""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from seedbed.env_client.environments.echo import ECHO_SPECS
from tests.chaos.arena import Arena, ChaosError
from tests.chaos.checker import Verdict, check
from tests.chaos.history import Writer, nemesis_file, read_nemesis, read_servers
from tests.chaos.nemesis import Nemesis
from tests.chaos.schedule import GRACE_S, Fault, make_schedule

_RECOVERY_S = 20.0

_START_S = 120.0  # until all is well for the first time: many processes begin at once
_STOP_S = 20.0
_NOTICED_S = 10.0  # for the end of a connection to be noticed; a busy machine's, mostly it takes milliseconds
_SLACK_S = 0.2  # between the kill and this program's clock, and two samples
_END_S = 20.0  # of --seconds are kept for recovery and the end, which mostly take less
_MEAN_PAUSE_S = 1.5
_SHOWN_VIOLATIONS = 20


def main(argv: Sequence[str]) -> int:
    """Runs. Returns 0 if nothing was violated, otherwise 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="of the whole run (default: 600)")
    parser.add_argument("--seed", type=int, help="of the schedule (default: a random one, printed)")
    parser.add_argument(
        "--environment",
        choices=ECHO_SPECS,
        help="kind of actions and observations (default: one that the seed chooses)",
    )
    parser.add_argument(
        "--least-faults", type=int, default=0, help="go on until there were so many, however long a busy machine takes"
    )
    parser.add_argument("--pause-s", type=float, default=_MEAN_PAUSE_S, help="mean time between faults")
    parser.add_argument(
        "--recovery-s",
        type=float,
        default=_RECOVERY_S,
        help="for every environment to go on, and every dead slot to be free, after the last fault (default: 20)",
    )
    parser.add_argument(
        "--history", type=Path, default=Path("build/chaos"), help="directory of records and logs, made anew"
    )
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # leaves no process behind either
    seed = random.randrange(2**31) if options.seed is None else options.seed
    shutil.rmtree(options.history, ignore_errors=True)
    options.history.mkdir(parents=True)
    environment = options.environment or random.Random(seed).choice(list(ECHO_SPECS))
    print(f"chaos: seed {seed}, {environment}, {options.seconds:g} s, history in {options.history}", flush=True)
    began_s = time.monotonic()
    with Writer(nemesis_file(options.history)) as history:
        schedule = make_schedule(seed, options.pause_s)
        arena = Arena(options.history, seed, environment)
        until_s = began_s + options.seconds - _END_S
        run(arena, history, schedule, until_s, options.recovery_s, options.least_faults)
    verdict = check(read_servers(options.history), read_nemesis(options.history))
    print(report(verdict, time.monotonic() - began_s))
    if verdict.violations:
        again = f"--seconds {options.seconds:g} --seed {seed} --environment {environment} --pause-s {options.pause_s:g}"
        print(f"again: python -m tests.chaos {again}")
    return 1 if verdict.violations else 0


def run(
    arena: Arena, history: Writer, schedule: Iterator[Fault], until_s: float, recovery_s: float, least_faults: int = 0
) -> None:
    """Faults until a monotonic time, then recovery and an orderly end. What goes wrong goes to the history."""
    try:
        with arena:
            await_recovery(arena, "the start", _START_S)
            Nemesis(arena, history, schedule).run(until_s, least_faults)
            await_recovery(arena, "the last fault", recovery_s)
            abandon(arena, history)
            arena.stop_clients()
            arena.wait_for(lambda: arena.used == 0, "no slot in use after all clients have left", _STOP_S)
            arena.end_server(signal.SIGTERM)
    except ChaosError as error:
        history.write("problem", what=str(error))


def await_recovery(arena: Arena, after: str, within_s: float) -> None:
    """Every environment ends an episode, and slots in use are those of live streams.

    Raises:
        ChaosError: not within that time.
    """
    began_s, before = time.monotonic(), Counter(arena.episodes)
    indices = [index for client in arena.clients for index in client.indices]

    def rest() -> list[int]:
        return [index for index in indices if arena.episodes[index] == before[index]]

    try:
        arena.wait_for(lambda: not rest(), f"progress of every environment after {after}", within_s)
    except ChaosError as error:
        raise ChaosError(f"{error}: none of {rest()}") from None
    what = f"{len(indices)} slots in use and live after {after}"
    left_s = max(1.0, began_s + within_s - time.monotonic())
    arena.wait_for(lambda: arena.live == arena.used == len(indices), what, left_s)
    print(f"all well {time.monotonic() - began_s:.1f} s after {after}", flush=True)


def abandon(arena: Arena, history: Writer) -> None:
    """Kills a client that never comes back: nobody fences its lease or says goodbye, so it must end by itself.

    Raises:
        ChaosError: its slots are not free after its grace time, or were before.
    """
    client, leases = arena.clients[0], arena.leases
    rest = arena.used - len(client.indices)
    history.write(
        "fault",
        name="kill -9 client for good",
        incarnation=arena.incarnation,
        environments=list(client.indices),
        healed=False,
    )
    arena.kill_client(client)
    began_s = time.monotonic()
    arena.wait_for(lambda: arena.live == rest, "a killed client not to be waited for", _NOTICED_S)
    within_s = GRACE_S + _NOTICED_S
    arena.wait_for(lambda: arena.used == rest, "the slots of a client that never comes back to be free", within_s)
    took_s = time.monotonic() - began_s
    if took_s < GRACE_S - _SLACK_S:
        raise ChaosError(
            f"expected a lost lease to be kept for {GRACE_S:g} s, its slots were free after {took_s:.1f} s"
        )
    if not (arena.leases < leases and arena.status()["used_rows"] == rest):
        raise ChaosError(f"{arena.leases} leases of {leases} are left, and Status says {arena.status()}")
    print(f"slots of a client that never came back: free after {took_s:.1f} s", flush=True)


def report(verdict: Verdict, wall_s: float) -> str:
    """For people."""
    lines = [f"{verdict.faults.total()} faults injected in {wall_s:.0f} s"]
    lines += [f"  {number:5}  {name}" for name, number in sorted(verdict.faults.items())]
    lines += [
        f"{verdict.incarnations} starts of the server, {verdict.leases} leases, the account checked "
        f"{verdict.balances} times",
        f"{verdict.steps} steps verified in {verdict.unrolls} unrolls, {verdict.trained} of them to be trained on",
        f"{verdict.episode_steps} actions verified by clients in {verdict.episodes} episodes that ended",
        f"{len(verdict.violations)} violations",
    ]
    lines += [f"  {violation}" for violation in verdict.violations[:_SHOWN_VIOLATIONS]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
