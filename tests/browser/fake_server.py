"""Test double of the dashboard's server: the same routes, headers and JSON over a run that is made up.

It can go away, demand a token, and keeps a list of what it was asked.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.browser.fake_run import TILE, FakeRun, columns_of

STATIC = Path(__file__).resolve().parents[2] / "server" / "dashboard" / "static"

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


@contextmanager
def serve(run: FakeRun) -> Iterator[str]:
    """Serves a run on a port of the system's choice; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            run.asked.append((time.monotonic(), self.path))
            if run.away is not None and self.path.startswith(run.away):
                self.close_connection = True
                return
            status, fields, body = _answer(run, self.path, self.headers.get("Authorization"))
            self.send_response(status)
            for name, value in {**HEADERS, **fields, "Content-Length": len(body)}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            if not isinstance(sys.exception(), ConnectionError):  # the page was closed
                super().handle_error(request, client_address)

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(run: FakeRun, target: str, authorization: str | None) -> tuple[int, dict[str, str], bytes]:
    """Status, header fields and body."""
    parts = urlsplit(target)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if not parts.path.startswith("/api/"):
        return _file(parts.path)
    if run.token is not None and authorization != f"Bearer {run.token}":
        return 401, {"Content-Type": "text/plain"}, b"expected a valid token\n"
    slots = query.get("slots", "all")
    chosen = list(range(run.num_environments)) if slots == "all" else [int(slot) for slot in slots.split(",")]
    if parts.path == "/api/mosaic.png":
        scale = int(query.get("scale", "1"))
        layout = {"columns": columns_of(len(chosen)), "width": TILE * scale, "height": TILE * scale, "slots": chosen}
        fields = {"Content-Type": "image/png", "X-Seedbed-Tiles": json.dumps(layout)}
        return 200, fields, run.picture(chosen, scale)
    found: dict[str, Callable[[], Any]] = {
        "/api/state": run.state,
        "/api/bars": lambda: run.bars(chosen, int(query.get("part", "0"))),
        "/api/watch": lambda: run.watched(int(query["slot"])),
        "/api/fleet": run.fleet,
        "/api/curves": run.curves,
    }
    return 200, {"Content-Type": "application/json"}, json.dumps(found[parts.path](), allow_nan=False).encode()


def _file(path: str) -> tuple[int, dict[str, str], bytes]:
    file = STATIC / ("index.html" if path == "/" else path.removeprefix("/static/"))
    if not file.is_file():
        return 404, {"Content-Type": "text/plain"}, b"no such page\n"
    return 200, {"Content-Type": _TYPES[file.suffix]}, file.read_bytes()
