"""The layout of unrolls that a configuration, an environment and an algorithm make together."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from seedbed.common.options import override
from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.server.algorithms.registry import ALGORITHMS, find_algorithm
from seedbed.server.run.state import RunState
from seedbed.server.training.assemble import assemble, make_layout
from seedbed.server.training.resolve import defaults_of

SPEC = EnvironmentSpec(
    environment="vectors",
    observations=(
        ArraySpec(name="/a", dtype="float32", shape=(3,)),
        ArraySpec(name="/b", dtype="float32", shape=(2,)),
    ),
    actions=(discrete("action", 2),),
)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_layout_of_every_algorithm(name: str) -> None:
    config = override(defaults_of(name), {"network.frame_stack": 3, "network.torso": "mlp"})
    box = ArraySpec(name="action", dtype="float32", shape=(2,), low=(-1,), high=(1,))
    spec = SPEC if find_algorithm(name).suits(SPEC) is not None else replace(SPEC, actions=(box,))
    algorithm = find_algorithm(name)(config, spec)
    layout = make_layout(config, spec, algorithm, algorithm.acting(algorithm.make_learnt()))
    assert layout.frame_stacks == (3, 3)
    assert layout.blocks == (1, 1)
    assert [part.dtype for part in layout.state_specs] == [torch.float32] * len(layout.state_specs)
    assert bool(layout.stagger) == (algorithm.regime == "queue")
    trained = len(layout.trained_rows)
    assert trained == config.learning.unroll_length
    assert {"queue": trained == layout.period, "rounds": trained == layout.period, "replay": True}[algorithm.regime]


def test_the_rows_that_r2d2_and_apex_train_on() -> None:
    """As published: 80 after 40 of burn-in, every 40; and without burn-in, with n - 1 rows of lookahead."""
    changes = {"learning.unroll_length": 80, "algorithm_options.n_step": 5}
    r2d2 = find_algorithm("r2d2")(override(defaults_of("r2d2"), {**changes, "network.core": "lstm"}), SPEC)
    assert (r2d2.trained_rows, r2d2.num_rows, r2d2.period) == (range(40, 120), 121, 40)
    apex = find_algorithm("apex")(override(defaults_of("apex"), changes), SPEC)
    assert (apex.trained_rows, apex.num_rows, apex.period) == (range(80), 85, 80)


def test_evaluation_and_training_are_assembled_alike_but_for_what_learns() -> None:
    config = override(defaults_of("a2c"), {"network.torso": "mlp", "network.precision": "float32", "fleet.num_envs": 2})
    training = assemble(config, SPEC)
    assert training.rows_of_a_round == training.algorithm.num_rows
    state = RunState(learner=training.learner.get_state(), agent_steps=7)
    shown = assemble(override(config, {"run.train": False}), SPEC, state)
    assert shown.rows_of_a_round is None, "nobody learns, so nobody waits"
    ours, theirs = shown.parameters.acquire()[0], training.parameters.acquire()[0]
    assert all(torch.equal(x, y) for x, y in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert len(shown.source) == 0
