"""Atari games: the Arcade Learning Environment stepped directly, one newest frame per step.

Frames equal those of Gymnasium's `AtariPreprocessing` (grey, 84 x 84, frame skip 4) bit for bit under the same seed and
actions, at two thirds of its cost. Only frames that end an episode differ: Gymnasium then returns what its buffers held
before, here it is the real last frame, since the value of a truncated episode is bootstrapped from it.

Frames are not stacked here: the server does that from the history of a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seedbed.common.environment_name import canonical
from seedbed.common.errors import SpecError
from seedbed.common.extras import missing_extra
from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.env_client.environments.ale import import_emulator, rom_path
from seedbed.env_client.environments.atari_presets import PRESETS, AtariPreset, read_kwargs
from seedbed.env_client.environments.interface import Row, Status

SCREEN_SIZE = 84
_CONSOLE_HZ = 60


class AtariEnvironment:
    """One game.

    Args:
        environment_id: as "ALE/Pong-v5".
        preset: a key of `PRESETS`.
        kwargs: fields of `AtariPreset`, by these names or those of ale-py and Gymnasium: they go over the preset.
        seed: of the emulator and the no-op starts; the same seed gives what `reset(seed=seed)` gives in Gymnasium.
        render: "human" for the emulator's window, else "none".

    Raises:
        MissingExtraError: ale-py or OpenCV is not installed.
        SpecError: no such game, preset or keyword argument.
    """

    def __init__(
        self,
        environment_id: str,
        preset: str,
        seed: int,
        kwargs: Mapping[str, Any] | None = None,
        render: str = "none",
    ) -> None:
        if preset not in PRESETS:
            raise SpecError(f"{environment_id}: expected a preset out of {', '.join(PRESETS)}, got {preset!r}")
        changes = read_kwargs(environment_id, PRESETS[preset], kwargs or {})
        self._preset = replace(PRESETS[preset], **changes)
        ale_py, self._cv2 = import_emulator()
        # The order of seeding and loading, and the split of the seed, are those of ale_py.env.AtariEnv.
        noop_seed, emulator_seed = np.random.SeedSequence(seed).generate_state(2)
        self._noop_rng = np.random.default_rng(int(noop_seed))
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self._ale = ale_py.ALEInterface()
        self._ale.setFloat("repeat_action_probability", self._preset.repeat_action_probability)
        self._ale.setInt("max_num_frames_per_episode", self._preset.max_frames)
        self._ale.setInt("random_seed", int(emulator_seed.astype(np.int32)))
        if render == "human":
            self._ale.setBool("display_screen", True)
        path = rom_path(ale_py, environment_id)
        self._rom = Path(path).stem
        self._ale.loadROM(path)
        full = self._preset.full_action_space
        self._actions: list[Any] = list(self._ale.getLegalActionSet() if full else self._ale.getMinimalActionSet())
        self._noop = ale_py.Action.NOOP
        self._screen = np.zeros(self._ale.getScreenDims(), np.uint8)
        self._previous_screen = np.zeros_like(self._screen)
        self._lives = 0
        self._life_lost = False
        self.spec = EnvironmentSpec(
            environment=environment_id + canonical(changes),
            preset=preset,
            observations=(
                ArraySpec(name="observation", dtype="uint8", shape=(SCREEN_SIZE, SCREEN_SIZE), low=(0,), high=(255,)),
            ),
            actions=(discrete("action", len(self._actions)),),
            frames_per_step=self._preset.frame_skip,
        )

    @property
    def preset(self) -> AtariPreset:
        """With what keyword arguments have changed."""
        return self._preset

    @property
    def rom(self) -> str:
        """The game's name in the emulator."""
        return self._rom

    @property
    def fps(self) -> float:
        """Steps a second at the speed of the console."""
        return _CONSOLE_HZ / self._preset.frame_skip

    def picture(self) -> NDArray[Any]:
        """The screen in colour, 210 x 160 or a little more."""
        screen: NDArray[Any] = self._ale.getScreenRGB()
        return screen

    @property
    def frames(self) -> int:
        """Emulator frames of this game, no-op start included."""
        return int(self._ale.getEpisodeFrameNumber())

    def reset(self, observation: Row) -> None:
        """Starts a game; after a lost life goes on with the present one, shows its frame again and emulates nothing."""
        if not self._life_lost:
            self._start_game()
        self._life_lost = False
        self._resize_into(observation[0])

    def step(self, action: Row, observation: Row) -> tuple[float, Status]:
        """Repeats an action for `frame_skip` frames and shows the brighter of the last two in every pixel.

        A game that ends within them shows its last frame alone. A lost life does not cut them short.
        """
        reward = self._emulate(self._actions[int(action[0])])
        self._resize_into(observation[0])
        return reward, self._status()

    def close(self) -> None:
        """Nothing to free: the emulator goes with its object."""

    def _emulate(self, action: Any) -> float:
        ale, last = self._ale, self._preset.frame_skip - 1
        reward = 0
        for frame in range(last + 1):
            reward += ale.act(action)
            if frame == last or ale.game_over():
                break
            if frame == last - 1:
                ale.getScreenGrayscale(self._previous_screen)
        ale.getScreenGrayscale(self._screen)
        if frame == last > 0:
            np.maximum(self._screen, self._previous_screen, out=self._screen)
        return float(reward)

    def _status(self) -> Status:
        if self._ale.game_over():  # or the cap of frames
            return Status.TERMINATED if self._ale.game_over(with_truncation=False) else Status.TRUNCATED
        lives = self._ale.lives()
        # Some games (Q*bert) show no lives for a few frames before they are over: that end follows by itself.
        self._life_lost = self._preset.life_loss_ends_episode and 0 < lives < self._lives
        self._lives = lives
        return Status.LIFE_LOST if self._life_lost else Status.RUNNING

    def _start_game(self) -> None:
        self._ale.reset_game()
        noops = int(self._noop_rng.integers(1, self._preset.max_noops + 1)) if self._preset.max_noops else 0
        for _ in range(noops):
            self._ale.act(self._noop)
            if self._ale.game_over():
                self._ale.reset_game()
        self._lives = self._ale.lives()
        self._ale.getScreenGrayscale(self._screen)

    def _resize_into(self, frame: NDArray[Any]) -> None:
        self._cv2.resize(self._screen, (SCREEN_SIZE, SCREEN_SIZE), dst=frame, interpolation=self._cv2.INTER_AREA)


