"""Environments that each show one kind of trouble. Importing this registers odd/NAME-v0."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete


class Sound(gymnasium.Env[Any, Any]):
    """Ten steps of two zeros, one reward each: nothing is wrong with it."""

    observation_space: Any = Box(-1, 1, (2,), np.float32)
    action_space: Any = Discrete(2)
    length = 10

    def show(self) -> Any:
        return np.zeros(2, np.float32)

    def pay(self, action: Any) -> Any:
        return 1.0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return self.show(), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return self.show(), self.pay(action), self.steps >= self.length, False, {}


class Posts(Sound):
    """Half of its first image is dark; of every other one a quarter is 10, a quarter 60, half 200."""

    observation_space = Box(0, 255, (40, 40), np.uint8)

    def show(self) -> Any:
        image = np.full((40, 40), 200, np.uint8)
        image[:20, :20], image[:20, 20:] = (10, 60) if self.steps else (0, 0)
        return image


class Forks(Sound):
    """Forks at every reset, in three ways."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        subprocess.run(["true"], check=True)
        if (child := os.fork()) == 0:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0, "a forked child failed"
        process = multiprocessing.get_context("fork").Process(target=sum, args=([1],))
        process.start()
        process.join()
        assert process.exitcode == 0, f"a forked child ended with {process.exitcode}"
        return super().reset(seed=seed)


class FloatInUint8(Sound):
    """A scaled image where bytes are said to be."""

    observation_space = Box(0, 255, (8, 8), np.uint8)

    def show(self) -> Any:
        return np.full((8, 8), 0.7, np.float32)


class IntInFloat(Sound):
    """Integers where floats are said to be."""

    def show(self) -> Any:
        return np.array([0, 1])


class Negative(Sound):
    """Integers that no byte can hold."""

    observation_space = Box(0, 255, (3,), np.uint8)

    def show(self) -> Any:
        return np.array([-1, 256, 300])


class Broadcast(Sound):
    """One number instead of four."""

    observation_space = Box(-1, 1, (4,), np.float32)

    def show(self) -> Any:
        return np.float32(0.5)


class Row(Sound):
    """(1, 4) instead of (4,)."""

    observation_space = Box(-1, 1, (4,), np.float32)

    def show(self) -> Any:
        return np.full((1, 4), 0.5, np.float32)


class LateRow(Row):
    """The same from the third step on."""

    def show(self) -> Any:
        return np.full((1, 4) if self.steps > 2 else (4,), 0.5, np.float32)


class WrongStep(Sound):
    """The first step alone shows something else than the reset."""

    def show(self) -> Any:
        return np.zeros(3 if self.steps else 2, np.float32)


class OutOfBounds(Sound):
    """Seven in [0, 1]."""

    observation_space = Box(0, 1, (2,), np.float32)

    def show(self) -> Any:
        return np.array([7, -7], np.float32)


class AlmostInBounds(Sound):
    """Outside by as much as rounding explains."""

    def show(self) -> Any:
        return np.array([1.001, -1.001], np.float32)


class NotFinite(Sound):
    """Not a number."""

    def show(self) -> Any:
        return np.array([0, np.nan], np.float32)


class NotInSpace(Sound):
    """The fourth of three values."""

    observation_space = Discrete(3)

    def show(self) -> Any:
        return 3


class NoKey(Sound):
    """A Dict without one of its keys."""

    observation_space = Dict({"a": Box(-1, 1, (2,), np.float32), "b": Discrete(2)})

    def show(self) -> Any:
        return {"a": np.zeros(2, np.float32)}


class Text(Sound):
    """A text."""

    def show(self) -> Any:
        return "north"


class OldReset(Sound):
    """An observation alone from `reset`."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=seed)[0]


class OldStep(Sound):
    """Four values from `step`."""

    def step(self, action: Any) -> Any:
        observation, reward, over, _, info = super().step(action)
        return observation, reward, over, info


class NoReward(Sound):
    """None as reward."""

    def pay(self, action: Any) -> Any:
        return None


class Raises(Sound):
    """Breaks in its first step."""

    def pay(self, action: Any) -> Any:
        raise OSError("no display")


class Rewards(Sound):
    """One as a reward of every type in turn."""

    def pay(self, action: Any) -> Any:
        return [1, True, np.array(1.0), np.array([1.0]), np.float64(1), np.int64(1), np.float32(1)][self.steps % 7]


class Python(Sound):
    """Python's own numbers and lists in spaces of every kind."""

    observation_space = Dict(
        {
            "floats": Box(-1, 1, (2,), np.float32),
            "bytes": Box(0, 255, (2,), np.uint8),
            "room": Discrete(3, start=1),
            "bits": MultiBinary(2),
            "several": MultiDiscrete([2, 3]),
        }
    )

    def show(self) -> Any:
        return {"floats": [0, 0.5], "bytes": [0, 255], "room": 3, "bits": [True, False], "several": [1, 2]}


class NoSeed(Sound):
    """A reset that takes nothing, of an environment that draws."""

    def show(self) -> Any:
        return self.np_random.uniform(-1, 1, 2).astype(np.float32)

    def reset(self) -> Any:  # type: ignore[override]
        return super().reset()


class SeedAlone(NoSeed):
    """A reset that takes a seed, and no options."""

    def reset(self, seed: int | None = None) -> Any:  # type: ignore[override]
        return Sound.reset(self, seed=seed)


class Prints(Sound):
    """Greets on standard output as it is built, from Python and past it."""

    def __init__(self) -> None:
        print("Hello from some community")
        os.write(1, b"engine 1.2.3 started\n")


class Sized(Sound):
    """Has an argument, and an image of that size, whose first column is white."""

    def __init__(self, height: int = 9, width: int = 16, colours: int = 3) -> None:
        assert height > 8, "too small"
        self.observation_space = Box(0, 255, (height, width, colours), np.uint8)

    def show(self) -> Any:
        image = np.zeros(self.observation_space.shape, np.uint8)
        image[:, 0] = 255
        return image


class Never(Sound):
    """Has no end."""

    length = 10**9


def make(size: int = 2) -> Sound:
    """A factory."""
    return Sized(height=size * 10)


def make_nothing() -> None:
    """A factory that forgets to return what it made."""


number = 3

for name, cls in list(globals().items()):
    if isinstance(cls, type) and issubclass(cls, Sound):
        gymnasium.register(f"odd/{name}-v0", entry_point=f"{__name__}:{name}")
