"""Which loads are measured: the syntax of ranges, and their product."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from seedbed.common.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is asked of a server.

    Attributes:
        clients: streams, each with one Steps in flight.
        envs_per_client: E, rows of every message.
        rate: agent steps/s of all clients together; None: a closed loop.
    """

    clients: int
    envs_per_client: int
    rate: int | None = None

    @property
    def num_envs(self) -> int:
        """Environments of all clients."""
        return self.clients * self.envs_per_client


def parse_range(flag: str, text: str) -> tuple[int, ...]:
    """Reads "4", "1,4,16" and "1:64", which doubles and always ends with its end; parts may be mixed by commas.

    Args:
        flag: the option's, for the error.
        text: its value.

    Raises:
        UsageError: it is none of these, or a number is below 1.
    """
    values: list[int] = []
    for part in text.split(","):
        first, colon, last = part.partition(":")
        try:
            start, end = int(first), int(last if colon else first)
        except ValueError:
            raise UsageError(f"expected {flag} like 16, 1,4,16 or 1:64, got {text!r}") from None
        if not 1 <= start <= end:
            raise UsageError(f"expected {flag} of at least 1 and ranges that ascend, got {text!r}")
        while start < end:
            values.append(start)
            start *= 2
        values.append(end)
    return tuple(dict.fromkeys(values))


def make_loads(clients: str, envs_per_client: str, rate: str | None) -> list[Load]:
    """Every combination, clients varying slowest and rates fastest.

    Raises:
        UsageError: a range is wrong.
    """
    counts = parse_range("--clients", clients)
    sizes = parse_range("--envs-per-client", envs_per_client)
    rates = (None,) if rate is None else parse_range("--rate", rate)
    return [
        Load(clients=count, envs_per_client=size, rate=asked)
        for count, size, asked in itertools.product(counts, sizes, rates)
    ]
