"""Who may import whom: every file is parsed, so an import inside a function counts as well.

The table is the architecture: read it from top to bottom and nothing points downwards but the composition roots.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("api", "proto", "common", "env_client", "server")

# Part of seedbed -> what else of seedbed it may import. The longest name that fits a module holds for it.
RULES: dict[str, tuple[str, ...]] = {
    "api": ("common", "env_client", "server"),  # `seedbed` itself; nothing imports it
    "proto": (),
    "common": ("proto",),
    "env_client": ("proto", "common"),
    "server": (),
    "server.options": ("common",),
    "server.presets": ("common",),
    "server.shared": ("common",),
    "server.frontend": ("proto", "common", "server.shared"),
    "server.losses": ("common",),
    "server.networks": ("common", "server.options"),
    "server.experience": ("common", "server.options", "server.networks"),
    "server.algorithms": ("common", "server.options", "server.losses", "server.networks", "server.experience"),
    "server.export": ("common", "server.networks", "server.experience", "server.algorithms"),
    "server.inference": (
        "common",
        "server.options",
        "server.shared",
        "server.networks",
        "server.experience",
        "server.algorithms",
        "server.frontend",
    ),
    "server.learning": (
        "common",
        "server.options",
        "server.shared",
        "server.losses",
        "server.networks",
        "server.experience",
        "server.algorithms",
        "server.inference",
    ),
    "server.run": ("common", "server.options", "server.shared"),
    "server.recording": ("common", "server.shared"),
    "server.dashboard": ("common", "server.shared"),
    "server.trackers": ("common", "server.shared"),
    "server.monitoring": (
        "common",
        "server.options",
        "server.shared",
        "server.run",
        "server.dashboard",
        "server.trackers",
    ),
    # The composition roots. Nothing imports them but the command line, and one another.
    "server.training": ("common", "server"),
    "server.verbs": ("common", "server"),
    "server.__main__": ("common", "server"),
}
ROOTS = ("server.training", "server.verbs", "server.__main__", "api.child")

# Package from elsewhere -> the only parts that may import it.
ONLY_IN: dict[str, tuple[str, ...]] = {
    "torch": (
        "server.losses",
        "server.networks",
        "server.experience",
        "server.algorithms",
        "server.inference",
        "server.learning",
        "server.export",
        "server.run",
        "server.trackers.tensorboard",
        "server.training",
        "server.verbs",
        "api.policy",
    ),
    "gymnasium": ("env_client.environments", "server.recording"),
    "minari": ("server.recording",),
    "ale_py": ("env_client.environments.ale", "env_client.environments.atari"),
    "cv2": ("env_client.environments.ale", "env_client.environments.images"),
    "av": ("env_client.environments.film",),
    "ray": ("env_client.fleets.on_ray",),
    "matplotlib": ("server.verbs.plot", "env_client.loadtest.plot"),
    "starlette": ("server.dashboard",),
    "uvicorn": ("server.dashboard",),
    "rich": ("server.monitoring.progress",),
    "safetensors": ("server.run.checkpoint",),
    "tensorboard": ("server.trackers.tensorboard",),
    "wandb": ("server.trackers.wandb",),
    "trackio": ("server.trackers.trackio",),
    "mlflow": ("server.trackers.mlflow",),
    "huggingface_hub": ("api.hub", "api.hub_folder", "api.hub_card"),
    "onnxscript": ("server.export",),
    "onnxruntime": ("server.export",),
    "grpc": ("proto", "common.grpc_channel", "common.doctor", "env_client", "server.frontend"),
    "grpc_health": ("server.frontend.health_service",),
    "grpc_tools": ("proto.generate",),
    "prometheus_client": ("server.monitoring.prometheus",),
    "numpy": (
        "common.array_spec",
        "common.codec",
        "common.containers",
        "common.echo",
        "common.specs",
        "common.timestep",
        "common.unpacking",
        "env_client",
        "server",
        "api",
    ),
}

# Entry point -> what starting it must not load.
LIGHT: dict[str, tuple[str, ...]] = {
    "seedbed": ("torch", "gymnasium", "numpy", "grpc", "google", "seedbed.common", "importlib.metadata"),
    "seedbed.server": ("torch", "gymnasium", "numpy"),
    "seedbed.server.frontend.process": ("torch", "gymnasium", "rich"),
    "seedbed.server.monitoring.http_endpoint": ("torch", "gymnasium", "grpc", "google"),
    "seedbed.server.dashboard.process": ("torch", "gymnasium", "grpc", "google", "rich", "starlette", "uvicorn"),
    "seedbed.server.__main__": ("torch", "gymnasium", "grpc"),  # a spawned frontend imports it again
    "seedbed.server.options.config": ("torch", "gymnasium", "numpy", "grpc"),
    "seedbed.server.presets.registry": ("torch", "gymnasium", "numpy", "grpc"),
    "seedbed.common.cli": ("torch", "gymnasium", "numpy", "grpc", "google"),
    "seedbed.common.credentials": ("torch", "gymnasium", "numpy", "grpc", "google"),
    "seedbed.common.doctor": ("torch", "gymnasium", "seedbed.server", "seedbed.env_client"),
    "seedbed.common.options": ("torch", "gymnasium", "numpy", "grpc"),
    "seedbed.env_client.__main__": ("torch", "gymnasium", "ale_py", "cv2", "seedbed.server"),
    "seedbed.env_client.loadtest.__main__": ("torch", "gymnasium", "ale_py", "matplotlib", "seedbed.server"),
    "seedbed.env_client.fleets.__main__": ("torch", "gymnasium", "ale_py", "ray", "seedbed.server"),
    "seedbed.env_client.top.__main__": ("torch", "gymnasium", "ale_py", "seedbed.server", "rich"),
    "seedbed.env_client.environments.atari": ("torch", "gymnasium"),
}


def source_files() -> dict[str, Path]:
    """Module name without "seedbed." -> file, generated ones left out."""
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in files]
    return {name: path for name, path in zip(names, files, strict=True) if "_pb2" not in name}


def imports_of(source: str) -> set[str]:
    """Full names of all that a file imports; for `from a import b` both "a" and "a.b"."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the whole path: from seedbed.common.x import ..."
            module = node.module or ""
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def is_within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


