"""CUDA graphs of the simulated device: a tape of operations, run again on the same memory."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch

from tests.reference.device import Device, Stream, place
from tests.reference.device_operations import changed_arguments, leaves


class Graph:
    """As `torch.cuda.CUDAGraph`."""

    def __init__(self, device: Device, keep_graph: bool = False) -> None:
        self._device = device
        self.tape: list[tuple[Any, Any, Any, Any]] = []
        self.generators: set[int] = set()

    def register_generator_state(self, generator: torch.Generator) -> None:
        """It may draw from this one."""
        self.generators.add(id(generator))

    def replay(self) -> None:
        """One launch; reads and writes what the recording did."""
        device, actor = self._device, self._device.stream.actor
        device.clocks.follow(actor, device.actor)
        device.clocks.tick(actor, place())
        device.launches[device.phase] += 1
        device.operations[device.phase, "graph", place()] += 1
        for function, arguments, keywords, outputs in self.tape:
            results = function(*arguments, **keywords)
            for tensor in leaves((*arguments, *keywords.values())):
                if isinstance(tensor, torch.Tensor):
                    device.touch(actor, tensor, write=False)
            written = leaves(changed_arguments(function, arguments, keywords))
            if outputs is not None:
                written = leaves([outputs])
                for ours, result in zip(leaves([outputs]), leaves([results]), strict=True):
                    if isinstance(ours, torch.Tensor):
                        ours.copy_(result)
            for tensor in written:
                if isinstance(tensor, torch.Tensor):
                    device.touch(actor, tensor, write=True)

    def pool(self) -> tuple[int, int]:
        """As the real one."""
        return (0, 0)


class Recording:
    """As `torch.cuda.graph`."""

    def __init__(self, device: Device, graph: Graph, stream: Stream) -> None:
        self._device = device
        self._graph = graph
        self._stream = stream
        self._entered = ExitStack()

    def __enter__(self) -> None:
        device = self._device
        device.clocks.follow_all(device.actor)  # the real one waits for the whole device
        device.note_wait(place())
        device.captures += 1
        self._entered.enter_context(device.on(self._stream))
        device.tape, device.generators = self._graph.tape, self._graph.generators

    def __exit__(self, *error: object) -> None:
        self._device.tape = None
        self._device.generators = set()
        self._entered.close()


def graphs_of(device: Device) -> Mapping[str, Any]:
    """What stands in `torch.cuda` for them."""
    capture_stream = Stream(device, "capture")

    def graph(graph: Graph, pool: Any = None, stream: Any = None, capture_error_mode: str = "global") -> Recording:
        return Recording(device, graph, stream or capture_stream)

    pools = iter(range(1, 1000))
    return {
        "CUDAGraph": lambda keep_graph=False: Graph(device, keep_graph),
        "graph": graph,
        "graph_pool_handle": lambda: (0, next(pools)),
    }