def make_vector_env(like: AtariEnvironment, num_envs: int, threads: int, max_steps: int | None = None) -> Any:
    """The ALE's own vector environment, which plays as one environment does; see `vectors.AtariVector`.

    Args:
        like: one environment, of the same game and preset.
        num_envs, threads: how many, and by how many threads they are stepped.
        max_steps: steps after which an episode is truncated, where no no-op frames come before the first.

    Raises:
        MissingExtraError: this ale-py has none, or Gymnasium is missing, which it needs.
    """
    ale_py, _ = import_emulator()
    try:
        # Where Gymnasium was hidden from it, ale-py has left this out, and its own vector environment looks for it.
        from ale_py._ale_py import ALEVectorInterface

        ale_py.ALEVectorInterface = ALEVectorInterface
        from ale_py.vector_env import AtariVectorEnv
    except ImportError as error:
        raise missing_extra("atari", f"--vector ale needs it ({error})") from error
    preset = like.preset
    limits = [preset.max_frames, 0 if max_steps is None else max_steps * preset.frame_skip]  # 0: none
    return AtariVectorEnv(
        like.rom,
        num_envs,
        num_threads=threads,
        max_num_frames_per_episode=min(filter(None, limits), default=0),
        repeat_action_probability=preset.repeat_action_probability,
        full_action_space=preset.full_action_space,
        img_height=SCREEN_SIZE,
        img_width=SCREEN_SIZE,
        stack_num=1,
        frameskip=preset.frame_skip,
        maxpool=preset.frame_skip > 1,
        noop_max=preset.max_noops,
        reward_clipping=False,
        use_fire_reset=False,
    )