def broken_rules(module: str, source: str, modules: set[str]) -> list[str]:
    """What a file imports against the tables."""
    part = max((name for name in RULES if is_within(module, name)), key=len)
    broken = []
    for name in imports_of(source):
        ours = place_of(name)
        if is_within(name, "seedbed"):
            allowed = any(is_within(ours, other) for other in (*RULES[part], part))
            forbidden_root = ours in ROOTS and module not in ROOTS
            if ours in modules and has_code(ours) and (forbidden_root or not allowed):
                broken.append(f"{module} imports {ours}")
        else:
            package = name.partition(".")[0]
            homes = ONLY_IN.get(package)
            if homes is not None and not any(is_within(module, home) for home in homes):
                broken.append(f"{module} imports {package}")
    return sorted(set(broken))


def place_of(name: str) -> str:
    """A module of seedbed by its place in the tree, where the package `seedbed` itself is the folder api."""
    place = name.removeprefix("seedbed").removeprefix(".")
    return place if place.partition(".")[0] in PACKAGES else f"api.{place}".rstrip(".")


def has_code(module: str) -> bool:
    """Whether it is more than a folder: `from seedbed.common import codec` names an empty package too."""
    return module == "api" or not (ROOT / Path(*module.split(".")) / "__init__.py").exists()


def test_every_file_keeps_the_rules() -> None:
    files = source_files()
    assert len(files) > 60
    broken = [line for name, path in files.items() for line in broken_rules(name, path.read_text(), set(files))]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("common.codec", "import torch"),
        ("common.logs", "import numpy as np"),
        ("common.errors", "def f() -> None:\n    import numpy.linalg"),
        ("common.echo", "from seedbed.env_client.actor import Policy"),
        ("env_client.actor", "from seedbed.server.options.config import ServerConfig"),
        ("env_client.actor", "import torch.nn.functional as F"),
        ("server.training.run", "from seedbed.env_client import actor"),
        ("server.training.run", "import gymnasium"),
        ("server.options.config", "import torch"),
        ("server.dashboard.views", "import torch"),
        ("server.monitoring.watch", "import starlette"),
        ("server.shared.slots", "import torch"),
        ("server.frontend.frontend", "from torch import Tensor"),
        ("server.frontend.frontend", "from seedbed.server.inference.policy import Inference"),
        ("server.inference.service", "from seedbed.server.training.run import TrainingRun"),
        ("server.inference.service", "from seedbed.server.monitoring.metrics import MetricsWriter"),
        ("server.inference.service", "from seedbed.server.learning.learner import Learner"),
        ("server.networks.body", "from seedbed.server.algorithms.vtrace import VTrace"),
        ("server.losses.vtrace", "from seedbed.server.networks.body import Body"),
        ("server.algorithms.vtrace", "from seedbed.server.inference.parameters import Parameters"),
        ("server.experience.fifo", "from seedbed.server.learning import learner"),
        ("server.learning.learner", "from seedbed.server.frontend.rpc import abort"),
        ("server.training.run", "import seedbed"),
        ("env_client.actor", "from seedbed import EpisodeLost"),
        ("api.spaces", "import torch"),
        ("api.remote", "import grpc"),
    ],
)
def test_rules_can_be_broken(module: str, line: str) -> None:
    assert broken_rules(module, line, set(source_files()))


def test_relative_imports_are_refused() -> None:
    with pytest.raises(AssertionError, match="whole path"):
        imports_of("from . import codec")


@pytest.mark.parametrize("module", LIGHT)
def test_entry_points_load_only_what_they_need(module: str) -> None:
    program = f"import {module}, sys; print([name for name in {LIGHT[module]!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
