"""V-trace as IMPALA's paper writes it (arXiv 1802.01561, equation 1): sums of products, float64, O(T^2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


def vtrace(
    *,
    log_rhos: Float,
    rewards: Float,
    discounts: Float,
    values: Float,
    valid: NDArray[np.bool_],
    clip_rho: float = 1.0,
    clip_c: float = 1.0,
    clip_pg_rho: float = 1.0,
    lambda_: float = 1.0,
    advantage: str = "seed",
) -> tuple[Float, Float]:
    """v_s = V_s + sum_{t=s}^{end-1} (prod_{i=s}^{t-1} d_i c_i) delta_t, where `end` is the first invalid t >= s.

    Arguments are those of `seedbed.server.losses.vtrace.vtrace`, as arrays.
    """
    length, batch_size = rewards.shape
    vs = np.array(values)  # row T keeps the bootstrap value
    advantages = np.zeros_like(rewards)
    for b in range(batch_size):
        rho = np.exp(log_rhos[:, b])
        r, d, v = rewards[:, b], discounts[:, b], values[:, b]
        c = lambda_ * np.minimum(clip_c, rho)
        delta = np.minimum(clip_rho, rho) * (r + d * v[1:] - v[:-1])
        for s in range(length):
            end = s + int(np.argmin(np.append(valid[s:, b], False)))
            vs[s, b] += sum(np.prod(d[s:t] * c[s:t]) * delta[t] for t in range(s, end))
        for s in map(int, np.flatnonzero(valid[:, b])):
            target = vs[s + 1, b]
            if advantage == "rlax":
                target = lambda_ * target + (1 - lambda_) * v[s + 1]
            advantages[s, b] = min(clip_pg_rho, rho[s]) * (r[s] + d[s] * target - v[s])
    return vs[:-1], advantages


def gae(*, rewards: Float, discounts: Float, values: Float, valid: NDArray[np.bool_], lambda_: float) -> Float:
    """Generalised advantage estimation (arXiv 1506.02438, equation 16), one row at a time."""
    advantages = np.zeros_like(rewards)
    for b in range(rewards.shape[1]):
        following = 0.0
        for t in reversed(range(len(rewards))):
            if valid[t, b]:
                delta = rewards[t, b] + discounts[t, b] * values[t + 1, b] - values[t, b]
                following = delta + discounts[t, b] * lambda_ * following
            else:
                following = 0.0
            advantages[t, b] = following
    return advantages
