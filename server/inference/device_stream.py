"""The inference thread's stream on a device: its own, ahead of the learner's, and empty when the thread ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def stream_of_its_own(device: torch.device) -> Iterator[None]:
    """What is launched within goes to a stream of this thread's own; on a CPU there are none.

    Its small kernels go before those of the learner, on the default stream, wherever both wait. When the block ends
    all of them are done: whoever joins the thread may read what it wrote on any stream.
    """
    if device.type != "cuda":
        yield
        return
    if device.index is not None:
        torch.cuda.set_device(device)  # each thread has a current one of its own
    torch.cuda.synchronize(device)  # what was built on the default stream is there now
    stream = torch.cuda.Stream(device, priority=-1)
    with torch.cuda.stream(stream):
        try:
            yield
        finally:
            stream.synchronize()
