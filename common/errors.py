"""One small family of errors, and what each means to a shell and to gRPC.

SeedbedError                exit code  gRPC status            retry?
|- UsageError               2          -                      no     bad options
|- MissingExtraError        69         -                      no     an optional dependency is not installed
|- SpecError                78         FAILED_PRECONDITION    no     environment unknown, or specs differ
|- VersionError             78         FAILED_PRECONDITION    no     protocol or file format versions differ
|- ConfigError              78         -                      no     a run's files do not fit what was asked
|- AuthError                77         UNAUTHENTICATED        no     token or certificate
|- DivergedError            1          -                      no     what is learnt is not finite any more
|- PortInUseError           73         -                      no     somebody else listens there
|- InvalidMessageError      76         INVALID_ARGUMENT       no     a message breaks the contract
|- SequenceError            76         FAILED_PRECONDITION    no     seq out of order
|- PipeliningError          76         RESOURCE_EXHAUSTED     no     more than one Steps in flight
|- FencedError              76         ABORTED                no     a newer run or stream took the lease over
|- IndexTakenError          76         ALREADY_EXISTS         no     another live client has the environment index
|- CapacityError            75         RESOURCE_EXHAUSTED     yes    no row is free now
|- RunInUseError            75         -                      no     another process works in the run directory
|- BrokenError              75         -                      no     an environment, or a client, breaks again and again
|- UnsavedError             74         -                      no     the last checkpoint of a run could not be written
|- DeviceMemoryError        75         -                      no     the device has no memory left
|- PeerLostError            75         -                      no     another learner of the run is gone
`- UnavailableError         75         UNAVAILABLE            yes    the server is away, draining or restarting

A SeedbedError is a message to a person: the command line prints it on one line, without a stack trace. Anything else
that escapes is a defect of ours and keeps its trace.
"""

from __future__ import annotations

from typing import ClassVar


class SeedbedError(Exception):
    """Base of all errors that are not defects of seedbed itself."""

    exit_code: ClassVar[int] = 1
    status: ClassVar[str] = "INTERNAL"
    retryable: ClassVar[bool] = False


class UsageError(SeedbedError):
    """Options that make no sense."""

    exit_code = 2


class MissingExtraError(SeedbedError):
    """An optional dependency is not installed; the message names the extra."""

    exit_code = 69


class SpecError(SeedbedError):
    """The environment is unknown, unsupported, or not the one the server serves."""

    exit_code = 78
    status = "FAILED_PRECONDITION"


class VersionError(SeedbedError):
    """The two sides, or a file and this program, speak different versions."""

    exit_code = 78
    status = "FAILED_PRECONDITION"


class ConfigError(SeedbedError):
    """A run directory or checkpoint does not fit what was asked."""

    exit_code = 78


class AuthError(SeedbedError):
    """Token or certificate missing, wrong or expired."""

    exit_code = 77
    status = "UNAUTHENTICATED"


class DivergedError(SeedbedError):
    """Learning has left the finite numbers; its last checkpoint is from before."""


class PortInUseError(SeedbedError):
    """Somebody else listens on the port."""

    exit_code = 73


class InvalidMessageError(SeedbedError):
    """A message that breaks the contract: wrong length, shape, step type or value."""

    exit_code = 76
    status = "INVALID_ARGUMENT"


class SequenceError(SeedbedError):
    """Steps came out of order."""

    exit_code = 76
    status = "FAILED_PRECONDITION"


class PipeliningError(SeedbedError):
    """A second Steps came before the first was answered."""

    exit_code = 76
    status = "RESOURCE_EXHAUSTED"


class FencedError(SeedbedError):
    """A newer run_id of the same client, or a newer stream of the same lease, took over."""

    exit_code = 76
    status = "ABORTED"


class IndexTakenError(SeedbedError):
    """A stable environment index that another live client holds."""

    exit_code = 76
    status = "ALREADY_EXISTS"


class CapacityError(SeedbedError):
    """No row is free now; one may be later."""

    exit_code = 75
    status = "RESOURCE_EXHAUSTED"
    retryable = True


class RunInUseError(SeedbedError):
    """Another process works in the run directory. It may have left when a supervisor starts this one again."""

    exit_code = 75


class BrokenError(SeedbedError):
    """An environment, or a whole client, raises, hangs or dies again and again. A supervisor may start it once more."""

    exit_code = 75


class UnsavedError(SeedbedError):
    """A run has ended, and its last checkpoint is not on the disk."""

    exit_code = 74


class DeviceMemoryError(SeedbedError):
    """The device has no memory left. Whoever else uses it may have gone when a supervisor starts it again."""

    exit_code = 75


class PeerLostError(SeedbedError):
    """Another learner of the run is gone, or has not come. All of them are started again together."""

    exit_code = 75


class UnavailableError(SeedbedError):
    """The server is away, draining or restarting."""

    exit_code = 75
    status = "UNAVAILABLE"
    retryable = True


def named_error(name: str, details: str) -> SeedbedError:
    """The error of a class that another process named; of the base class if this version has no such class."""
    return _BY_NAME.get(name, SeedbedError)(details)


_BY_NAME: dict[str, type[SeedbedError]] = {cls.__name__: cls for cls in SeedbedError.__subclasses__()}

ERROR_NAME_KEY = "seedbed-error"
"""Trailing metadata key under which a server names the exact class, since several share one gRPC status."""


_UNNAMED = {
    "PERMISSION_DENIED": AuthError,
    "UNIMPLEMENTED": VersionError,  # something else than a seedbed server listens there
    "RESOURCE_EXHAUSTED": InvalidMessageError,  # gRPC's own limits: the message is too large and will stay so
}


def error_from_status(status: str, details: str, name: str | None = None) -> SeedbedError:
    """Builds the client's error from what the server answered.

    Args:
        status: name of the gRPC status code, e.g. "INVALID_ARGUMENT".
        details: text of the status.
        name: class name from the trailing metadata, if the server sent one.

    Returns:
        An error of the named class, else of the class that this status stands for when gRPC itself sends it;
        statuses that mean "not now" (UNAVAILABLE, CANCELLED, DEADLINE_EXCEEDED, UNKNOWN, INTERNAL) and all unknown
        ones become UnavailableError.
    """
    classes = reversed(_BY_NAME.values())
    by_status = {cls.status: cls for cls in classes if cls.status != "INTERNAL"} | _UNNAMED
    found = _BY_NAME.get(name or "") or by_status.get(status)
    return found(details) if found is not None else UnavailableError(f"{status}: {details}")
