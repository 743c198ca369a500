"""Atari games: the Arcade Learning Environment stepped directly, one newest frame per step.

Frames equal those of Gymnasium's `AtariPreprocessing` (grey, 84 x 84, frame skip 4) bit for bit under the same seed and
actions, at two thirds of its cost. Only frames that end an episode differ: Gymnasium then returns what its buffers held
before, here it is the real last frame, since the value of a truncated episode is bootstrapped from it.

Frames are not stacked here: the server does that from the history of a row.
"""

from __future__ import annotations

import contextlib
import difflib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seedbed.common.environment_name import canonical
from seedbed.common.errors import MissingExtraError, SpecError
from seedbed.common.extras import missing_extra
from seedbed.common.specs import ArraySpec, EnvironmentSpec, discrete
from seedbed.env_client.environments.interface import Row, Status

SCREEN_SIZE = 84
_CONSOLE_HZ = 60
MULTI_PLAYER_GAMES = ("combat", "joust", "maze_craze", "warlords")
"""Games without a single-player mode; ale-py registers no environment for them either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AtariPreset:
    """One protocol of evaluation. Scores of different presets are not comparable.

    Attributes:
        repeat_action_probability: chance that the emulator repeats the last action instead of the given one.
        full_action_space: all 18 actions, or only those that do something in this game.
        max_noops: a real episode starts with 1 to this many no-op frames; 0 for none.
        life_loss_ends_episode: a lost life ends the learner's episode while the game goes on.
        frame_skip: emulator frames for which an action is repeated.
        max_frames: a real episode is truncated after so many emulator frames.
    """

    repeat_action_probability: float
    full_action_space: bool
    max_noops: int
    life_loss_ends_episode: bool
    frame_skip: int = 4
    max_frames: int = 108_000  # 30 minutes of play at 60 Hz: Machado et al. 2018, table 1


PRESETS = {
    # Machado et al., "Revisiting the Arcade Learning Environment", JAIR 2018, table 1; the protocol of ALE's v5 ids.
    "modern": AtariPreset(
        repeat_action_probability=0.25, full_action_space=True, max_noops=0, life_loss_ends_episode=False
    ),
    # Espeholt et al., "IMPALA", ICML 2018, table G.1 and the 30 no-op starts of its evaluation; single-game agents.
    "paper": AtariPreset(
        repeat_action_probability=0.0, full_action_space=False, max_noops=30, life_loss_ends_episode=True
    ),
}

_ALIASES = {
    "frameskip": "frame_skip",
    "noop_max": "max_noops",
    "terminal_on_life_loss": "life_loss_ends_episode",
    "max_num_frames_per_episode": "max_frames",
}
"""Names of ALE's own environments and of Gymnasium's wrapper -> names here."""


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
        changes = _read_kwargs(environment_id, PRESETS[preset], kwargs or {})
        self._preset = replace(PRESETS[preset], **changes)
        ale_py, self._cv2 = _import_emulator()
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
        path = _rom_path(ale_py, environment_id)
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


def game_id(game: str) -> str:
    """The full id of a game: "Pong" -> "ALE/Pong-v5"."""
    return f"ALE/{game}-v5"


def is_game(environment_id: str) -> bool:
    """Whether the emulator is installed and has it."""
    try:
        _rom_path(_import_emulator()[0], environment_id)
    except (SpecError, MissingExtraError):
        return False
    return True


def _read_kwargs(environment_id: str, preset: AtariPreset, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that keyword arguments change, under their names here.

    Raises:
        SpecError: an unknown name, or a value of the wrong kind.
    """
    changes: dict[str, Any] = {}
    for given, value in kwargs.items():
        name = _ALIASES.get(given, given)
        if name not in (names := [field.name for field in fields(preset)]):
            raise SpecError(f"{environment_id}: expected keyword arguments out of {', '.join(names)}, got {given!r}")
        before = getattr(preset, name)
        kind = type(before)
        if kind is float and type(value) is int:
            value = float(value)
        sound = type(value) is kind and (kind is bool or value >= (1 if name in ("frame_skip", "max_frames") else 0))
        if not sound or (kind is float and value > 1):
            raise SpecError(f"{environment_id}: expected {name} to be like {before}, got {value!r:.100}")
        if value != before:
            changes[name] = value
    return changes


def _rom_path(ale_py: Any, environment_id: str) -> Any:
    names = (rom for rom in ale_py.roms.get_all_rom_ids() if rom not in MULTI_PLAYER_GAMES)
    roms = {game_id(rom.title().replace("_", "")): rom for rom in names}  # space_invaders -> SpaceInvaders
    if environment_id not in roms:
        near = difflib.get_close_matches(environment_id, roms, n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "ids look like ALE/Pong-v5"
        raise SpecError(f"unknown game {environment_id!r}: {hint}")
    with contextlib.redirect_stdout(sys.stderr):  # ale-py prints a line when ALE_ROMS_DIR is set
        return ale_py.roms.get_rom_path(roms[environment_id])


@contextlib.contextmanager
def _hidden(package: str) -> Iterator[None]:
    """Makes a package look as if it were not installed, unless it is loaded already."""
    loaded = package in sys.modules
    if not loaded:
        sys.modules[package] = None  # type: ignore[assignment]  # see the import system's documentation of the cache
    try:
        yield
    finally:
        if not loaded:
            del sys.modules[package]


def _import_emulator() -> tuple[Any, Any]:
    try:
        import cv2

        with _hidden("gymnasium"):  # ale-py loads it to register its own environments there: a third of this import
            import ale_py.roms
    except ImportError as error:
        raise missing_extra("atari", f"Atari games need it ({error})") from error
    cv2.setNumThreads(1)  # the client is one thread; a pool would only add switches between threads
    return ale_py, cv2


def make_vector_env(like: AtariEnvironment, num_envs: int, threads: int, max_steps: int | None = None) -> Any:
    """The ALE's own vector environment, which plays as one environment does; see `vectors.AtariVector`.

    Args:
        like: one environment, of the same game and preset.
        num_envs, threads: how many, and by how many threads they are stepped.
        max_steps: steps after which an episode is truncated, where no no-op frames come before the first.

    Raises:
        MissingExtraError: this ale-py has none, or Gymnasium is missing, which it needs.
    """
    ale_py, _ = _import_emulator()
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
