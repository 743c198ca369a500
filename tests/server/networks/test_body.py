"""Bodies of networks: a torso that does not fit is told before anything is begun with it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seedbed.common.errors import UsageError
from seedbed.common.specs import ArraySpec, discrete
from seedbed.server.networks import body
from seedbed.server.networks.body import Body
from seedbed.server.networks.distributions import ActionSpace
from seedbed.server.networks.torso import Torso
from seedbed.server.networks.vectors import MLP
from seedbed.server.options.network import NetworkConfig

SHOWN = (ArraySpec(name="observation", dtype="float32", shape=(4,)),)


class Narrow(MLP):
    """Gives less than it says."""

    def forward(self, observations: tuple[Tensor, ...]) -> Tensor:
        return super().forward(observations)[:, 1:]


class Wrong(MLP):
    """Multiplies what does not fit."""

    def forward(self, observations: tuple[Tensor, ...]) -> Tensor:
        return super().forward(observations) @ torch.zeros(3, 3)


@pytest.mark.parametrize(
    ("torso", "message"),
    [
        (Narrow, r"--torso mine:T: expected features \[N, 64\], as its output_size says, got \[63\] of a row"),
        (Wrong, r"--torso mine:T: expected to read \[1, 1, 4\], got RuntimeError: .*test_body\.py, line \d+\)"),
    ],
)
def test_a_torso_that_does_not_fit_is_refused(
    torso: type[Torso], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body, "find_torso", lambda name: torso)
    config = NetworkConfig(torso="mine:T", frame_stack=1, precision="float32")
    with pytest.raises(UsageError, match=message):
        Body(SHOWN, ActionSpace((discrete("action", 2),)), config)
