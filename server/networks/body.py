"""The part of a network that is the same whatever its heads say: normalisers of what is shown, torso, core.

Shapes: N inference batch, T rows, B unrolls, F features, H state width.
"""

from __future__ import annotations

import traceback

import torch
from torch import Tensor, nn

from seedbed.common.errors import UsageError
from seedbed.common.specs import ArraySpec
from seedbed.server.networks.array_kinds import as_read, frame_stacks
from seedbed.server.networks.check import random_rows
from seedbed.server.networks.distributions import ActionSpace
from seedbed.server.networks.interface import AgentState, Inputs
from seedbed.server.networks.normaliser import Normalisers, as_normalised, is_normalised
from seedbed.server.networks.observations import AsRead, block_shape, frames_of
from seedbed.server.networks.registry import find_core, find_torso
from seedbed.server.networks.task_input import TaskInput
from seedbed.server.networks.torso import Torso
from seedbed.server.options.network import NetworkConfig


class Body(nn.Module):
    """Rows and agent state in, float32 features and agent state out.

    Args:
        shown: specs of one frame of what it reads, `EnvironmentSpec.shown`.
        space: of the actions, for cores that read the last one.
        config: torso, core and their sizes.

    Attributes:
        output_size: F.
        blocks: see `PolicyNetwork`.
        told: the layer that knows the row's task, with --task-input; else None.

    Raises:
        SpecError: the observations are not what the torso can read.
        UsageError: there is no such torso or core.
    """

    def __init__(self, shown: tuple[ArraySpec, ...], space: ActionSpace, config: NetworkConfig) -> None:
        super().__init__()
        self.as_read = nn.ModuleList(map(AsRead, shown))
        stacks = frame_stacks(shown, config.frame_stack)
        read = tuple(map(as_read, shown))
        self.normalisers = None
        if config.normalise_observations == "on":
            self.normalisers = Normalisers(read)
            read = tuple(as_normalised(spec) if is_normalised(spec) else spec for spec in read)
        self.torso = find_torso(config.torso)(read, config, stacks)
        if self.torso.output_size < 1 or len(self.torso.blocks) != len(shown):
            raise UsageError(
                f"--torso {config.torso}: expected an output_size of at least 1 and a block for each of {len(shown)} "
                f"arrays, got {self.torso.output_size} and {self.torso.blocks}"
            )
        _try_out(self.torso, config.torso, random_rows(read, stacks, rows=1))
        size = self.torso.output_size
        # Linear heads right behind would get no more of it than a preference of each task, whatever is seen.
        self.told = TaskInput(size, config.num_tasks) if config.task_input and config.num_tasks > 1 else None
        self.core = find_core(config.core)(size, space, config)
        self.output_size = self.core.output_size
        self.blocks = tuple(map(_stored_block, shown, self.torso.blocks))

    def initial_state(self, batch_size: int, device: torch.device | str | None = None) -> AgentState:
        """The state at the start of an episode, each `[batch_size, ...]`."""
        return self.core.initial_state(batch_size, device)

    def step(self, inputs: Inputs, state: AgentState) -> tuple[Tensor, AgentState]:
        """One row of each of N environments to `[N, F]` and the state after it: an unroll of length 1."""
        features, state = self.unroll(inputs.map(lambda x: x.unsqueeze(0)), state)
        return features.squeeze(0), state

    def unroll(self, inputs: Inputs, state: AgentState) -> tuple[Tensor, AgentState]:
        """T rows of each of B environments to `[T, B, F]` and the state after the last."""
        features = self._see(inputs).float()
        if self.told is not None:
            assert inputs.task is not None, "where there are several tasks every row has one"
            features = self.told(features, inputs.task)
        outputs: tuple[Tensor, AgentState] = self.core(features, inputs, state)
        return outputs

    def _see(self, inputs: Inputs) -> Tensor:
        """What the torso makes of observations, `[T, B, its features]`."""
        observations = inputs.observations
        if len(observations) == 1 and self.normalisers is None:
            frames = frames_of(observations[0])
            features: Tensor | None = None if frames is None else self.torso.unrolls(frames)
            if features is not None:
                return features
        rows = tuple(as_read(x.flatten(0, 1)) for as_read, x in zip(self.as_read, observations, strict=True))
        if self.normalisers is not None:
            rows = tuple(normaliser(x) for normaliser, x in zip(self.normalisers, rows, strict=True))
        features = self.torso(rows)
        return features.unflatten(0, inputs.step_type.shape)

    def store_for_acting(self) -> None:
        """Lets the torso store its weights in the dtype it computes in: the same outputs, without a cast each time.

        For copies that act. A learner keeps float32, in which small updates are not lost.
        """
        self.torso.store_for_acting()


def _stored_block(spec: ArraySpec, block: int) -> int:
    """Frames are told by their shape whether they have been turned round; where blocks look like it there are none."""
    return 1 if as_read(spec).shape != spec.shape == block_shape(as_read(spec).shape, block) else block


def _try_out(torso: Torso, name: str, rows: tuple[Tensor, ...]) -> None:
    """One row through a torso, before anything is begun with it: it may be somebody else's.

    Raises:
        UsageError: it fails, or says another size than it gives.
    """
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            features = torso(rows)
    except Exception as error:
        shapes = ", ".join(str(list(row.shape)) for row in rows)
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{place.filename}, line {place.lineno}"
        raise UsageError(
            f"--torso {name}: expected to read {shapes}, got {type(error).__name__}: {error} ({where})"
        ) from error
    if tuple(features.shape) != (1, torso.output_size):
        raise UsageError(
            f"--torso {name}: expected features [N, {torso.output_size}], as its output_size says, "
            f"got {[*features.shape][1:]} of a row"
        )
