"""Specs of several tasks that one policy learns: rows that all of them fit into.

Arrays of equal names have equal dtypes and kinds. What a task lacks is filled up by its client: channels of images,
numbers of vectors and whole observation arrays with zeros; actions that it does not have are masked. So the tasks of a
run differ in what values mean alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from seedbed.common.array_spec import MASK_NAME, ArraySpec, action_mask
from seedbed.common.errors import SpecError
from seedbed.common.image_layout import image_layout
from seedbed.common.specs import EnvironmentSpec


def join(specs: Sequence[EnvironmentSpec], name: str) -> EnvironmentSpec:
    """The spec of the rows of several tasks.

    Args:
        specs: of each task, by itself; at least two.
        name: of them all, for people.

    Raises:
        SpecError: they do not fit into common rows, or two have one name.
    """
    names = [spec.environment for spec in specs]
    if twice := sorted({one for one in names if names.count(one) > 1}):
        raise SpecError(f"expected tasks that differ, got {', '.join(twice)} more than once")
    first = specs[0]
    for other in specs[1:]:
        (seen, taken), (theirs, they_take) = (
            [[array.name for array in arrays] for arrays in (spec.shown, spec.actions)] for spec in (first, other)
        )
        differ = (seen, theirs) if not {*seen} & {*theirs} else (taken, they_take)
        if differ[0] != differ[1]:
            raise SpecError(
                f"expected tasks with the same arrays, got {differ[0]} of {first.environment} and {differ[1]} of "
                f"{other.environment}"
            )
    found: dict[str, dict[str, ArraySpec]] = {}
    for spec in specs:
        for array in spec.shown:
            found.setdefault(array.name, {})[spec.environment] = array
    shown = tuple(
        _common_observation(list(owners.values()), list(owners), lacked=len(owners) < len(specs))
        for owners in found.values()
    )
    actions = tuple(_common_action(list(arrays), names) for arrays in zip(*(s.actions for s in specs), strict=True))
    masks = [_mask_of(spec) for spec in specs]
    sizes = {tuple(action.num_values for action in spec.actions) for spec in specs}
    masked = any(masks) or len(sizes) > 1
    mask = (action_mask(actions, next((one.name for one in masks if one), MASK_NAME)),) if masked else ()
    frames = {spec.frames_per_step for spec in specs}
    presets = {spec.preset for spec in specs}
    return EnvironmentSpec(
        environment=name,
        preset=presets.pop() if len(presets) == 1 else "",
        observations=(*shown, *mask),
        actions=actions,
        frames_per_step=frames.pop() if len(frames) == 1 else 1,
        tasks=tuple(specs),
    )


def served(spec: EnvironmentSpec) -> tuple[EnvironmentSpec, ...]:
    """What `Describe` lists: the spec alone or, of several tasks, that of each one's rows as they travel."""
    return tuple(padded(task, spec) for task in spec.tasks) or (spec,)


def padded(own: EnvironmentSpec, like: EnvironmentSpec) -> EnvironmentSpec:
    """The spec of an environment whose rows are filled up to another's.

    Args:
        own: of the environment by itself.
        like: of the rows into which its own fit.

    Raises:
        SpecError: they do not fit.
    """
    (ours, taken), (theirs, they_take) = (
        [[array.name for array in arrays] for arrays in (spec.shown, spec.actions)] for spec in (own, like)
    )
    if taken != they_take:
        raise SpecError(f"{own.environment}: expected the arrays {they_take}, got {taken}")
    if not {*ours} <= {*theirs}:
        raise SpecError(f"{own.environment}: expected no arrays but {theirs}, got {ours}")
    shown = []
    own_arrays = {array.name: array for array in own.shown}
    for wanted in like.shown:
        array = own_arrays.get(wanted.name, wanted)  # whole arrays that it lacks are zeros
        if not _fits(array, wanted):
            raise SpecError(f"{own.environment}: expected {wanted} or less of it as {array.name!r}, got {array}")
        shown.append(replace(wanted, source_dtype=array.source_dtype))
    actions = []
    for array, wanted in zip(own.actions, like.actions, strict=True):
        if (array.dtype, array.kind, array.shape) != (wanted.dtype, wanted.kind, wanted.shape) or any(
            mine > theirs for mine, theirs in zip(array.num_values, wanted.num_values, strict=True)
        ):
            raise SpecError(f"{own.environment}: expected {wanted} or less of it as {array.name!r}, got {array}")
        actions.append(_with_values(array, wanted.num_values))
    mask = _mask_of(like)
    if mask is None and (_mask_of(own) is not None or tuple(actions) != own.actions):
        raise SpecError(f"{own.environment}: expected rows with an action mask, got none")
    masks = () if mask is None else (mask,)
    return replace(own, observations=(*shown, *masks), actions=tuple(actions), tasks=())


