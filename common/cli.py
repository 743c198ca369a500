"""The command `seedbed VERB ...`: finds the module that does the work and starts it by name.

It imports neither side, so a machine with only the client's dependencies runs the client's verbs.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from seedbed.common.errors import UsageError
from seedbed.common.extras import missing_extra
from seedbed.common.logs import run_main
from seedbed.common.platforms import expect_linux


@dataclass(frozen=True, slots=True)
class _Verb:
    """A module with `main(argv) -> exit code`; several verbs may share one, which then needs the verb in `argv[0]`."""

    module: str
    help: str
    shared: bool = True
    needs_linux: bool = False


VERBS = {
    "train": _Verb(
        "seedbed.server.__main__", "train on this machine: a server and its environment clients", needs_linux=True
    ),
    "server": _Verb(
        "seedbed.server.__main__", "train with environment clients that connect from elsewhere", needs_linux=True
    ),
    "env": _Verb("seedbed.env_client.__main__", "step environments for a server", shared=False),
    "fleet": _Verb(
        "seedbed.env_client.fleets.__main__", "environment clients on the machines of a Ray cluster", shared=False
    ),
    "check": _Verb(
        "seedbed.env_client.check", "try an environment out, before anything is trained on it", shared=False
    ),
    "loadtest": _Verb(
        "seedbed.env_client.loadtest.__main__",
        "what a server carries, and what holds it up",
        shared=False,
        needs_linux=True,
    ),
    "top": _Verb("seedbed.env_client.top.__main__", "how a server is doing, in a terminal", shared=False),
    "eval": _Verb("seedbed.server.__main__", "play episodes with a checkpoint's policy", needs_linux=True),
    "export": _Verb("seedbed.exporting", "write a run's policy as an ONNX or .pt2 file", shared=False),
    "push": _Verb("seedbed.hub", "publish a run's policy on the Hugging Face hub", shared=False),
    "record": _Verb(
        "seedbed.server.__main__", "record episodes of a run's policy as a Minari data set", needs_linux=True
    ),
    "doctor": _Verb("seedbed.common.doctor", "say what is wrong here, or on the way to a server", shared=False),
    "plot": _Verb("seedbed.server.__main__", "draw the learning curves of runs"),
    "list": _Verb("seedbed.server.__main__", "names of presets, algorithms, networks and environments, plug-ins' too"),
    "completion": _Verb("seedbed.server.__main__", "completion of all this for bash or zsh"),
}

# Top-level module -> the extra in pyproject.toml that brings it; None for what seedbed itself requires.
_EXTRAS = {
    "torch": "server",
    "rich": "server",
    "safetensors": "server",
    "tensorboard": "server",
    "prometheus_client": "server",
    "grpc_health": "server",
    "gymnasium": "env",
    "ale_py": "atari",
    "cv2": "atari",
    "matplotlib": "plot",
    "starlette": "dashboard",
    "uvicorn": "dashboard",
    "shtab": "completion",
    "av": "video",
    "ray": "ray",
    "wandb": "wandb",
    "trackio": "trackio",
    "mlflow": "mlflow",
    "sqlalchemy": "mlflow",
    "alembic": "mlflow",
    "yaml": "yaml",
    "huggingface_hub": "hub",
    "minari": "data",
    "h5py": "data",
    "onnx": "export",
    "onnxscript": "export",
    "onnxruntime": "export",
    "grpc": None,
    "google": None,
    "numpy": None,
}


def main(argv: Sequence[str] | None = None) -> int:
    """The console entry.

    Args:
        argv: without the program's name; those of this process if None.

    Returns:
        The exit code.
    """
    return run_main(_dispatch, argv)


@contextlib.contextmanager
def naming_extras() -> Iterator[None]:
    """Turns the import error of an optional dependency into one that says what to install.

    Raises:
        MissingExtraError: names the extra and the module.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in _EXTRAS:
            raise
        raise missing_extra(_EXTRAS[module], f"{module} is missing") from error


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        return 0 if argv else UsageError.exit_code
    verb, *rest = argv
    if verb == "--version":
        print(f"seedbed {_version()}")
        return 0
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(VERBS)}"
        raise UsageError(f"unknown verb {verb!r}, {hint}")
    if VERBS[verb].needs_linux and not {"-h", "--help"} & set(rest):
        expect_linux(f"seedbed {verb}")
    with naming_extras():
        module = importlib.import_module(VERBS[verb].module)
        code: int = module.main(argv if VERBS[verb].shared else rest)
    return code


def _usage() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {name:<{width}}  {verb.help}" for name, verb in VERBS.items()]
    return "\n".join(
        [
            "usage: seedbed VERB ...",
            "",
            *lines,
            "",
            "seedbed VERB --help shows its options, seedbed --version the version.",
        ]
    )


def _version() -> str:
    from importlib.metadata import version  # slow to import, and rarely needed

    return version("seedbed")
