"""The tables of several learners that learn: which rows there are, what is shared out, and how they read."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from seedbed.server.run.directory import METRICS_FILE
from tests.bench import paced
from tests.bench.replica_learning import TARGETS, Row, bound_of, report, rows_of


def values_of(row: Row) -> dict[str, str]:
    words = row.options
    return {words[i]: words[i + 1] for i in range(0, len(words), 2)}


def test_environments_and_batches_are_shared_out() -> None:
    alone, three = (values_of(Row("catch", "all_reduce", "r2d2", count)) for count in (1, 3))
    assert (alone["--num-envs"], alone["--batch-size"], alone["--replay-capacity"]) == ("16", "16", "5000")
    assert (three["--num-envs"], three["--batch-size"], three["--replay-capacity"]) == ("6", "6", "1667")
    assert "--exchange" not in alone
    served = values_of(Row("catch", "parameter_server", "n_step_q", 3))
    assert served["--batch-size"] == "4", "gradients come one by one"
    assert {row.task for row in rows_of(list(TARGETS), [2])} == set(TARGETS)
    assert len({(row.task, row.name) for row in rows_of(list(TARGETS), [1, 2, 3])}) == 30


def test_the_bound_is_that_of_a_ring() -> None:
    """Four learners, news of the update before: b is cos(pi / 4), delayed by b^(-1/2); half of sqrt(2) spreads."""
    beta = math.cos(math.pi / 4)
    assert bound_of(4, 0.01, 0) == pytest.approx(math.sqrt(4) * 0.01 * beta / (1 - beta) * beta**-0.5 / math.sqrt(2))
    assert bound_of(4, 0.02, 3) == pytest.approx(2 * bound_of(4, 0.01, 3))


def test_a_gossip_has_a_line_in_both_tables(tmp_path: Path) -> None:
    run = tmp_path / "paced" / "gossip-a2c-3" / "seed-1"
    for place, distance in ((run, 0.1), (run / "replicas" / "1", 0.3)):
        place.mkdir(parents=True)
        line = {
            **{"cohort_return_mean": 1.0, "cohort_return_median": 1.0, "agent_steps": 2000, "updates": 30},
            **{"wall_s": 90.0, "gossip_step_norm_max": 0.2, "gossip_distance_max": distance, "gossip_age_max": 2.0},
        }
        (place / METRICS_FILE).write_text(json.dumps(line) + "\n")
    run.with_suffix(".log").write_text("reached a mean return of 0.95; 2,000 agent steps\n")
    told = report(rows_of(["paced"], []), tmp_path)
    assert "| gossip | `a2c` | 3 | 1: 1.00 | 2 | 30 | 1.5 |" in told
    assert f"| paced, seed 1 | 0.2 | 0.3 | {bound_of(3, 0.2, 2):.3g} |" in told


def test_environments_of_one_learner_sleep_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(paced.time, "sleep", slept.append)
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        environment = paced.make(2.0, slow_rank=1)
        observation, _ = environment.reset(seed=5)
        assert observation.sum() == 2
        steps = [environment.step(np.int64(1)) for _ in range(9)]
        assert [step[2] for step in steps] == [False] * 8 + [True]
        assert steps[-1][1] in (1.0, -1.0)
    assert slept == pytest.approx([0.002] * 9 + [0.006] * 9)
