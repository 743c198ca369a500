"""V-trace targets and advantages (Espeholt et al. 2018, "IMPALA", arXiv 1802.01561, section 4.1).

Only arithmetic: no network, no reduction over steps, no gradient.

Layout. An unroll has T+1 rows. Transition t leads from row t to row t+1; its reward and discount are those that row
t+1 carries. It is *valid* iff row t is not LAST and row t+1 exists. On the others, which are the dummy LAST -> FIRST
pair and whatever follows a cut, rho = c = 0: there v_t = V_t, so one recursion bootstraps at a time limit from the
value of the real last observation, at a cut from the value of the last row received, and never across episodes.

Shapes: T transitions, B unrolls, time-major.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from seedbed.server.losses.masking import check_shapes
from seedbed.server.losses.returns import accumulate

Advantage = Literal["seed", "rlax"]


class VTraceTargets(NamedTuple):
    """What V-trace hands to the losses; no gradient flows through either.

    Attributes:
        vs: value targets `[T, B]`; V_t where the transition is invalid.
        advantages: policy-gradient advantages `[T, B]`, multiplied by the clipped rho; 0 where invalid.
    """

    vs: Tensor
    advantages: Tensor


@torch.no_grad()
def vtrace(
    *,
    log_rhos: Tensor,
    rewards: Tensor,
    discounts: Tensor,
    values: Tensor,
    valid: Tensor,
    clip_rho: float = 1.0,
    clip_c: float = 1.0,
    clip_pg_rho: float = 1.0,
    lambda_: float = 1.0,
    advantage: Advantage = "seed",
) -> VTraceTargets:
    """Computes V-trace targets by the backward recursion of the paper's remark 1.

        delta_t   = rho_t (r_{t+1} + d_{t+1} V_{t+1} - V_t)
        v_t - V_t = delta_t + d_{t+1} lambda c_t (v_{t+1} - V_{t+1})
        A_t       = rho_t^pg (r_{t+1} + d_{t+1} v_{t+1} - V_t)

    Invalid transitions may hold anything, NaN included.

    Args:
        log_rhos: log pi(a_t) - log mu(a_t), `[T, B]`.
        rewards: r_{t+1}, already clipped if that is wanted, `[T, B]`.
        discounts: gamma times the environment's discount_{t+1}, `[T, B]`.
        values: V of every row, the last of which only bootstraps, `[T+1, B]`.
        valid: bool `[T, B]`, see above.
        clip_rho: bound of rho in delta. It decides which policy's value is learnt; at least `clip_c` (theorem 1).
        clip_c: bound of the trace coefficients c. It decides variance and speed only.
        clip_pg_rho: bound of rho in the advantage. Infinity turns any of the three off.
        lambda_: multiplies c, and nothing else (SEED RL, arXiv 1910.06591).
        advantage: "seed" bootstraps the advantage from v_{t+1}, as the paper does; "rlax" from
            lambda v_{t+1} + (1 - lambda) V_{t+1}, which on-policy makes it GAE(lambda). The same at lambda = 1.

    Raises:
        ValueError: shapes or options that do not fit together.
    """
    check_shapes({"values": values}, rewards=rewards, discounts=discounts, log_rhos=log_rhos, valid=valid)
    _check_options(clip_rho, clip_c, clip_pg_rho, lambda_, advantage)

    values_tm1, values_t = values[:-1], values[1:]
    rhos = log_rhos.exp()
    deltas = rhos.clamp(max=clip_rho) * (rewards + discounts * values_t - values_tm1)
    decays = discounts * rhos.clamp(max=clip_c) * lambda_
    # Selected, never multiplied by a mask: 0 * NaN is NaN.
    errors = accumulate(torch.where(valid, deltas, 0.0), torch.where(valid, decays, 0.0))
    vs = values_tm1 + errors

    bootstraps = torch.cat((vs[1:], values[-1:]))
    if advantage == "rlax":
        bootstraps = torch.lerp(values_t, bootstraps, lambda_)
    advantages = rhos.clamp(max=clip_pg_rho) * (rewards + discounts * bootstraps - values_tm1)
    return VTraceTargets(vs=vs, advantages=torch.where(valid, advantages, 0.0))


def _check_options(clip_rho: float, clip_c: float, clip_pg_rho: float, lambda_: float, advantage: str) -> None:
    for name, clip in (("clip_rho", clip_rho), ("clip_c", clip_c), ("clip_pg_rho", clip_pg_rho)):
        if math.isnan(clip) or clip < 0:
            raise ValueError(f"expected {name} of at least 0 (infinity: no clipping), got {clip}")
    if clip_rho < clip_c:
        raise ValueError(f"expected clip_rho of at least clip_c, got {clip_rho} and {clip_c}")
    if not 0 <= lambda_ <= 1:
        raise ValueError(f"expected lambda_ between 0 and 1, got {lambda_}")
    if advantage not in ("seed", "rlax"):
        raise ValueError(f"expected advantage 'seed' or 'rlax', got {advantage!r}")
