"""What is told of another run whose weights do not fit."""

from __future__ import annotations

from pathlib import Path

from seedbed.common.options import override, to_json
from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.server.run.directory import RunDirectory, RunFile
from seedbed.server.training.opening import OpenedRun
from seedbed.server.training.resolve import defaults_of
from seedbed.server.training.restoring import _differences

SPEC = EnvironmentSpec(
    environment="x",
    observations=(ArraySpec(name="observation", dtype="float32", shape=(3,)),),
    actions=(discrete("action", 2),),
)


def test_the_algorithm_explains_more_than_the_network_and_that_more_than_the_environment() -> None:
    ppo = defaults_of("ppo")
    here = OpenedRun(ppo, SPEC, RunDirectory(Path("new")), None)
    lstm = override(ppo, {"network.core": "lstm", "network.core_size": 64})
    for there, told in (
        (override(defaults_of("sac"), {"network.core_size": 64}), ["sac there, ppo here"]),
        (lstm, ["--core lstm there, none here", "--core-size 64 there, 256 here"]),
        (ppo, []),
    ):
        assert _differences(RunFile(to_json(there), SPEC, "0"), here) == told
    elsewhere = EnvironmentSpec(environment="y", observations=SPEC.observations, actions=SPEC.actions)
    assert _differences(RunFile(to_json(ppo), elsewhere, "0"), here) == ["environment: 'x' here, 'y' there"]
