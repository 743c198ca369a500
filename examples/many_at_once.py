"""Many environments in lockstep, by Gymnasium's vectors: one message for all of them.

seedbed server --preset cartpole --run-dir runs/vector --port 7777 --num-envs 8
python examples/many_at_once.py 127.0.0.1:7777
"""

from __future__ import annotations

import sys

import gymnasium
import numpy as np

import seedbed


def play(server: str, num_envs: int, num_steps: int) -> int:
    """Steps the environments, and returns how many episodes ended."""
    envs = gymnasium.make_vec("CartPole-v1", num_envs, vectorization_mode="sync")  # they reset by themselves
    ended = 0
    with seedbed.connect(server, spec=seedbed.spec_of(envs), num_envs=num_envs) as policy:
        actions = policy.first(envs.reset()[0])
        for _ in range(num_steps):
            observations, rewards, terminated, truncated, _ = envs.step(actions)
            actions = policy.next(observations, rewards, terminated=terminated, truncated=truncated)
            ended += int(np.count_nonzero(terminated | truncated))
    envs.close()
    return ended


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} HOST:PORT")
    print(f"{play(sys.argv[1], num_envs=8, num_steps=1000)} episodes ended")