def mask_places(own: EnvironmentSpec, like: EnvironmentSpec) -> list[int]:
    """Where the entries of an environment's own action mask stand in the larger one."""
    ours = [size for action in own.actions for size in action.num_values]
    theirs = [size for action in like.actions for size in action.num_values]
    starts = itertools.accumulate(theirs, initial=0)
    return [start + entry for start, size in zip(starts, ours, strict=False) for entry in range(size)]


def _mask_of(spec: EnvironmentSpec) -> ArraySpec | None:
    return None if spec.mask_position is None else spec.observations[spec.mask_position]


def _with_values(action: ArraySpec, num_values: Sequence[int]) -> ArraySpec:
    """A discrete action with so many values of each element, from its own lowest on; others as they are."""
    if action.kind != "discrete" or tuple(num_values) == action.num_values:
        return action
    lows = [low for low, _ in action.bound_pairs]
    lows = lows * len(num_values) if len(lows) == 1 else lows
    highs = tuple(low + number - 1 for low, number in zip(lows, num_values, strict=True))
    low, high = (tuple(lows[:1]) if len(set(lows)) == 1 else tuple(lows)), highs
    return replace(action, low=low, high=high[:1] if len(set(high)) == 1 else high)


def _fits(array: ArraySpec, wanted: ArraySpec) -> bool:
    """Whether the values of an observation fit into those of another."""
    if (array.dtype, array.kind) != (wanted.dtype, wanted.kind):
        return False
    if array.shape != wanted.shape and not _fills_up(array, wanted):
        return False
    return min(wanted.low) <= min(array.low) and max(array.high) <= max(wanted.high)


def _fills_up(array: ArraySpec, wanted: ArraySpec) -> bool:
    """Whether zeros along one dimension make it as large: the channels of an image, the numbers of a vector."""
    if array.kind == "discrete" or len(array.shape) != len(wanted.shape):
        return False
    places = [place for place, sizes in enumerate(zip(array.shape, wanted.shape, strict=True)) if len(set(sizes)) > 1]
    if (
        len(places) != 1
        or places[0] not in (0, len(array.shape) - 1)
        or wanted.shape[places[0]] < array.shape[places[0]]
    ):
        return False
    layout = image_layout(replace(array, kind="box"))  # boards of bits have sides too
    return layout is None or places[0] not in layout.places


def _common_observation(arrays: Sequence[ArraySpec], names: Sequence[str], *, lacked: bool) -> ArraySpec:
    """The array that all of these fit into, zeros too where a task lacks it."""
    first = arrays[0]
    if lacked and first.kind == "discrete":
        raise SpecError(
            f"expected {first.name!r} of every task, got it of {', '.join(names)} alone: 0 is a value of it"
        )
    medians = {array.median for array in arrays}
    median = medians.pop() if len(medians) == 1 else None
    if all(array == first for array in arrays) and not (lacked and not min(first.low) <= 0 <= max(first.high)):
        return replace(first, median=median)
    largest = max(arrays, key=lambda array: array.shape)
    low, high = min(min(array.low) for array in arrays), max(max(array.high) for array in arrays)
    if lacked or any(array.shape != first.shape for array in arrays):  # what is filled up is zero
        low, high = min(low, 0.0), max(high, 0.0)
    sources = {array.source_dtype for array in arrays}
    common = replace(
        largest,
        low=(low,),
        high=(high,),
        source_dtype=sources.pop() if len(sources) == 1 else largest.dtype,
        median=median,
    )
    for array, name in zip(arrays, names, strict=True):
        if not _fits(array, common):
            raise SpecError(
                f"expected tasks whose {array.name!r} fit into one another, got {largest} and {array} ({name}): "
                "images of one size (--image-size) that differ in their channels, or vectors"
            )
    return common


def _common_action(arrays: Sequence[ArraySpec], names: Sequence[str]) -> ArraySpec:
    first = arrays[0]
    for array, name in zip(arrays, names, strict=True):
        if (array.dtype, array.kind, array.shape) != (first.dtype, first.kind, first.shape):
            raise SpecError(f"expected tasks with actions of one kind, got {first} ({names[0]}) and {array} ({name})")
    if first.kind != "discrete":
        return first
    return _with_values(first, [max(sizes) for sizes in zip(*(array.num_values for array in arrays), strict=True)])
