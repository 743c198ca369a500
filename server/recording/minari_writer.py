"""Minari data sets, written episode by episode in a thread of their own.

Minari keeps data sets under MINARI_DATASETS_PATH, else ~/.minari/datasets, and `minari.load_dataset(ID)` finds them
there. Images are kept as they are, not as JPEG.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import minari
import minari.storage.datasets_root_dir
import numpy as np
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_dataset import parse_dataset_id

from seedbed.common.containers import ActionMapping, Containers, path_of
from seedbed.common.errors import BrokenError, UsageError
from seedbed.common.specs import EnvironmentSpec
from seedbed.server.recording.episodes import Episode
from seedbed.server.recording.spaces import action_space, observation_space

_CHUNK_BYTES, _CHUNK_EPISODES, _CHUNK_S = 64 << 20, 50, 30.0
_MOST_WAITING_BYTES = 256 << 20

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What stands in a data set beside its episodes.

    Attributes:
        algorithm: that acted.
        description: for people.
    """

    algorithm: str
    description: str


class MinariWriter:
    """One data set.

    Attributes:
        dataset_id: its name.
        path: its folder.
        episodes, steps: that are written.
    """

    def __init__(self, dataset_id: str, spec: EnvironmentSpec, about: About, *, goes_on: bool) -> None:
        """Begins to write.

        Args:
            dataset_id: "namespace/name-v0".
            spec: of the environment.
            about: what stands in it.
            goes_on: a data set of that name is added to; otherwise there must be none.

        Raises:
            UsageError: the name is none, or is taken; or that one has other spaces.
        """
        try:
            parse_dataset_id(dataset_id)
        except (ValueError, TypeError) as error:  # the latter without a version
            raise UsageError(
                f"expected a Minari id like seedbed/cartpole-v0 as --dataset, got {dataset_id!r}"
            ) from error
        self.dataset_id, self._spec, self._about = dataset_id, spec, about
        self._spaces = observation_space(_told(spec)), action_space(spec.actions)
        self._observations = Containers([array.name for array in _told(spec)])
        self._actions = Containers([array.name for array in spec.actions])
        self._own_units = ActionMapping(spec.actions)
        self._dataset = self._open(goes_on)
        self.path = Path(minari.storage.datasets_root_dir.get_dataset_path(dataset_id))
        self.episodes, self.steps = 0, 0
        self._taken_bytes, self._written_bytes = 0, 0  # each has one thread that changes it
        self._failure: Exception | None = None
        self._queue: queue.SimpleQueue[Episode | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="recording", daemon=True)
        self._thread.start()

    def put(self, episode: Episode) -> bool:
        """Takes an episode without waiting; False: there is no room, or nothing can be written any more."""
        if self._failure is not None or self._taken_bytes - self._written_bytes > _MOST_WAITING_BYTES:
            return False
        self._taken_bytes += episode.num_bytes
        self._queue.put(episode)
        return True

    def close(self) -> None:
        """Writes what is waiting.

        Raises:
            BrokenError: something could not be written.
        """
        self._queue.put(None)
        self._thread.join()
        if self._failure is not None:
            raise BrokenError(f"cannot write the data set {self.dataset_id}: {self._failure!r}") from self._failure

    def _open(self, goes_on: bool) -> Any:
        if self.dataset_id not in minari.list_local_datasets():
            return None
        if not goes_on:
            raise UsageError(
                f"expected a new data set as --dataset, {self.dataset_id} is there already; "
                f"`minari delete {self.dataset_id}` removes it"
            )
        dataset = minari.load_dataset(self.dataset_id)
        if (dataset.observation_space, dataset.action_space) != self._spaces:
            raise UsageError(
                f"expected the spaces of this run in the data set {self.dataset_id}, got others: name another --dataset"
            )
        return dataset

    def _run(self) -> None:
        chunk: list[Episode] = []
        size, due_s = 0, 0.0
        while True:
            try:
                episode = self._queue.get(timeout=max(0.0, due_s - time.monotonic()) if chunk else None)
            except queue.Empty:
                episode = None
                is_over = False
            else:
                is_over = episode is None
            if episode is not None:
                due_s = due_s if chunk else time.monotonic() + _CHUNK_S
                chunk.append(episode)
                size += episode.num_bytes
                if size < _CHUNK_BYTES and len(chunk) < _CHUNK_EPISODES:
                    continue
            if chunk:
                self._write(chunk)
                self._written_bytes += size
                chunk, size = [], 0
            if is_over:
                return

    def _write(self, chunk: list[Episode]) -> None:
        if self._failure is not None:
            return
        try:
            buffers = [self._buffer(episode) for episode in chunk]
            if self._dataset is None:
                self._dataset = self._create(buffers)
            else:
                self._dataset.update_dataset_from_buffer(buffers)
            self.episodes += len(chunk)
            self.steps += sum(len(episode.rewards) for episode in chunk)
        except Exception as error:  # a full disk costs the data set, never the run
            self._failure = error
            _log.warning("recording has ended: cannot write the data set %s: %r", self.dataset_id, error)

    def _create(self, buffers: list[EpisodeBuffer]) -> Any:
        observations, actions = self._spaces
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is no environment, and no other to evaluate in
            return self._created(buffers, observations, actions)

    def _created(self, buffers: list[EpisodeBuffer], observations: Any, actions: Any) -> Any:
        dataset = minari.create_dataset_from_buffers(
            self.dataset_id,
            buffers,
            observation_space=observations,
            action_space=actions,
            algorithm_name=self._about.algorithm,
            author="seedbed",
            author_email="-",
            code_permalink="-",
            description=self._about.description,
            jpeg_encoding=False,
        )
        if (environment := _registered(self._spec)) is not None:
            dataset.storage.update_metadata({"env_spec": environment})
        return dataset

    def _buffer(self, episode: Episode) -> EpisodeBuffer:
        steps = len(episode.rewards)
        arrays = dict(zip((array.name for array in self._spec.observations), episode.observations, strict=True))
        told = [arrays.pop(array.name) for array in _told(self._spec)]
        rows = [self._own_units(tuple(array[t] for array in episode.actions)) for t in range(steps)]
        parts = zip(*(self._actions.parts(row) for row in rows), strict=True)
        ends = np.zeros(steps, np.bool_)
        ends[-1] = True
        return EpisodeBuffer(
            observations=self._observations.build(told),
            actions=self._actions.build([np.stack(part) for part in parts]),
            rewards=episode.rewards,
            terminations=ends if episode.terminated else ~ends & False,
            truncations=~ends & False if episode.terminated else ends,
            infos=dict(arrays) or None,  # an action mask that stood beside
        )


def _told(spec: EnvironmentSpec) -> tuple[Any, ...]:
    """What the observation space has: a mask from `info` is no part of it."""
    return tuple(array for array in spec.observations if array.role == "value" or path_of(array.name))


def _registered(spec: EnvironmentSpec) -> str | None:
    """How Gymnasium makes the environment, where it is one of its own and shows what was recorded."""
    with contextlib.suppress(Exception):
        if not spec.preset and spec.environment in gymnasium.registry:
            return gymnasium.spec(spec.environment).to_json()
    return None
