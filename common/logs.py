"""Log lines of one process, and what its end tells the shell.

Every process of a run writes to the same stderr, so each line names its process:

    07-14 11:40:50 INFO server: serving ALE/Pong-v5 on 127.0.0.1:40123
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from io import TextIOWrapper
from pathlib import Path

from seedbed.common.errors import SeedbedError, UsageError
from seedbed.common.report import claim, report_error

LEVEL_VARIABLE = "SEEDBED_LOG"
LEVELS = ("debug", "info", "warning", "error")

# gRPC's C core has a log of its own, in another form, in which whoever knocks at the port could write without limit.
# The variable is read when gRPC is imported; children inherit it.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

# gRPC takes its threads and locks along when a process forks, so that a child could go on with its channels. No child
# of ours does, and children of environments that fork (simulators, drivers) were ended by SIGSEGV at it.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

# What a shell shows for a program that was ended by the signal: 128 + SIGINT, 128 + SIGPIPE.
_INTERRUPTED = 130
_BROKEN_PIPE = 141

_LOG_BYTES = 10_000_000
_stderr_is_kept = False
_something_hangs = False


class _StderrHandler(logging.StreamHandler):  # type: ignore[type-arg]  # not generic at run time in Python 3.11
    """Writes to what sys.stderr is now: a live display replaces it, and prints the lines above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Says nothing where nothing can be said; what is wrong with a record itself is told."""
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)


class _FileHandler(logging.handlers.RotatingFileHandler):
    """Keeps two files of that size; a disk that is full costs the lines, and stderr has them."""

    def __init__(self, file: Path) -> None:
        super().__init__(file, maxBytes=_LOG_BYTES, backupCount=1, encoding="utf-8", delay=True, errors="replace")

    def handleError(self, record: logging.LogRecord) -> None:
        """Says nothing: it would be said for each line."""

    def _open(self) -> TextIOWrapper:
        """Waits at no pipe that stands in its place."""
        if os.path.exists(self.baseFilename) and not os.path.isfile(self.baseFilename):
            raise OSError(f"expected a file, got something else: {self.baseFilename}")
        return super()._open()


def stderr_is_kept() -> None:
    """Whoever started this process keeps all that it writes in the file that `log_to` would add to."""
    global _stderr_is_kept
    _stderr_is_kept = True


def end_without_waiting() -> None:
    """Something hangs in this process that the interpreter would wait for at its end: `run_main` does not."""
    global _something_hangs
    _something_hangs = True


@contextlib.contextmanager
def log_to(file: Path) -> Iterator[None]:
    """Within the block this process's log goes to a file too; `setup_logging` before."""
    if _stderr_is_kept:
        yield
        return
    root = logging.getLogger()
    handler = _FileHandler(file)
    handler.setFormatter(root.handlers[0].formatter if root.handlers else None)
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


def setup_logging(process: str, level: str | None = None) -> None:
    """Sends this process's log to stderr; calling it again replaces the earlier setting.

    Args:
        process: name of the process, e.g. "frontend 0".
        level: one of `LEVELS`; otherwise the environment variable SEEDBED_LOG decides, otherwise info.

    Raises:
        UsageError: there is no such level.
    """
    name = (level or os.environ.get(LEVEL_VARIABLE) or "info").lower()
    if name not in LEVELS:
        raise UsageError(f"expected a log level out of {', '.join(LEVELS)}, got {name!r}")
    handler = _StderrHandler()
    text = "%(asctime)s %(levelname)s {process}: %(message)s".replace("{process}", process.replace("%", "%%"))
    handler.setFormatter(logging.Formatter(text, datefmt="%m-%d %H:%M:%S"))
    logging.basicConfig(level=name.upper(), handlers=[handler], force=True)


def name_thread(name: str) -> None:
    """Names the calling thread for those who look at this process from outside (top -H, /proc); at most 15 letters.

    Python itself does it from 3.14 on.
    """
    with contextlib.suppress(OSError):  # no /proc here
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(name)


def run_main(main: Callable[[list[str]], int], argv: Sequence[str] | None = None) -> int:
    """Runs a program and turns how it ends into an exit code.

    A SeedbedError becomes one line on stderr. Any other exception is a defect of ours and keeps its trace.

    Args:
        main: takes the arguments, returns an exit code.
        argv: without the program's name; those of this process if None.
    """
    _open_standard_streams()
    claim()
    try:
        code = _run(main, argv)
    finally:
        # What cannot be written now cannot be at the interpreter's end either, and there it would make exit code 120.
        try:
            sys.stderr.flush()
        except OSError:
            sys.stderr = open(os.devnull, "w")  # noqa: SIM115  # stays open until the process ends
    if _something_hangs:
        os._exit(code)
    return code


def _open_standard_streams() -> None:
    """Streams that a daemon was started without: what is opened next would get their numbers, and our lines."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115  # stays open until the process ends
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


def _run(main: Callable[[list[str]], int], argv: Sequence[str] | None) -> int:
    try:
        code = main(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return code
    except SeedbedError as error:
        report_error(error)
        with contextlib.suppress(OSError):  # nobody reads it; the exit code says it too
            print(f"seedbed: error: {'; '.join(str(error).splitlines())}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader went away, as in `seedbed ... | head`. Without this the interpreter complains while it flushes.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # stays open until the process ends
        return _BROKEN_PIPE
    except Exception:
        traceback.print_exc()
        return 1
