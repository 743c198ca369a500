"""The dashboard's routes: a page, and what it asks for again and again. Nothing can be changed through them.

Requests for numbers are short. Pictures are made one after the other in a thread, at most 15 a second for all viewers
together; who asks for one that was just made gets the same. So a slow viewer gets fewer of them, and there is no queue.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from seedbed.common.address import is_loopback
from seedbed.common.credentials import Tokens
from seedbed.common.errors import UsageError
from seedbed.server.dashboard.facts import DashboardFacts
from seedbed.server.dashboard.finite_json import to_json
from seedbed.server.dashboard.guard import Guard, Hosts
from seedbed.server.dashboard.views import Picture, Views

STATIC = Path(__file__).parent / "static"

PICTURES_PER_S = 15.0
_CACHE_S = 0.066
_CACHED = 16  # pictures: one for each connection there may be
_FIRST_RATE_S = 0.25  # between the two looks that a first rate needs
_BAD = HTTPStatus.BAD_REQUEST

_Key = tuple[tuple[int, ...] | None, int, int]


def make_app(facts: DashboardFacts, hosts: Hosts, tokens: Callable[[], Tokens]) -> ASGIApp:
    """The application.

    Args:
        facts: of the server.
        hosts: its names.
        tokens: the ones of this moment.
    """
    routes = Routes(facts)
    app = Starlette(
        routes=[
            Route("/", _page),
            Route("/favicon.ico", _no_icon),
            Route("/api/state", routes.state),
            Route("/api/mosaic.png", routes.mosaic),
            Route("/api/bars", routes.bars),
            Route("/api/watch", routes.watch),
            Route("/api/fleet", routes.fleet),
            Route("/api/curves", routes.curves),
        ],
        exception_handlers={UsageError: _not_there},
    )
    app.mount("/static", StaticFiles(directory=STATIC))
    app.router.redirect_slashes = False
    return Guard(app, hosts=hosts, tokens=tokens, public=is_public)


def is_public(path: str) -> bool:
    """Whether a path is the page itself, which holds nothing of the run and must be there to take a token."""
    return path in ("/", "/favicon.ico") or path.startswith("/static/")


class Routes:
    """What answers the API."""

    def __init__(self, facts: DashboardFacts) -> None:
        """Nobody has asked yet."""
        self._facts = facts
        self._views = Views(facts)
        self._pictures = _Pictures(self._views)

    async def state(self, request: Request) -> Response:
        """`/api/state`."""
        self._views.look()
        if not self._views.knows_rates:
            await asyncio.sleep(_FIRST_RATE_S)
            self._views.look()
        return _json(self._views.state(near=_is_near(request)))

    async def mosaic(self, request: Request) -> Response:
        """`/api/mosaic.png?slots=all|0,1,2&scale=1|2&part=0`; headers say how the tiles lie."""
        self._check_frames()
        key = (_slots(request), _number(request, "scale", 1), _number(request, "part", 0))
        self._facts.look.take()
        picture = await self._pictures.get(key)
        layout = {"columns": picture.columns, "width": picture.width, "height": picture.height, "slots": picture.slots}
        headers = {"X-Seedbed-Tiles": json.dumps(layout, separators=(",", ":"))}
        return Response(picture.png, media_type="image/png", headers=headers)

    async def bars(self, request: Request) -> Response:
        """`/api/bars?slots=all|0,1,2&part=0`."""
        self._check_frames()
        self._facts.look.take()
        return _json(self._views.bars(_slots(request), _number(request, "part", 0)))

    async def watch(self, request: Request) -> Response:
        """`/api/watch?slot=5`."""
        slot = _number(request, "slot", None)
        self._facts.look.take()
        return _json(self._views.watch(slot, near=_is_near(request)))

    async def fleet(self, request: Request) -> Response:
        """`/api/fleet`."""
        self._facts.look.take()
        return _json(self._views.fleet(near=_is_near(request)))

    async def curves(self, request: Request) -> Response:
        """`/api/curves?since=STEP`."""
        return _json(self._views.curves(_number(request, "since", -1)))

    def _check_frames(self) -> None:
        if not self._facts.frames:
            raise HTTPException(HTTPStatus.FORBIDDEN, "observations are not shown: --dashboard-frames off")


class _Pictures:
    """Makes pictures, and keeps them as long as they are new."""

    def __init__(self, views: Views) -> None:
        self._views = views
        self._lock = asyncio.Lock()
        self._made: OrderedDict[_Key, tuple[float, Picture]] = OrderedDict()
        self._next_s = 0.0

    async def get(self, key: _Key) -> Picture:
        """A picture that is not older than the cache holds it."""
        async with self._lock:
            found = self._made.get(key)
            if found is not None and time.monotonic() - found[0] < _CACHE_S:
                return found[1]
            if (wait_s := self._next_s - time.monotonic()) > 0:
                await asyncio.sleep(wait_s)
            made_s = time.monotonic()
            self._next_s = made_s + 1 / PICTURES_PER_S
            picture = await asyncio.to_thread(self._views.picture, *key)
            self._made[key] = made_s, picture
            self._made.move_to_end(key)
            while len(self._made) > _CACHED:
                self._made.popitem(last=False)
            return picture


async def _page(request: Request) -> Response:
    return FileResponse(STATIC / "index.html")


async def _no_icon(request: Request) -> Response:
    return Response(status_code=HTTPStatus.NO_CONTENT)


async def _not_there(request: Request, error: Exception) -> Response:
    return PlainTextResponse(f"{error}\n", _BAD)


def _is_near(request: Request) -> bool:
    """Whether it comes from this machine, through a tunnel perhaps."""
    return request.client is not None and is_loopback(request.client.host)


def _json(data: Any) -> Response:
    return Response(to_json(data), media_type="application/json")


def _slots(request: Request) -> tuple[int, ...] | None:
    text = request.query_params.get("slots", "all")
    if text == "all":
        return None
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise UsageError(f"expected slots=all or numbers with commas, got {text[:40]!r}") from None


def _number(request: Request, name: str, otherwise: int | None) -> int:
    text = request.query_params.get(name)
    if text is None and otherwise is not None:
        return otherwise
    try:
        return int(text or "")
    except ValueError:
        raise UsageError(f"expected {name}= and an integer, got {(text or '')[:40]!r}") from None
