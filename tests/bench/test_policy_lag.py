"""The ablation of policy lag: both arms are the same but for the importance weights, and lag is what was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from seedbed.common.options import to_json
from tests.bench.lockstep import Lockstep
from tests.bench.policy_lag import Result, configure, draw, row, train


def test_the_two_arms_differ_in_their_weights_alone(tmp_path: Path) -> None:
    """Their gradients are equal on-policy (test_actor_critic_family.py), so with one configuration nothing else can."""

    def config_of(algorithm: str) -> dict[str, Any]:
        return to_json(configure(algorithm, 50, 3, 1000, tmp_path))

    ours, theirs = config_of("vtrace"), config_of("a3c")
    assert {name for name in ours if ours[name] != theirs[name]} == {"algorithm", "algorithm_options"}
    assert ours["learning"]["publish_every"] == 50
    assert ours["environment"]["seed"] == 3
    v_trace, a3c = ours["algorithm_options"], theirs["algorithm_options"]
    assert {name: v_trace[name] for name in a3c} == a3c
    assert v_trace["lambda_"] == 1, "at which both advantages of V-trace are A3C's, but for the weights"
    assert [v_trace[name] for name in ("clip_rho", "clip_c", "clip_pg_rho")] == [1, 1, 1]


@pytest.mark.parametrize("publish_every", [1, 6])
def test_in_lockstep_actors_get_every_kth_version(tmp_path: Path, publish_every: int) -> None:
    run = Lockstep(configure("vtrace", publish_every, 0, 1500, tmp_path))
    run.run()
    lags = [int(metrics["policy_lag_max"]) for metrics in run.metrics]
    assert len(lags) > 12
    assert max(lags[publish_every:]) >= publish_every - 1 + (publish_every > 1)
    assert max(lags) <= publish_every - 1 + 32 / 8 * 2 + 1, (
        "a turn of 32 unrolls is 4 updates, each in the queue or open"
    )
    assert len(run.returns) == 100


def test_a_run_in_lockstep_comes_out_the_same_again(tmp_path: Path) -> None:
    first, again = (train(configure("a3c", 3, 1, 800, tmp_path)) for _ in range(2))
    assert first == again
    assert first != train(configure("a3c", 3, 2, 800, tmp_path))


def test_entropy_is_that_of_the_end_and_the_rest_of_the_whole_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(self: Lockstep) -> None:
        for update in range(20):
            values = {"policy_lag_mean": update, "abs_log_rho_mean": 2 * update, "entropy": 100 - update}
            self.metrics.append({name: torch.tensor(float(value)) for name, value in values.items()})
        self.returns.extend([1.0, 0.0])

    monkeypatch.setattr(Lockstep, "run", run)
    result = train(configure("vtrace", 1, 0, 1000, tmp_path))
    assert result == Result(lag=9.5, abs_log_rho=19.0, entropy=81.5, episode_return=0.5)


def test_a_row_has_the_means_of_the_seeds_and_the_return_of_each() -> None:
    results = [Result(20.0, 0.1, 0.1, -0.6), Result(30.0, 0.4, 0.3, 0.98)]
    assert row("a3c", 50, results) == "| a3c | 50 | 25.0 | 0.250 | 0.20 | -0.60, 0.98 |"


def test_the_picture_has_every_lag(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    cells = {(name, k): [Result(k / 2, 0.1, 0.5, 0.9)] * 2 for name in ("vtrace", "a3c") for k in (1, 50)}
    draw(cells, tmp_path / "lag.png")
    assert (tmp_path / "lag.png").read_bytes().startswith(b"\x89PNG")
