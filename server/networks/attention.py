"""Attention over the rows of an episode, as far back as a window reaches (Dai et al. 2019, arXiv 1901.02860).

Earlier rows stand in a ring of M places: row p of an episode in place p modulo M, so that nothing moves when a row
comes in. A row may look at itself and at the M rows before it, never further and never beyond the start of its episode,
whether those rows come from the ring or from the same unroll: hence an unroll gives what single steps give.

Shapes: T rows, B environments, M places of the ring, C = M + T of both, D features, H heads of d numbers.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from seedbed.server.networks.layers import initialise


class Window(NamedTuple):
    """Who sees what.

    Attributes:
        seen: bool `[B, T, C]`: the row may look at that place of the ring, or at that row.
        distance: int64 `[B, T, C]`, how many rows back that is, 0 to M; of no account where it is not seen.
        stored: bool `[B, M]`: places with a row of the episode that is running before row 0 of the unroll, unless that
            is FIRST.
        position: int64 `[B]`, rows of the episode so far, after the last row.
        writer: int64 `[B, M]`, the newest row of the unroll that is written to a place; negative: none is.
    """

    seen: Tensor
    distance: Tensor
    stored: Tensor
    position: Tensor
    writer: Tensor


def window_of(first: Tensor, position: Tensor, length: int) -> Window:
    """Works out who sees what, without asking the device for a number.

    Args:
        first: bool `[T, B]`, rows that begin an episode.
        position: int64 `[B]`, rows of the episode before row 0; of no account if that is FIRST.
        length: M.
    """
    num_rows = first.shape[0]
    rows = torch.arange(num_rows, device=first.device)
    begin = torch.where(first, rows[:, None], -1)  # of the row's episode; -1: before row 0
    if num_rows > 1:  # of a single row it is that already, and ONNX has no word for the rest
        begin = begin.cummax(0).values
    begin = begin.T  # [B, T]
    back = _rows_back(position, length)
    stored = (back <= position[:, None]) & ~first[0, :, None]
    from_ring = rows[:, None] + back[:, None]  # [B, T, M]
    from_rows = rows[:, None] - rows
    sees_ring = stored[:, None] & (begin < 0)[..., None] & (from_ring <= length)
    sees_rows = (from_rows >= 0) & (from_rows <= length) & (rows >= begin[..., None])
    after = torch.where(begin[:, -1] < 0, position + num_rows, num_rows - begin[:, -1])
    return Window(
        seen=torch.cat((sees_ring, sees_rows), -1),
        distance=torch.cat((from_ring, from_rows.expand(back.shape[0], -1, -1)), -1).clamp(0, length),
        stored=stored,
        position=after,
        writer=num_rows - _rows_back(after, length),
    )


def _rows_back(position: Tensor, length: int) -> Tensor:
    """How many rows before row `position` `[B]` of the episode the one was written that a place holds, `[B, M]`."""
    return (position[:, None] - 1 - torch.arange(length, device=position.device)) % length + 1


def written(ring: Tensor, rows: Tensor, window: Window) -> Tensor:
    """The ring `[B, M, D]` after rows `[B, T, D]`, in its dtype; no gradient flows into it."""
    chosen = window.writer.clamp(min=0)[..., None].expand(-1, -1, rows.shape[-1])
    newest = rows.detach().gather(1, chosen).to(ring.dtype)
    return torch.where((window.writer >= 0)[..., None], newest, ring)


def encoding_of(distances: Tensor, size: int) -> Tensor:
    """Distances `[N]` as sines, then cosines, of ever longer waves, `[N, size]`."""
    waves = 10_000.0 ** (-torch.arange(0, size, 2, device=distances.device) / size)
    angles = distances[:, None] * waves
    return torch.cat((angles.sin(), angles.cos()), -1)


class RelativeAttention(nn.Module):
    """Attention by what a row holds and by how far back it lies (Dai et al. 2019, section 3.3).

    Args:
        size: D, an even number.
        heads: H.
        head_size: d.
    """

    def __init__(self, size: int, heads: int, head_size: int) -> None:
        super().__init__()
        self._heads = (heads, head_size)
        self._size = size
        inner = heads * head_size
        self.query = nn.Linear(size, inner, bias=False)
        self.key = nn.Linear(size, inner, bias=False)
        self.value = nn.Linear(size, inner, bias=False)
        self.place = nn.Linear(size, inner, bias=False)
        self.output = nn.Linear(inner, size, bias=False)
        for layer in (self.query, self.key, self.value, self.place, self.output):
            initialise(layer, 1.0)

    def forward(self, rows: Tensor, context: Tensor, window: Window, biases: Tensor) -> Tensor:
        """What each row finds.

        Args:
            rows: `[B, T, D]`, that look.
            context: `[B, C, D]`, the ring and the rows, that are looked at.
            window: which of them, and where they lie.
            biases: `[2, H, d]`, added to every query: what is looked for whatever the row, by content and by distance.

        Returns:
            `[B, T, D]`.
        """
        query, key, value = (
            self._split(self.query(rows)),
            self._split(self.key(context)),
            self._split(self.value(context)),
        )
        length = context.shape[1] - rows.shape[1]
        distances = torch.arange(length + 1, device=rows.device)
        place = self._split(self.place(encoding_of(distances, self._size)))  # [H, M + 1, d]
        by_content = (query + biases[0, :, None]) @ key.mT
        by_distance = (query + biases[1, :, None]) @ place.mT  # [B, H, T, M + 1]
        index = window.distance[:, None].expand(-1, self._heads[0], -1, -1)
        scores = (by_content + by_distance.gather(-1, index)) / math.sqrt(self._heads[1])
        weights = scores.masked_fill(~window.seen[:, None], -math.inf).softmax(-1)
        found: Tensor = self.output((weights @ value).transpose(1, 2).flatten(2))
        return found

    def _split(self, x: Tensor) -> Tensor:
        """`[..., N, H d]` to `[..., H, N, d]`."""
        return x.unflatten(-1, self._heads).transpose(-3, -2)
