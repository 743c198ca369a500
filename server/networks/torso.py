"""The torso of a network: what a class must have to be one, built in or somebody's own.

Shapes: N rows, K stacked frames of an array, F features.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from seedbed.common.specs import ArraySpec
from seedbed.server.options.network import NetworkConfig


class Torso(nn.Module):
    """Base of torsos: the observations of N rows in, one feature vector per row out.

    A torso sees nothing but observations and keeps no state from row to row: what it makes of a row depends on no other
    row of the batch. Its weights are float32; what it computes in is its own affair.

    A subclass builds its layers from what the constructor gets, and says `output_size`; no more is needed. It raises
    SpecError for observations that it cannot read.

    Args:
        shown: a spec for each array. Channels of images come last, and discrete arrays count from 0, whatever the
            environment does (`array_kinds.as_read`). Arrays that are normalised come as float32, their bounds one
            standard deviation (`normaliser.as_normalised`).
        config: the options of the network.
        frame_stacks: K of each array.

    Attributes:
        output_size: F.
        blocks: of each array the edge of the blocks in which its pixels are wanted; 1: as they are. See
            `observations.to_blocks`; a torso that says more than 1 takes both forms.
    """

    output_size: int = 0

    def __init__(self, shown: Sequence[ArraySpec], config: NetworkConfig, frame_stacks: Sequence[int]) -> None:
        super().__init__()
        self.blocks: tuple[int, ...] = (1,) * len(shown)

    def forward(self, observations: tuple[Tensor, ...]) -> Tensor:
        """Each `[N, K, *spec.shape]`, or in blocks, in; `[N, F]` out, of any floating dtype."""
        raise NotImplementedError

    def unrolls(self, frames: Tensor) -> Tensor | None:
        """The same of whole unrolls of a single array, where that is quicker: each frame is then read once.

        Args:
            frames: `[B, T + K - 1, *spec.shape]`, or in blocks; row t of an unroll sees frames t to t + K - 1.

        Returns:
            `[T, B, F]`; None: rows are wanted one by one.
        """
        return None

    def store_for_acting(self) -> None:
        """Makes this a copy that acts and is never trained: weights may be kept in the dtype they compute in.

        The features stay the same, bit for bit. Nothing, unless said otherwise.
        """
