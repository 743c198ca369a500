"""The dashboard's own application over shared memory that a thread writes as inference does: no training."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from seedbed.common.credentials import Tokens
from seedbed.common.specs import ArraySpec
from tests.browser.fake_run import SCRIPT_CLIENT, tile_grey
from tests.server.dashboard.scene import Scene, spec_of

TILE = ArraySpec(name="observation", dtype="uint8", shape=(24, 32, 1), low=(0,), high=(255,))
CLIENTS = {"a": range(100, 107), SCRIPT_CLIENT: range(110, 114)}
"""Client -> indices of its environments; 110 and later are greedy ones' neighbours, 100 to 199 greedy, see `Scene`."""

_STEP_S = 0.05


def make_scene(folder: Path) -> Scene:
    """Two clients; every pixel of an environment is `tile_grey` of its index."""
    scene = Scene(folder, spec_of(TILE))
    scene.metrics.write_text(
        "".join(
            f'{{"agent_steps": {i * 1000}, "frames": {i * 4000}, "wall_s": {i * 10}, "episode_return_mean": {i}, '
            f'"loss": {1 / (i + 1)}, "steps_per_s": 100.0}}\n'
            for i in range(20)
        )
    )
    return scene


@contextmanager
def serve_scene(scene: Scene, token: str | None = None) -> Iterator[str]:
    """Serves it and keeps it alive; gives the URL."""
    import uvicorn

    from seedbed.server.dashboard.app import make_app
    from seedbed.server.dashboard.guard import Hosts

    app = make_app(scene.facts, Hosts("127.0.0.1"), lambda: Tokens(() if token is None else (token,)))
    config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    threads = [
        threading.Thread(target=server.run, kwargs={"sockets": [listener]}),
        threading.Thread(target=_step, args=(scene, over)),
    ]
    for thread in threads:
        thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        over.set()
        server.should_exit = True
        for thread in threads:
            thread.join()
        listener.close()


def _step(scene: Scene, over: threading.Event) -> None:
    leases = [scene.join(client, *indices) for client, indices in CLIENTS.items()]
    first = True
    while not over.wait(_STEP_S):
        for lease in leases:
            greys = np.array([tile_grey(index) for index in lease.environment_indices], np.uint8)
            rows = np.broadcast_to(greys[:, None, None, None], (lease.num_rows, *TILE.shape))
            scene.send(lease, rows, step_type=0 if first else 1, reward=0.0 if first else 1.0)
            scene.answer(lease, torch.tensor([0.1, 0.7, 0.2]), -2.5, time.monotonic())
        first = False
