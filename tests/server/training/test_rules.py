"""Rules about what an environment shows, and presets beside another environment."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from seedbed.common.options import flatten
from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.server.algorithms.registry import ALGORITHMS
from seedbed.server.options.config import ServerConfig
from seedbed.server.presets.registry import PRESETS
from seedbed.server.training.command_line import Given, read_command_line
from seedbed.server.training.resolve import resolve
from seedbed.server.training.rules import rules

SCREEN = ArraySpec(name="screen", dtype="uint8", shape=(84, 84), low=(0,), high=(255,))
RGB = dataclasses.replace(SCREEN, name="rgb", shape=(84, 84, 3))
STATE = ArraySpec(name="state", dtype="float32", shape=(4,))


def spec_of(*shown: ArraySpec, preset: str = "") -> EnvironmentSpec:
    return EnvironmentSpec(
        environment="x", preset=preset, observations=shown or (STATE,), actions=(discrete("action", 3),)
    )


def given(*argv: str) -> Given:
    return read_command_line(argv, prog="seedbed train")


def values_of(spec: EnvironmentSpec, *argv: str) -> dict[str, Any]:
    return flatten(resolve(given(*argv), spec))


def test_rules_name_options_that_exist() -> None:
    assert set(rules(spec_of())) <= set(flatten(ServerConfig()))
    assert set(rules(spec_of())) == set(rules(spec_of(SCREEN)))


def test_images_and_vectors_have_defaults_of_their_own() -> None:
    shown = ((SCREEN,), (STATE,), (SCREEN, STATE))
    screen, state, both = (values_of(spec_of(*arrays), "--algorithm", "vtrace") for arrays in shown)
    names = ["network.torso", "network.frame_stack", "network.precision", "fleet.num_envs", "run.max_steps"]
    names.append("learning.batch_size")
    assert [screen[name] for name in names] == ["auto", 4, "bfloat16", 64, 20_000_000, 32]
    assert [state[name] for name in names] == ["auto", 1, "float32", 16, 1_000_000, 8]
    assert [both[name] for name in names] == ["auto", None, "bfloat16", 64, 20_000_000, 32]
    assert values_of(spec_of(RGB))["network.frame_stack"] == 1
    assert values_of(spec_of(STATE), "--num-envs", "5")["fleet.num_envs"] == 5


def test_attention_is_not_had_twice_nor_gone_over_ten_times() -> None:
    def of(*argv: str) -> tuple[Any, Any]:
        values = values_of(spec_of(), "--algorithm", *argv)
        return values.get("algorithm_options.epochs"), values.get("algorithm_options.separate_value_torso")

    assert of("ppo") == of("ppo", "--core", "lstm") == (10, True)
    assert of("ppo", "--core", "gtrxl") == of("ppo", "--core", "trxl") == (4, False)
    assert of("ppo", "--core", "gtrxl", "--epochs", "7", "--separate-value-torso") == (7, True)
    assert of("vtrace", "--core", "gtrxl") == (None, False)
    assert of("pqn", "--core", "gtrxl") == of("pqn")
    assert of("r2d2", "--core", "gtrxl") == (None, None)


def test_the_median_of_pixels_is_the_background() -> None:
    def background(*medians: float | None, **changes: Any) -> float:
        arrays = [
            dataclasses.replace(SCREEN, name=f"{i}", median=median, **changes) for i, median in enumerate(medians)
        ]
        return float(values_of(spec_of(*arrays, STATE))["network.background"])

    assert background(87.0) == background(87.0, 87.0) == 87.0
    assert background(None) == background(87.0, 12.0) == background(87.0, shape=(7, 7, 3)) == 0.0
    seen = spec_of(dataclasses.replace(SCREEN, median=87.0), preset="paper")
    assert values_of(seen, "--preset", "pong")["network.background"] == 87.0, "a preset has none of its own"
    assert values_of(seen, "--preset", "pong", "--background", "0")["network.background"] == 0.0


def test_only_the_presets_of_atari_clip_rewards() -> None:
    assert values_of(spec_of(SCREEN, preset="modern"))["learning.reward_clipping"] == "abs_one"
    assert values_of(spec_of(SCREEN))["learning.reward_clipping"] == "none"
    assert values_of(spec_of(SCREEN, preset="modern"), "--algorithm", "r2d2")["learning.reward_clipping"] == "none", (
        "an algorithm's own settings win over rules"
    )


def test_what_is_chosen_goes_by_what_is_shown() -> None:
    """Pixels are dear, and each is learnt from once; everything else is gone over again and again."""
    grid = ArraySpec(name="grid", dtype="uint8", shape=(7, 7, 3), low=(0,), high=(255,))
    bits = ArraySpec(name="bits", dtype="uint8", shape=(10, 10, 4), low=(0,), high=(1,), kind="binary")
    chosen = {shown: values_of(spec_of(*shown)) for shown in ((SCREEN,), (STATE,), (grid,), (bits,), (SCREEN, STATE))}
    names = ["algorithm", "fleet.num_envs", "learning.unroll_length", "algorithm_options.popart"]
    names += ["network.normalise_observations", "algorithm_options.separate_value_torso"]
    assert [chosen[shown,]["algorithm_options.epochs"] for shown in (STATE, grid, bits)] == [10, 4, 4]
    assert {shown: [values[name] for name in names] for shown, values in chosen.items()} == {
        (SCREEN,): ["vtrace", 64, 20, "on", "off", False],
        (STATE,): ["ppo", 16, 64, "on", "on", True],
        (grid,): ["ppo", 16, 64, "on", "on", False],
        (bits,): ["ppo", 16, 64, "on", "off", False],
        (SCREEN, STATE): ["vtrace", 64, 20, "on", "on", False],
    }
    atari = values_of(spec_of(SCREEN, preset="modern"))
    assert (atari["algorithm"], atari["algorithm_options.popart"]) == ("vtrace", "off"), "its rewards are clipped"
    published = values_of(spec_of(SCREEN), "--algorithm", "ppo")
    assert (published["learning.unroll_length"], published["algorithm_options.epochs"]) == (128, 4)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_keeps_the_algorithm_that_it_was_measured_with(preset: str) -> None:
    found = values_of(spec_of(STATE), "--preset", preset)
    assert found["algorithm"] == {"pendulum": "sac", "detour": "ppo"}.get(preset, "vtrace")
    assert values_of(spec_of(STATE), "--preset", preset, "--algorithm", "ppo")["algorithm"] == "ppo"
    assert found["network.normalise_observations"] == found.get("algorithm_options.popart", "off") == "off"


def test_auto_is_what_the_rules_say_whatever_the_preset_says() -> None:
    def normalised(*argv: str) -> str:
        return str(values_of(spec_of(), *argv)["network.normalise_observations"])

    ruled = normalised()
    assert ruled in ("on", "off"), "config.json has what it came to"
    assert normalised("--normalise-observations", "on") == "on"
    assert normalised("--preset", "cartpole") == "off"
    assert normalised("--preset", "cartpole", "--normalise-observations", "auto") == ruled
    assert values_of(spec_of(), "--device", "auto")["run.device"] == "auto", "no rule knows it"
    unsaid, said = (values_of(spec_of(SCREEN), "--algorithm", "pqn", *flags) for flags in ((), ("--torso", "auto")))
    assert [unsaid["network.torso"], said["network.torso"]] == ["nature", "auto"], "it is a torso's name"


@pytest.mark.parametrize("algorithm", ["r2d2", "apex"])
def test_published_networks_are_for_what_they_can_read(algorithm: str) -> None:
    shown = {(SCREEN,): "nature", (RGB,): "nature", (STATE,): "auto", (SCREEN, STATE): "auto"}
    shown[(dataclasses.replace(SCREEN, shape=(20, 84)),)] = "auto"
    for arrays, torso in shown.items():
        assert values_of(spec_of(*arrays), "--algorithm", algorithm)["network.torso"] == torso


RULED = {
    "pong": ("impala_shallow", 4, "bfloat16", "abs_one", 64, 6_000_000, 10.0),
    "cartpole": ("mlp", 1, "float32", "none", 32, 1_000_000, 2.0),
    "catch": ("mlp", 1, "float32", "abs_one", 32, 1_000_000, 2.0),
    "memory": ("mlp", 1, "float32", "abs_one", 32, 1_000_000, 2.0),
    "pendulum": ("mlp", 1, "float32", "none", 32, 1_000_000, 2.0),
    "detour": ("mlp", 1, "float32", "none", 32, 400_000, 2.0),
}
"""Torso, frame stack, precision, reward clipping, environments, steps, seconds between log lines."""


@pytest.mark.parametrize("shown", [(SCREEN,), (STATE,)], ids=["screen", "state"])
@pytest.mark.parametrize("preset", PRESETS)
def test_presets_depend_on_no_rule(preset: str, shown: tuple[ArraySpec, ...]) -> None:
    """What was measured with them stays reproducible, whatever the rules say one day."""
    torso, stack, precision, clipping, num_envs, max_steps, log_interval_s = RULED[preset]
    found = values_of(spec_of(*shown), "--preset", preset, "--algorithm", "vtrace")
    assert found["network.torso"] == torso
    assert (found["network.frame_stack"], found["network.precision"]) == (stack, precision)
    assert found["learning.reward_clipping"] == clipping
    assert found["fleet.num_envs"] == num_envs
    assert (found["run.max_steps"], found["run.log_interval_s"]) == (max_steps, log_interval_s)
    for algorithm in ALGORITHMS:
        other = values_of(spec_of(*shown), "--preset", preset, "--algorithm", algorithm)
        named = {*PRESETS[preset][0], *PRESETS[preset][1].get(algorithm, {})}
        free = {"network.background"} | ({"learning.batch_size"} if preset == "pong" else set())
        assert set(rules(spec_of())) - named <= free
        assert other["learning.reward_clipping"] == ("none" if algorithm == "r2d2" else clipping)


def test_a_preset_beside_another_environment_keeps_its_settings_and_gives_up_what_is_its_own() -> None:
    argv = ("--preset", "cartpole", "--env", "LunarLander-v3")
    found = values_of(spec_of(STATE), *argv)
    assert found["run.target_return"] is None
    assert found["learning.discount"] == 0.98
    assert found["network.torso"] == "auto"
    assert given(*argv).directory.path == Path("runs/LunarLander-v3")
    assert given(*argv).run.target_return is None
    assert given("--preset", "cartpole", "--env", "CartPole-v1").directory.path == Path("runs/cartpole")
    assert values_of(spec_of(STATE), *argv, "--target-return", "200")["run.target_return"] == 200
    game = values_of(spec_of(SCREEN, preset="paper"), "--preset", "pong", "--env", "ALE/Breakout-v5")
    assert game["learning.batch_size"] == 8
    assert game["learning.reward_clipping"] == "abs_one"
    assert values_of(spec_of(STATE), "--preset", "catch", "--env", "x")["learning.reward_clipping"] == "none"


def test_unrolls_of_a_replay_are_fewer_where_they_are_drawn_whole() -> None:
    def of(*argv: str) -> tuple[Any, Any]:
        values = values_of(spec_of(), "--algorithm", *argv)
        return values["learning.unroll_length"], values["learning.batch_size"]

    assert of("sac") == (8, 256)
    assert of("sac", "--core", "lstm") == of("sac", "--core", "gtrxl") == (20, 16)
    assert of("sac", "--core", "lstm", "--batch-size", "64") == (20, 64)
    assert of("r2d2", "--core", "lstm") == of("r2d2")
