"""How rewards are squashed before they enter a loss. Scores and logs always use the raw ones.

"none"              as they are
"abs_one"           clipped to [-1, 1]: Atari (Mnih et al. 2015; IMPALA, table G.1)
"soft_asymmetric"   5 tanh(r / 5), negative ones times 0.3: IMPALA's published code (deepmind/scalable_agent,
                    experiment.py), there for DMLab-30. It is linear around 0.
"paper_asymmetric"  0.3 min(tanh r, 0) + 5 max(tanh r, 0): "optimistic asymmetric clipping" in IMPALA's paper
                    (arXiv 1802.01561, figure D.1). Not the same function as the code's: its slope at 0+ is 5.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

RewardClipping = Literal["none", "abs_one", "soft_asymmetric", "paper_asymmetric"]


def clip_rewards(rewards: Tensor, mode: RewardClipping) -> Tensor:
    """Squashes rewards of any shape; see the module for the modes.

    Raises:
        ValueError: the mode is unknown.
    """
    if mode == "none":
        return rewards
    if mode == "abs_one":
        return rewards.clamp(-1.0, 1.0)
    if mode == "soft_asymmetric":
        squeezed = torch.tanh(rewards / 5.0)
        return 5.0 * torch.where(rewards < 0, 0.3 * squeezed, squeezed)
    if mode == "paper_asymmetric":
        squeezed = torch.tanh(rewards)
        return 0.3 * squeezed.clamp(max=0.0) + 5.0 * squeezed.clamp(min=0.0)
    raise ValueError(
        f"expected reward clipping 'none', 'abs_one', 'soft_asymmetric' or 'paper_asymmetric', got {mode!r}"
    )
