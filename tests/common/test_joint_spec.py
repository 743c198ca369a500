"""Specs of several tasks: which fit together, and what a smaller one is filled up to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from seedbed.common.errors import SpecError
from seedbed.common.joint_spec import join, padded, served
from seedbed.common.specs import ArraySpec, EnvironmentSpec, action_mask, discrete


def task(name: str, shape: tuple[int, ...] = (10, 10, 4), actions: int = 6, **changes: object) -> EnvironmentSpec:
    kind = "binary" if len(shape) == 3 else "box"
    array = ArraySpec(name="observation", dtype="uint8", shape=shape, low=(0,), high=(1,), kind=kind)  # type: ignore[arg-type]
    spec = EnvironmentSpec(environment=name, observations=(array,), actions=(discrete("action", actions),))
    return replace(spec, **changes)  # type: ignore[arg-type]


def test_equal_tasks_travel_as_they_are() -> None:
    joint = join([task("a"), task("b", frames_per_step=4)], "both")
    assert (joint.environment, joint.num_tasks, joint.mask_position) == ("both", 2, None)
    assert served(joint) == joint.tasks == (task("a"), task("b", frames_per_step=4))
    assert EnvironmentSpec.from_json(joint.to_json()) == joint
    assert (task("a").num_tasks, "tasks" in task("a").to_json()) == (1, False)


def test_a_smaller_task_gets_channels_and_a_mask() -> None:
    joint = join([task("a", (10, 10, 4), 6), task("b", (10, 10, 7), 3)], "both")
    small, large = served(joint)
    assert small.observations[0].shape == large.observations[0].shape == (10, 10, 7)
    assert [spec.actions[0].num_values for spec in (small, large)] == [(6,), (6,)]
    assert small.mask_position == large.mask_position == 1
    assert small.observations == large.observations == joint.observations
    assert [spec.environment for spec in (small, large)] == ["a", "b"]


def test_tasks_have_a_median_in_common_or_none() -> None:
    def seen(name: str, median: float) -> EnvironmentSpec:
        array = ArraySpec(name="observation", dtype="uint8", shape=(84, 84), median=median)
        return replace(task(name), observations=(array,))

    def common(*medians: float) -> float | None:
        specs = [seen(str(number), median) for number, median in enumerate(medians)]
        return join(specs, "all").observations[0].median

    assert (common(87, 87), common(87, 0)) == (87, None)


def test_an_actions_own_start_and_a_boxs_own_bounds_stay() -> None:
    low = replace(task("a"), actions=(discrete("action", 4, start=-2),))
    small, _ = served(join([low, task("b", actions=6)], "both"))
    assert (small.actions[0].low, small.actions[0].high) == ((-2,), (3,))
    boxes = [
        replace(task(name), actions=(ArraySpec(name="action", dtype="float32", shape=(2,), low=(-n,), high=(n,)),))
        for name, n in (("a", 1), ("b", 2))
    ]
    assert [spec.actions[0].high for spec in served(join(boxes, "both"))] == [(1,), (2,)]


def test_bounds_of_what_is_shown_are_those_of_all() -> None:
    wide = task("b", (4,))
    wide = replace(wide, observations=(replace(wide.observations[0], high=(9,)),))
    joint = join([task("a", (3,)), wide], "both")
    assert (joint.observations[0].shape, joint.observations[0].high) == ((4,), (9,))


def number(low: float = 0, high: float = 100, kind: str = "box", dtype: str = "float32") -> ArraySpec:
    return ArraySpec(name="/health", dtype=dtype, shape=(1,), low=(low,), high=(high,), kind=kind)  # type: ignore[arg-type]


def test_an_array_that_a_task_lacks_is_filled_up_and_may_be_zero() -> None:
    plain, more = task("a"), task("b")
    for array, low in ((number(), 0), (number(3), 0)):
        with_number = replace(more, observations=(array, *more.observations))
        joint = join([plain, with_number], "both")
        assert [one.name for one in joint.shown] == ["observation", "/health"]
        assert joint.shown[1].low == (low,)
        first, second = served(joint)
        assert first.observations == second.observations == joint.observations
        assert served(join([with_number, plain], "both"))[1].observations == joint.observations[::-1]


def test_a_choice_that_a_task_lacks_is_no_zero() -> None:
    choice = replace(task("b"), observations=(number(0, 3, "discrete", "int64"), *task("b").observations))
    with pytest.raises(SpecError, match="expected '/health' of every task, got it of b alone"):
        join([task("a"), choice], "both")


def test_tasks_have_an_array_in_common() -> None:
    other = replace(task("b"), observations=(number(),))
    with pytest.raises(SpecError, match=r"the same arrays, got \['observation'\] of a and \['/health'\] of b"):
        join([task("a"), other], "both")
    with pytest.raises(SpecError, match=r"b: expected no arrays but \['observation'\], got \['/health'\]"):
        padded(other, task("a"))


def test_a_tasks_own_mask_is_kept() -> None:
    plain = task("b")
    masked = replace(task("a"), observations=(action_mask(plain.actions, "/mask"), *plain.observations))
    first, second = served(join([masked, plain], "both"))
    assert [array.name for array in first.observations] == ["observation", "/mask"]
    assert first.observations == second.observations


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (task("b", (12, 10, 4)), r"expected tasks whose 'observation' fit into one another.*--image-size"),
        (task("b", (10, 4)), "expected tasks whose 'observation' fit into one another"),
        (task("a"), "expected tasks that differ, got a more than once"),
        (replace(task("b"), actions=(discrete("move", 6),)), r"the same arrays, got \['action'\] of a and \['move'\]"),
        (
            replace(task("b"), actions=(ArraySpec(name="action", dtype="float32", low=(0,), high=(1,)),)),
            "expected tasks with actions of one kind",
        ),
    ],
)
def test_others_are_refused_with_what_differs(other: EnvironmentSpec, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        join([task("a"), other], "both")


def test_what_does_not_fit_is_not_padded() -> None:
    with pytest.raises(SpecError, match="a: expected"):
        padded(task("a", (10, 10, 9)), task("b"))
    with pytest.raises(SpecError, match="a: expected discrete"):
        padded(task("a", actions=7), task("b"))
    with pytest.raises(SpecError, match="expected rows with an action mask, got none"):
        padded(task("a", actions=5), task("b"))
