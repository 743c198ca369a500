"""`seedbed check`: an environment tried out: its spaces, its seeds, a thousand random steps, and how fast it is."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from seedbed.common.environment_options import CareOptions, EnvironmentOptions
from seedbed.common.errors import SeedbedError, SpecError, UsageError
from seedbed.common.image_layout import cost_remark
from seedbed.common.logs import run_main, setup_logging
from seedbed.common.options import OptionParser, add_options, explicit, option, override, to_argv
from seedbed.common.plugins import Trust, start_directory
from seedbed.common.specs import EnvironmentSpec
from seedbed.common.timestep import LARGEST, Array, is_usable
from seedbed.env_client.environments.building import Care, careful_builder, describe
from seedbed.env_client.environments.interface import Environment, Limits, Status, remarks_of
from seedbed.env_client.environments.making import told
from seedbed.env_client.environments.random_actions import some_action
from seedbed.env_client.environments.registry import Builder
from seedbed.env_client.environments.shown import out_of_bounds

_SEEDED_STEPS = 200
_SEEDS = (7, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOptions:
    """check"""

    steps: int = option(1000, "random steps", minimum=1)
    import_from: Path | None = option(None, "where --env is looked for last", metavar="DIR", hidden=True)
    environment: EnvironmentOptions = field(default_factory=EnvironmentOptions)
    care: CareOptions = field(default_factory=CareOptions)


@dataclass(slots=True)
class Findings:
    """What was found out.

    Attributes:
        name: of the environment.
        facts: (title, text), as far as the environment could be used.
        remarks: what its user should know.
        refusals: why nothing can be learnt from it.
    """

    name: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """One page."""
        width = max((len(title) for title, _ in self.facts), default=0)
        lines = [self.name, *(f"  {title:<{width}}  {text}" for title, text in self.facts)]
        return "\n".join([*lines, *(f"  remark: {text}" for text in self.remarks)])


def main(argv: Sequence[str]) -> int:
    """Checks and prints; returns the exit code.

    Raises:
        UsageError: wrong options.
        SeedbedError: the environment cannot be made, or is refused.
    """
    parser = OptionParser("seedbed check", "Try an environment out.", operands="ENV")
    parser.add_argument("env_id", metavar="ENV", nargs="?", help="the same as --env")
    add_options(parser, CheckOptions())
    namespace = parser.parse(argv)
    options = override(CheckOptions(), explicit(namespace, CheckOptions()))
    if namespace.env_id is not None:
        options = override(options, {"environment.env": namespace.env_id})
    if options.environment.env is None:
        raise UsageError("expected an environment: seedbed check ENV")
    if options.care.vector != "none":
        raise UsageError("expected --vector with `seedbed env` or `seedbed train`: one environment is tried out here")
    setup_logging("check")
    care = Care(
        trust=Trust(allow_import=True, start_directory=start_directory(options.import_from)),  # it was typed
        isolate=options.care.isolate,
        limits=Limits(step_s=options.care.step_timeout_s, reset_s=options.care.reset_timeout_s),
    )
    findings = check_environment(options.environment, care, options.steps)
    print(findings)
    if findings.refusals:
        raise SpecError(f"refused: {findings.refusals[0]}")
    print(f"\nseedbed train {shlex.join(_given(options.environment))}")
    return 0


def check_environment(options: EnvironmentOptions, care: Care | None = None, steps: int = 1000) -> Findings:
    """Tries an environment out.

    Args:
        options: which.
        care: how much it is trusted.
        steps: random ones.

    Raises:
        SeedbedError: it cannot even be made.
    """
    care = care or Care()
    findings = Findings(options.env_name)
    try:
        spec = describe(options.env_name, options.atari_preset, care)
    except SpecError as error:
        findings.refusals.append(str(error))
        return findings
    findings.facts += _spaces(spec)
    if (remark := cost_remark(spec)) is not None:
        findings.remarks.append(remark)
    build = careful_builder(options.env_name, options.atari_preset, care)
    try:
        _check_seeds(build, findings)
        _check_steps(build, findings, steps)
    except SeedbedError as error:
        findings.refusals.append(str(error))
    return findings


class _Play:
    """Random episodes of one environment.

    Args:
        environment: closed by `close`.
        seed: of the actions.
    """

    def __init__(self, environment: Environment, seed: int) -> None:
        self._environment = environment
        self._rng = np.random.default_rng(seed)
        self.spec = environment.spec
        self.row = tuple(np.zeros(array.shape, array.numpy_dtype) for array in self.spec.observations)
        self._over = True
        self.reset_s: list[float] = []
        self.step_s = 0.0

    def advance(self) -> tuple[float, Status] | None:
        """A step, or a reset where one is due: None.

        Raises:
            SpecError: it raised, or showed or paid what is no number.
        """
        resets, self._over = self._over, False
        action = None if resets else some_action(self.spec, self.row, self._rng)
        began_s, result = time.perf_counter(), None
        try:
            if action is None:
                self._environment.reset(self.row)
                self.reset_s.append(time.perf_counter() - began_s)
            else:
                result = self._environment.step(action, self.row)
                self.step_s += time.perf_counter() - began_s
                self._over = result[1] is not Status.RUNNING
        except SeedbedError:
            raise
        except (Exception, SystemExit) as fault:
            raise SpecError(f"a {'reset' if resets else 'step'} raised {told(fault)}") from fault
        for array, spec in zip(self.row, self.spec.observations, strict=True):
            if array.dtype.kind == "f" and not is_usable(array):
                raise SpecError(
                    f"{spec.name!r} is not finite, or beyond {LARGEST:g}, after a {'reset' if resets else 'step'}"
                )
        if result is not None and not abs(result[0]) <= LARGEST:
            raise SpecError(f"expected a finite reward of at most {LARGEST:g}, got {result[0]}")
        return result

    @property
    def remarks(self) -> list[str]:
        """What the environment says of its first reset and step."""
        return remarks_of(self._environment)

    def close(self) -> str | None:
        """Closes the environment; returns what that raised."""
        try:
            self._environment.close()
        except (Exception, SystemExit) as fault:
            return f"close() raised {told(fault)}: what it holds may stay open"
        return None


def _spaces(spec: EnvironmentSpec) -> list[tuple[str, str]]:
    facts = []
    for title, arrays in (("observation", spec.observations), ("action", spec.actions)):
        facts += [(title, str(array) if array.name == title else f"{array.name}: {array}") for array in arrays]
    up, down = (sum(array.row_bytes for array in arrays) for arrays in (spec.observations, spec.actions))
    return [*facts, ("bytes", f"{up:,} a step to the server, {down:,} back")]


def _check_seeds(build: Builder, findings: Findings) -> None:
    """Whether the same seed gives the same steps under the same actions, and another seed others."""
    same = _first_difference(build, _SEEDS[0], _SEEDS[0])
    if same is not None:
        findings.remarks.append(f"the same seed gives other episodes from step {same} on: runs cannot be repeated")
    other = _first_difference(build, *_SEEDS)
    if other is None:
        findings.remarks.append(
            f"another seed gives the same {_SEEDED_STEPS} steps: fine if nothing in it is left to chance"
        )
    texts = ["same seed, same episodes" if same is None else "same seed, other episodes"]
    texts.append("another seed, the same" if other is None else "another seed, others")
    findings.facts.append(("seeds", "; ".join(texts)))


def _first_difference(build: Builder, *seeds: int) -> int | None:
    """The step at which two environments under the same actions begin to differ."""
    plays = [_Play(build(0, seed), seed=1) for seed in seeds]
    try:
        for step in range(_SEEDED_STEPS):
            results = [play.advance() for play in plays]
            rows: list[tuple[Array, ...]] = [play.row for play in plays]
            if results[0] != results[1] or not all(map(np.array_equal, *rows)):
                return step
    finally:
        for play in plays:
            play.close()
    return None


def _check_steps(build: Builder, findings: Findings, steps: int) -> None:
    """Random steps: what they cost, how episodes end, and what is shown outside of its bounds."""
    play = _Play(build(0, _SEEDS[0]), seed=2)
    lengths, returns, length, total = [], [], 0, 0.0
    ends = {Status.TERMINATED: 0, Status.TRUNCATED: 0}
    outside: set[str] = set()
    taken, forbids = 0, False
    try:
        while taken < steps:
            if (result := play.advance()) is None:
                continue
            taken, length, total = taken + 1, length + 1, total + result[0]
            outside |= {
                f"{spec.name!r} left its bounds, {spec}"
                for spec, array in zip(play.spec.observations, play.row, strict=True)
                if out_of_bounds(spec, array)
            }
            forbids |= result[1] not in ends and any(
                spec.role == "action_mask" and not array.any()
                for spec, array in zip(play.spec.observations, play.row, strict=True)
            )
            if result[1] in ends:
                ends[result[1]] += 1
                lengths.append(length)
                returns.append(total)
                length, total = 0, 0.0
    finally:
        if (remark := play.close()) is not None:
            findings.remarks.append(remark)
    findings.facts.append(
        ("steps", f"{steps:,} random ones" + (f", {_shown(lengths, returns, ends)}" if lengths else ""))
    )
    speed = f"{steps / play.step_s:,.0f} steps/s in one thread"
    if resets := play.reset_s[1:]:  # the first may have been done while it was built, to look for a mask
        speed += f", {1000 * float(np.mean(resets)):.3g} ms a reset"
    findings.facts.append(("speed", speed))
    findings.remarks += play.remarks + sorted(outside)
    if forbids:
        findings.remarks.append("an action mask forbids everything before an episode's end: it counts for none")
    if not lengths:
        findings.remarks.append(f"no episode ended within {steps:,} steps: --max-episode-steps cuts them")


def _shown(lengths: list[int], returns: list[float], ends: dict[Status, int]) -> str:
    terminated, truncated = ends[Status.TERMINATED], ends[Status.TRUNCATED]
    if len(lengths) == 1:
        return f"1 episode ({'terminated' if terminated else 'truncated'}) of {lengths[0]} steps, return {returns[0]:g}"
    return (
        f"{len(lengths)} episodes ({terminated} terminated, {truncated} truncated) of {min(lengths)} to {max(lengths)} "
        f"steps, returns from {min(returns):g} to {max(returns):g}"
    )


def _given(options: EnvironmentOptions) -> list[str]:
    """The command line that says what differs from the defaults."""
    usual = set(to_argv(EnvironmentOptions()))
    return [word for word in to_argv(options) if word not in usual]


if __name__ == "__main__":
    sys.exit(run_main(main))
