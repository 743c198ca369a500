"""Reward clipping, number by number."""

from __future__ import annotations

import math

import pytest
import torch

from seedbed.server.losses.rewards import RewardClipping, clip_rewards

REWARDS = torch.tensor([-21.0, -1.0, -0.5, 0.0, 0.5, 1.0, 21.0], dtype=torch.float64)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("none", lambda r: r),
        ("abs_one", lambda r: min(max(r, -1.0), 1.0)),
        ("soft_asymmetric", lambda r: 5 * math.tanh(r / 5) * (0.3 if r < 0 else 1.0)),
        ("paper_asymmetric", lambda r: 0.3 * math.tanh(r) if r < 0 else 5 * math.tanh(r)),
    ],
)
def test_each_mode_is_its_formula(mode: RewardClipping, expected: object) -> None:
    assert callable(expected)
    clipped = clip_rewards(REWARDS, mode)
    torch.testing.assert_close(clipped, torch.tensor([expected(r) for r in REWARDS.tolist()], dtype=torch.float64))


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected reward clipping 'none', .* got 'tanh'"):
        clip_rewards(REWARDS, "tanh")  # type: ignore[arg-type]
