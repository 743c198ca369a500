"""Stable-Baselines3 with its defaults: `python -m tests.bench.anything.peer train|eval ROW --seed N --folder DIR`.

One environment, as its constructors have it; one torch thread if OMP_NUM_THREADS says so; on the CPU. Atari has the
settings of seedbed's: sticky actions and all 18 actions, and over them the peer's own wrapper, that clips rewards and
ends an episode with a life; its returns are those of whole games without clipping.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from tests.bench.anything.rows import ROW_BY_NAME, Row

EPISODES_FILE = "episodes.json"
FACTS_FILE = "facts.json"
RETURNS_FILE = "returns.json"
_FRAMES = 4
_SEED_OFFSET = 1_000_003  # evaluation must not replay the episodes of training; seedbed's is the same


def train(row: Row, seed: int, folder: Path) -> None:
    """Learns, and leaves a model, its episodes and what was done in the folder."""
    import stable_baselines3
    from stable_baselines3.common.callbacks import BaseCallback

    episodes: list[tuple[int, float]] = []

    class Episodes(BaseCallback):
        """Notes every episode that ended: agent steps by then, and the sum of its raw rewards."""

        def _on_step(self) -> bool:
            ended = [info["episode"]["r"] for info in self.locals["infos"] if "episode" in info]
            episodes.extend((self.num_timesteps, float(value)) for value in ended)
            return True

    policy = "CnnPolicy" if row.atari else "MlpPolicy"
    algorithm = getattr(stable_baselines3, row.peer)
    model = algorithm(policy, make_environment(row, seed), seed=seed, device="cpu")
    model.learn(row.steps, callback=Episodes())
    model.save(folder / "model")
    facts = {
        "algorithm": row.peer,
        "agent_steps": model.num_timesteps,
        "minibatches": minibatches_of(model),
        "version": f"Stable-Baselines3 {stable_baselines3.__version__}",
    }
    (folder / FACTS_FILE).write_text(json.dumps(facts))
    (folder / EPISODES_FILE).write_text(json.dumps(episodes))


def minibatches_of(model: Any) -> int:
    """Gradient steps of the policy: PPO counts epochs over a whole rollout, SAC what it draws."""
    epochs = int(model._n_updates)
    if not hasattr(model, "n_epochs"):
        return epochs
    return epochs * -(-model.n_steps * model.n_envs // model.batch_size)


def evaluate(row: Row, seed: int, folder: Path, episodes: int) -> None:
    """Plays greedily what `train` has left, and leaves the returns."""
    import stable_baselines3
    from stable_baselines3.common.evaluation import evaluate_policy

    model = getattr(stable_baselines3, row.peer).load(folder / "model", device="cpu")
    environment = make_environment(row, seed + _SEED_OFFSET)
    scores: Any = evaluate_policy(model, environment, episodes, deterministic=True, return_episode_rewards=True)
    (folder / RETURNS_FILE).write_text(json.dumps([float(value) for value in scores[0]]))


def make_environment(row: Row, seed: int) -> Any:
    """The row's environment as Stable-Baselines3 takes it: one, monitored, seeded."""
    from stable_baselines3.common.atari_wrappers import AtariWrapper
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecFrameStack

    wrapper = AtariWrapper if row.atari else None
    environment = make_vec_env(lambda: _make(row), n_envs=1, seed=seed, wrapper_class=wrapper)
    return VecFrameStack(environment, _FRAMES) if row.atari else environment


def _make(row: Row) -> Any:
    import gymnasium

    if ":" in row.env:
        module, name = row.env.split(":")
        return getattr(importlib.import_module(module), name)(**row.kwargs)
    if row.env.startswith("ALE/"):
        import ale_py

        gymnasium.register_envs(ale_py)
        return gymnasium.make(row.env, frameskip=1, full_action_space=True, repeat_action_probability=0.25)
    if "/" in row.env:
        for plugin in entry_points(group="gymnasium.envs"):
            plugin.load()()
    return gymnasium.make(row.env, **row.kwargs)


def main() -> int:
    """Does one half of a cell; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("train", "eval"))
    parser.add_argument("row", choices=ROW_BY_NAME)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--episodes", type=int, default=100)
    arguments = parser.parse_args()
    row = ROW_BY_NAME[arguments.row]
    if arguments.verb == "train":
        train(row, arguments.seed, arguments.folder)
    else:
        evaluate(row, arguments.seed, arguments.folder, arguments.episodes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
