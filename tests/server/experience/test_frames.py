"""Frame stacks against stacking by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seedbed.server.experience.frames import StackIndex, windows


def stack_by_hand(frames: Tensor, newest: int, age: int, frame_stack: int) -> Tensor:
    """Frames newest - K + 1 .. newest, one at a time; zero where the episode had not begun."""
    zero = torch.zeros_like(frames[0])
    return torch.stack([frames[newest - back] if back <= age else zero for back in reversed(range(frame_stack))])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
@pytest.mark.parametrize("frame_stack", [1, 2, 4])
def test_stacks_are_those_stacked_by_hand(frame_stack: int, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(1, 255, (20, *shape), generator=generator).to(dtype)
    newest = torch.randint(frame_stack - 1, 20, (30,), generator=generator)
    age = torch.randint(0, 7, (30,), generator=generator)
    before = frames.clone()
    stacks = StackIndex(newest, age, frame_stack).gather(frames)
    expected = [stack_by_hand(frames, int(n), int(a), frame_stack) for n, a in zip(newest, age, strict=True)]
    assert stacks.dtype == dtype
    assert torch.equal(stacks, torch.stack(expected))
    assert torch.equal(frames, before), "zeroing must happen in the copy, not in the frames"


def test_a_first_row_sees_itself_alone() -> None:
    frames = torch.arange(1.0, 6.0)
    assert StackIndex(torch.tensor([4]), torch.tensor([0]), 4).gather(frames).tolist() == [[0.0, 0.0, 0.0, 5.0]]
    assert StackIndex(torch.tensor([4]), torch.tensor([1]), 4).gather(frames).tolist() == [[0.0, 0.0, 4.0, 5.0]]
    assert StackIndex(torch.tensor([3]), torch.tensor([3]), 4).gather(frames).tolist() == [[1.0, 2.0, 3.0, 4.0]]


def test_windows_overlap_without_copying() -> None:
    frames = torch.arange(6.0)
    view = windows(frames, 3)
    assert view.tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]]
    assert view.data_ptr() == frames.data_ptr()
