"""Policy lag: how many updates old the policy was that acted in a train batch.

Shapes: T transitions of each of B unrolls.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seedbed.server.experience.batch import TrainBatch
from seedbed.server.losses.masking import masked_reduce


def lag_metrics(batch: TrainBatch, version: int) -> Mapping[str, Tensor]:
    """Mean and greatest over valid transitions, behind the version that is learnt."""
    lag = torch.where(batch.valid, _lags(batch, version), 0)
    return {"policy_lag_mean": masked_reduce(lag.float(), batch.valid, "mean"), "policy_lag_max": lag.max()}


def lag_of_each(batch: TrainBatch, version: int) -> Tensor:
    """Of each transition, `[T, B]`; NaN where it is not valid."""
    return torch.where(batch.valid, _lags(batch, version).float(), torch.nan)


def acting_versions(batch: TrainBatch) -> list[int]:
    """Of the policies that acted: the oldest, where the host knows it; else all, and it waits for them."""
    if batch.oldest_version is not None:
        return [batch.oldest_version]
    found: list[int] = batch.fields["policy_version"][:-1][batch.valid].unique().tolist()
    return found


def _lags(batch: TrainBatch, version: int) -> Tensor:
    return version - batch.fields["policy_version"][:-1]
