"""An exported policy plays, without seedbed and without torch: NumPy, ONNX Runtime, and Gymnasium for the environment.

    seedbed export runs/cartpole
    pip install numpy onnxruntime gymnasium
    python examples/onnx_play.py runs/cartpole/policy.onnx --episodes 20

Memory, frame stacks and normalisation are in the file. What it takes and gives stands in its metadata and, the same, in
the JSON file beside it. Other languages with an ONNX runtime do the same in as few lines.
"""

from __future__ import annotations

import argparse
import json
import re
from typing import Any

import gymnasium
import numpy as np
import onnxruntime


class OnnxPolicy:
    """The policy of one environment.

    Args:
        file: of `seedbed export`.
        greedy: take the best action; None: as `seedbed eval` has it, which draws from policies of discrete actions.
        seed: of what is drawn.
    """

    def __init__(self, file: str, greedy: bool | None = None, seed: int = 0) -> None:
        self._session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        self.contract: dict[str, Any] = json.loads(self._session.get_modelmeta().custom_metadata_map["seedbed"])
        self._greedy = self.contract["acts"] == "greedily" if greedy is None else greedy
        self._random = np.random.default_rng(seed)
        self._memory: dict[str, np.ndarray] = {}
        self.reset()

    def reset(self) -> None:
        """An episode begins."""
        self._first = True
        if not self._memory:  # what is in it later does not matter: the file clears it where `first` says so
            memory = [port for port in self.contract["inputs"] if port["role"] == "memory"]
            self._memory = {port["name"]: np.zeros([1, *port["shape"]], port["dtype"]) for port in memory}

    def act(self, observation: Any, reward: float = 0.0, mask: Any = None) -> Any:
        """The action for one observation.

        Args:
            observation: as the environment shows it.
            reward: of the step before.
            mask: of allowed actions, where the environment shows one beside its observation.
        """
        feed = dict(self._memory)
        for port in self.contract["inputs"]:
            match port["role"]:
                case "observation" | "action_mask":
                    beside = port["array"] == "action_mask"
                    value = mask if beside else part_of(observation, port["array"])
                    feed[port["name"]] = np.asarray(value).astype(port["dtype"]).reshape(1, *port["shape"])
                case "first":
                    feed[port["name"]] = np.array([self._first])
                case "reward":
                    feed[port["name"]] = np.array([reward], np.float32)
        names = [port["name"] for port in self.contract["outputs"]]
        outputs = dict(zip(names, self._session.run(names, feed), strict=True))
        if not self._greedy:
            self._draw(outputs)
        self._memory = {name: outputs[source] for name, source in self.contract["memory"].items()}
        self._first = False
        actions = [port for port in self.contract["outputs"] if port["role"] == "action"]
        return together({port["array"]: outputs[port["name"]][0] for port in actions})

    def _draw(self, outputs: dict[str, np.ndarray]) -> None:
        """Replaces the best action by one from the policy, also in what is remembered."""
        ports = {(port["role"], port.get("array")): port for port in self.contract["outputs"]}
        for spec in self.contract["spec"]["actions"]:
            if ("logits", spec["name"]) not in ports:
                continue  # continuous: the best is the mean
            logits = outputs[ports["logits", spec["name"]]["name"]]
            drawn = (logits + self._random.gumbel(size=logits.shape)).argmax(-1)
            action = ports["action", spec["name"]]
            start = np.asarray(spec["low"]).reshape(-1) if spec["kind"] == "discrete" else np.zeros(1)
            outputs[action["name"]] = (drawn + start.reshape(spec["shape"] if start.size > 1 else ())).astype(
                action["dtype"]
            )
            if (last := ports.get(("memory", spec["name"]))) is not None:
                outputs[last["name"]] = drawn.astype(last["dtype"])


def steps_to(array: str) -> list[str | int]:
    """The way to an array in Dict and Tuple spaces: "/arm[2]" is the key "arm", then the position 2."""
    return [key if index == "" else int(index) for key, index in re.findall(r"/([^/\[]*)|\[(\d+)\]", array)]


def part_of(value: Any, array: str) -> Any:
    """What lies there."""
    for step in steps_to(array):
        value = value[step]
    return value


def together(parts: dict[str, Any]) -> Any:
    """The inverse: dictionaries and tuples around arrays."""
    ways = {array: steps_to(array) for array in parts}
    return _built([(ways[array], part) for array, part in parts.items()])


def _built(ways: list[tuple[list[str | int], Any]]) -> Any:
    if not ways[0][0]:
        return ways[0][1]
    groups: dict[str | int, list[tuple[list[str | int], Any]]] = {}
    for (step, *rest), part in ways:
        groups.setdefault(step, []).append((rest, part))
    built = {step: _built(group) for step, group in groups.items()}
    return tuple(built.values()) if isinstance(next(iter(built)), int) else built


def play(policy: OnnxPolicy, env: Any, episodes: int, seed: int = 0) -> list[float]:
    """Plays episodes, and returns what each of them paid."""
    returns = []
    for episode in range(episodes):
        observation, info = env.reset(seed=seed + episode)
        policy.reset()
        total, reward, over = 0.0, 0.0, False
        while not over:
            action = policy.act(observation, reward, info.get("action_mask"))
            observation, reward, terminated, truncated, info = env.step(action)
            total += reward
            over = terminated or truncated
        returns.append(float(total))
    return returns


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="An exported policy plays episodes of a Gymnasium environment.")
    parser.add_argument("file", metavar="POLICY.onnx")
    parser.add_argument("--env", help="its id; that of the training unless given")
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--greedy", action=argparse.BooleanOptionalAction)
    options = parser.parse_args()
    loaded = OnnxPolicy(options.file, options.greedy)
    scores = play(loaded, gymnasium.make(options.env or loaded.contract["spec"]["environment"]), options.episodes)
    print(f"{len(scores)} episodes, mean {np.mean(scores):.2f}, from {min(scores):g} to {max(scores):g}")
