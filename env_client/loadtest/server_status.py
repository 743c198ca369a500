"""Asks the servers under test how they are doing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from seedbed.common.errors import SeedbedError
from seedbed.common.server_status import ServerStatus
from seedbed.env_client.connection import Endpoint, Line, explained


class StatusReader:
    """Asks servers how they are doing, over one connection each; use it as an asynchronous context."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = endpoints
        self._lines: list[Line] = []

    async def read(self) -> tuple[ServerStatus, ...]:
        """How each is doing; nothing if one of them is too old to say (protocol 1.0).

        Raises:
            SeedbedError: one is away.
        """
        answers = await asyncio.gather(*map(_read, self._lines))
        told = tuple(answer for answer in answers if answer is not None)
        return told if len(told) == len(answers) else ()

    async def __aenter__(self) -> StatusReader:
        self._lines = [Line(endpoint) for endpoint in self._endpoints]
        return self

    async def __aexit__(self, *_: object) -> None:
        for line in self._lines:
            await line.close()


async def _read(line: Line) -> ServerStatus | None:
    try:
        return await line.read_status()
    except SeedbedError as error:
        raise await explained(error, line.endpoint) from None
