"""How much memory a replay takes, how much there is, and where it therefore goes; asked before it is allocated."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from seedbed.common.errors import UsageError
from seedbed.server.experience.unroll import TORCH_DTYPES, UnrollLayout

_SHARE = 0.9  # of what is free; the rest is for networks, batches and clients
_GIB = 1 << 30
_FOR_THE_REST = 2 * _GIB  # of a device's memory: libraries, acting copies, state of the optimiser, graphs
_BATCHES = 4  # a train batch in float32, so many times: activations and their gradients


def bytes_per_unroll(layout: UnrollLayout) -> int:
    """What one unroll takes."""
    observations = sum(
        (history + layout.num_rows) * spec.num_elements * TORCH_DTYPES[spec.dtype].itemsize
        for spec, history in zip(layout.spec.shown, layout.histories, strict=True)
    )
    fields = sum(layout.num_rows * field.num_bytes for field in layout.fields().values())
    return observations + fields + sum(part.num_bytes for part in layout.state_specs)


def bytes_kept_free(layout: UnrollLayout, batch_size: int) -> int:
    """What a learner's device needs beside a replay: asked before any of it is allocated, so estimated.

    Args:
        layout: of an unroll.
        batch_size: unrolls of a train batch.
    """
    stacks = zip(layout.spec.shown, layout.histories, strict=True)
    numbers = sum((history + 1) * spec.num_elements for spec, history in stacks)
    return _FOR_THE_REST + _BATCHES * batch_size * layout.num_rows * numbers * torch.float32.itemsize


def free_bytes(device: torch.device, root: Path = Path("/")) -> int:
    """What may still be allocated: on a CPU also within the limits of the control groups around this process.

    Args:
        device: where.
        root: of /proc and /sys, for tests.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    lines = (root / "proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    return min([available, *_cgroup_room(root)])


def choose_replay_device(
    wanted: Literal["auto", "cpu", "cuda"],
    learner: torch.device,
    layout: UnrollLayout,
    capacity: int,
    unit: float = 1.0,
    batch_size: int = 0,
) -> torch.device:
    """Where a replay goes: with "auto" beside the learner if it fits there, else on the CPU.

    Args:
        wanted: by the option.
        learner: the device of the learner.
        layout: of an unroll.
        capacity: unrolls.
        unit: what --replay-capacity counts for each of them.
        batch_size: unrolls of a train batch.

    Raises:
        UsageError: it does not fit; the message says what would.
    """
    if wanted == "cuda" and learner.type != "cuda":
        raise UsageError("expected --device cuda with --replay-device cuda, the learner is on the CPU")
    cpu = torch.device("cpu")
    choices = {"cpu": [cpu], "cuda": [learner], "auto": [learner] if learner == cpu else [learner, cpu]}[wanted]
    needed = capacity * bytes_per_unroll(layout)
    rooms = {device: _room(device, bytes_kept_free(layout, batch_size)) for device in choices}
    for device, room in rooms.items():
        if needed <= room:
            return device
    fitting = max(rooms.values()) // bytes_per_unroll(layout)
    raise UsageError(
        f"expected a replay that fits into memory, --replay-capacity {round(capacity * unit)} takes "
        f"{needed / _GIB:.1f} GiB ({bytes_per_unroll(layout)} bytes an unroll): take at most --replay-capacity "
        f"{int(fitting * unit)}"
    )


def _room(device: torch.device, kept_free: int) -> int:
    """Bytes that a replay may take there."""
    free = free_bytes(device)
    share = int(_SHARE * free)
    return share if device.type == "cpu" else max(0, min(share, free - kept_free))


def _cgroup_room(root: Path) -> list[int]:
    """Limit less use of the visible control groups, version 2 or 1; the files they keep in memory can be given up."""
    rooms = []
    for limit, use, cache in (
        ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.current", "inactive_file"),
        (
            "sys/fs/cgroup/memory/memory.limit_in_bytes",
            "sys/fs/cgroup/memory/memory.usage_in_bytes",
            "total_inactive_file",
        ),
    ):
        try:
            text = (root / limit).read_text().strip()
            used = int((root / use).read_text())
            stat = (root / limit).with_name("memory.stat").read_text()
        except OSError:
            continue
        given_up = next((int(line.split()[1]) for line in stat.splitlines() if line.split()[0] == cache), 0)
        if text != "max":
            rooms.append(max(0, int(text) - used + given_up))
    return rooms
