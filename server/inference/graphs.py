"""A network's `step` as CUDA graphs: one launch instead of dozens, for batches of any size.

A graph is recorded for one network and one batch size, and reads and writes fixed memory. So batches are padded to the
next of a few sizes, and each acting copy of the network has graphs of its own, which publishing leaves valid: it writes
into the same weights. What stands in the padding is computed and thrown away: no row depends on another.

All graphs are recorded before anybody is answered and the learner begins: a recording holds the whole device up. They
share what networks read and, since one follows the other, the memory of what they compute on the way.

On a CPU there is nothing to launch, and networks are used as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seedbed.server.networks.interface import AgentState, Inputs, PolicyNetwork

Step = Callable[[Inputs, AgentState], tuple[Any, AgentState]]
Capture = Callable[[Callable[[], Any]], tuple[Callable[[], None], Any]]
"""Takes what is to be recorded; returns what replays it, and where its results then stand."""

_SMALLEST_BUCKET = 16
_WARM_UPS = 3  # before a recording: libraries choose their kernels and allocate in the first calls


class _Recording(NamedTuple):
    """One graph with its memory."""

    inputs: Inputs
    state: AgentState
    replay: Callable[[], None]
    outputs: Any


class GraphedStep:
    """`step` of one network, replayed; stands in for the network where only `step` is asked for.

    Results stand in memory that the next call with a batch of that size writes again.
    """

    def __init__(self, step: Step, max_rows: int, capture: Capture) -> None:
        """Records nothing yet.

        Args:
            step: of a network whose weights stay where they are.
            max_rows: larger batches run as they are.
            capture: see `capture_cuda_graph`.
        """
        self._step = step
        self._buckets = buckets(max_rows)
        self._capture = capture
        self._recordings: dict[int, _Recording] = {}

    def step(self, inputs: Inputs, state: AgentState) -> tuple[Any, AgentState]:
        """See `PolicyNetwork.step`."""
        num_rows = len(inputs.step_type)
        bucket = next((size for size in self._buckets if size >= num_rows), None)
        if bucket is None:
            return self._step(inputs, state)
        if bucket not in self._recordings:
            self.record(padded((inputs, state), bucket))
        recording = self._recordings[bucket]
        _map(lambda ours, theirs: ours[:num_rows].copy_(theirs), (recording.inputs, recording.state), (inputs, state))
        recording.replay()
        outputs: tuple[Any, AgentState] = _map(lambda part: part[:num_rows], recording.outputs)
        return outputs

    def record(self, fixed: tuple[Inputs, AgentState]) -> None:
        """Records the batch size of these rows, which stay where they are, as its memory."""
        replay, outputs = self._capture(lambda: self._step(*fixed))
        self._recordings[len(fixed[0].step_type)] = _Recording(*fixed, replay, outputs)


class Graphs:
    """The graphs of all acting copies of a network; without graphs the networks themselves."""

    def __init__(self, max_rows: int, capture: Capture | None) -> None:
        self._max_rows = max_rows
        self._capture = capture
        self._steps: dict[int, GraphedStep] = {}

    @property
    def wanted(self) -> bool:
        """Whether there are to be any."""
        return self._capture is not None

    def record(self, networks: Sequence[PolicyNetwork], inputs: Inputs, state: AgentState) -> None:
        """Records all batch sizes of all acting copies, the largest first: smaller ones find room in its memory.

        Args:
            networks: the acting copies.
            inputs, state: rows, any number, of which only shapes and dtypes count.
        """
        for bucket in reversed(buckets(self._max_rows)):
            fixed = padded((inputs, state), bucket)
            for network in networks:
                step = self.of(network)
                assert isinstance(step, GraphedStep)
                step.record(fixed)

    def of(self, network: PolicyNetwork) -> PolicyNetwork:
        """What to act with in place of a network that `Parameters.acquire` gave."""
        if self._capture is None:
            return network
        if id(network) not in self._steps:  # acting copies live as long as the server
            self._steps[id(network)] = GraphedStep(network.step, self._max_rows, self._capture)
        return self._steps[id(network)]  # type: ignore[return-value]  # `step` is all that acting asks for


def padded(rows: tuple[Inputs, AgentState], num_rows: int) -> tuple[Inputs, AgentState]:
    """Memory for so many rows like these."""
    made: tuple[Inputs, AgentState] = _map(lambda part: part.new_zeros((num_rows, *part.shape[1:])), rows)
    return made


def buckets(max_rows: int) -> list[int]:
    """Batch sizes that are recorded: powers of two up to the first that holds `max_rows`."""
    sizes = [_SMALLEST_BUCKET]
    while sizes[-1] < max_rows:
        sizes.append(2 * sizes[-1])
    return sizes


class CudaCapture:
    """Records graphs on the current device whose memory is one pool: they never run side by side."""

    def __init__(self) -> None:
        self._pool: Any = None

    def __call__(self, run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """See `Capture`."""
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        return capture_cuda_graph(run, self._pool)


def capture_cuda_graph(
    run: Callable[[], Any], pool: Any = None, warm_ups: int = _WARM_UPS
) -> tuple[Callable[[], None], Any]:
    """Records what `run` launches on the current device.

    Other threads go on using CUDA meanwhile: only this thread's calls are watched.

    Args:
        run: what is recorded; recording does not run it.
        pool: memory of other graphs; its own unless given.
        warm_ups: how often it is run before.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(warm_ups):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
        outputs = run()
    return graph.replay, outputs


def _map(function: Callable[..., Tensor], first: Any, *others: Any) -> Any:
    """Applies `function` to the tensors in the same places of (named) tuples of one structure."""
    if isinstance(first, Tensor):
        return function(first, *others)
    if isinstance(first, tuple):
        parts = [_map(function, *part) for part in zip(first, *others, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)
    return first
