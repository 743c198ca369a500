"""The rate limiter: no halt in any order of calls, the ratio it promises, and configurations it must refuse."""

from __future__ import annotations

import itertools
import random

import pytest

from seedbed.common.errors import UsageError
from seedbed.common.options import override
from seedbed.server.experience.rate_limiter import RateLimiter, roomy_tolerance
from seedbed.server.presets.registry import preset_values
from seedbed.server.training.resolve import defaults_of


def make(samples_per_insert: float, batch_size: int, tolerance: float, min_size: int = 5) -> RateLimiter:
    return RateLimiter(
        samples_per_insert=samples_per_insert, min_size=min_size, tolerance=tolerance, batch_size=batch_size
    )


def deficit(limiter: RateLimiter, samples_per_insert: float, min_size: int = 5) -> float:
    return samples_per_insert * (limiter.inserts - min_size) - limiter.samples


RATIOS = list(itertools.product([0.25, 0.75, 1.0, 1.5, 4.0, 7.3, 100.0], [1, 2, 8, 64]))


@pytest.mark.parametrize(("samples_per_insert", "batch_size"), RATIOS)
def test_at_the_smallest_tolerance_one_side_may_always_go_on(samples_per_insert: float, batch_size: int) -> None:
    """Both eager ones and a random mixture: whatever the order, there is no state in which both must wait."""
    tolerance = (batch_size + samples_per_insert) / 2
    for preference in (0.0, 0.3, 0.7, 1.0):
        limiter, coin = make(samples_per_insert, batch_size, tolerance), random.Random(0)
        for _ in range(3000):
            may_insert, may_sample = limiter.num_inserts_allowed() > 0, limiter.may_sample(batch_size)
            assert may_insert or may_sample
            if may_insert and (not may_sample or coin.random() < preference):
                limiter.inserts += 1
            else:
                limiter.samples += batch_size
            if limiter.inserts >= 5:
                assert abs(deficit(limiter, samples_per_insert)) <= tolerance + 1e-9
        ratio = limiter.samples / (limiter.inserts - 5)
        assert ratio == pytest.approx(samples_per_insert, abs=2 * tolerance / (limiter.inserts - 5))


@pytest.mark.parametrize("insert_size", [4, 16])
@pytest.mark.parametrize(("samples_per_insert", "batch_size"), RATIOS)
def test_inserts_of_several_at_once_never_halt_either(
    samples_per_insert: float, batch_size: int, insert_size: int
) -> None:
    """Each brings from none to `insert_size`, which nobody knows before."""
    tolerance = (batch_size + samples_per_insert * insert_size) / 2
    limiter = RateLimiter(
        samples_per_insert=samples_per_insert,
        min_size=5,
        tolerance=tolerance,
        batch_size=batch_size,
        insert_size=insert_size,
    )
    random_ = random.Random(1)
    for _ in range(3000):
        may_insert, may_sample = limiter.num_inserts_allowed() > 0, limiter.may_sample(batch_size)
        assert may_insert or may_sample
        if may_insert and (not may_sample or random_.random() < 0.5):
            limiter.inserts += random_.randint(0, insert_size)
        else:
            limiter.samples += batch_size
    ratio = limiter.samples / (limiter.inserts - 5)
    overshoot = samples_per_insert * insert_size  # of the insert that ends the waiting for the smallest size
    assert ratio == pytest.approx(samples_per_insert, abs=(2 * tolerance + overshoot) / (limiter.inserts - 5))


@pytest.mark.parametrize(("samples_per_insert", "batch_size"), RATIOS)
def test_anything_smaller_is_refused(samples_per_insert: float, batch_size: int) -> None:
    with pytest.raises(UsageError, match=r"--replay-tolerance of at least .* both sides could wait for ever"):
        make(samples_per_insert, batch_size, (batch_size + samples_per_insert) / 2 - 0.01)


def test_a_smaller_tolerance_does_halt() -> None:
    """The rule is no stricter than it must be: at a deficit between the two bounds neither side may go on."""
    limiter = make(4.0, 8, 6.0, min_size=1)
    limiter._tolerance = 5.9
    limiter.inserts, limiter.samples = 1, 0
    limiter.inserts = 2  # deficit 4: an insert needs at most 1.9, a batch at least 2.1
    limiter.samples = 2
    assert not limiter.num_inserts_allowed()
    assert not limiter.may_sample(8)


def test_nothing_is_drawn_before_the_smallest_size() -> None:
    limiter = make(1.0, 4, 10.0)
    assert limiter.num_inserts_allowed() == 5
    limiter.inserts = 4
    assert limiter.num_inserts_allowed() == 1
    assert not limiter.may_sample(4)
    limiter.inserts = 5
    assert limiter.may_sample(4)
    assert limiter.num_inserts_allowed() == 10


@pytest.mark.parametrize(("samples_per_insert", "min_size"), [(0.0, 1), (-1.0, 1), (float("nan"), 1), (1.0, 0)])
def test_options_that_make_no_sense(samples_per_insert: float, min_size: int) -> None:
    with pytest.raises(UsageError, match="samples-per-insert above 0"):
        make(samples_per_insert, 1, 10.0, min_size)


@pytest.mark.parametrize(
    ("preset", "algorithm"), [("pong", "r2d2"), ("pong", "apex"), ("cartpole", "r2d2"), ("memory", "r2d2")]
)
def test_by_default_an_unroll_of_every_environment_goes_in_at_once(preset: str, algorithm: str) -> None:
    """They come together, since environments start together: else the learner waits while the next ones are made."""
    config = override(defaults_of(algorithm), preset_values(preset, algorithm))
    num_envs, batch_size = config.fleet.num_envs, config.learning.batch_size
    per_insert = config.algorithm_options.replay.samples_per_insert
    tolerance = roomy_tolerance(samples_per_insert=per_insert, batch_size=batch_size, num_environments=num_envs)
    limiter = make(per_insert, batch_size, tolerance)
    limiter.inserts = 5
    while limiter.num_inserts_allowed():  # as far as actors may be ahead
        limiter.inserts += 1
    ahead = limiter.samples
    while limiter.may_sample(batch_size):
        limiter.samples += batch_size
    assert limiter.samples - ahead >= num_envs * per_insert, "what the learner draws while they make the next unrolls"
    assert limiter.num_inserts_allowed() >= num_envs
