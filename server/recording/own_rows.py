"""Episodes of one of several tasks: the rows that it has by itself, out of those that the rows of all fit into."""

from __future__ import annotations

from dataclasses import replace

from seedbed.common.joint_spec import mask_places
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.recording.episodes import Episode


def in_own_rows(episode: Episode, own: EnvironmentSpec, rows: EnvironmentSpec) -> Episode:
    """Without what clients have filled in: channels, numbers, whole arrays, entries of the action mask.

    Args:
        episode: as it passed.
        own: spec of its environment.
        rows: spec of what passes, the arrays of `own` or larger ones.
    """
    pairs = list(zip(rows.observations, episode.observations, strict=True))
    values = {spec.name: array for spec, array in pairs if spec.role == "value"}
    masks = [array for spec, array in pairs if spec.role == "action_mask"]
    observations = []
    for spec in own.observations:
        if spec.role == "value":
            region = (slice(None), *(slice(size) for size in spec.shape))
            observations.append(values[spec.name][region])
        else:
            observations.append(masks[0][:, mask_places(own, rows)])
    return replace(episode, observations=tuple(observations))
