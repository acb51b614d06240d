"""Every exception that sessiond raises on purpose.

    SessiondError
    ├── ConfigError            78  the user's configuration can't be used
    ├── StateError              1  our own files can't be used
    │   ├── SpoolTooNew        78  written by a newer sessiond
    │   ├── SpoolDamaged        1  SQLite says that the file is broken
    │   ├── ArchiveUnreadable   1  the built-in archive, which is to be copied to an endpoint
    │   └── StateFull           1  no room to write (disk, quota)
    ├── AlreadyRunning         75  another daemon holds the lock
    ├── NotRunning              3  the command needs a daemon
    ├── ServiceError            1  the service manager does not do what was asked
    ├── NotFound                1  no such session, item, tool
    ├── Shortage              71  the system refuses a thread or memory
    ├── WatchLost               1  a thread that watches died
    ├── ReadError               1  a tool's file can't be read now
    │   ├── Unsafe                 a link, a device, somebody else's file: never read
    │   └── Torn                   met in the middle of a rewrite: come back
    └── EndpointError          69  the endpoint did not take a push
        ├── Unreachable        69  come back later
        ├── Refused            77  the token is not accepted
        └── WrongEndpoint      69  something answers there, but it does not speak our protocol

A message has no final period; the hint says what to do; the exit code is what `sessiond` ends with
when the error reaches the command line.
"""

from __future__ import annotations

from sessiond import exit_codes


class SessiondError(Exception):
    """Any error that sessiond raises on purpose."""

    exit_code = exit_codes.FAILED

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class ConfigError(SessiondError):
    """The configuration can't be used; `file`, `key` and `line` say where, as far as they are known."""

    exit_code = exit_codes.CONFIG

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        key: str | None = None,
        line: int | None = None,
        hint: str | None = None,
    ) -> None:
        place = ":".join(str(part) for part in (file, line) if part is not None)
        subject = f"{key}: {message}" if key else message
        super().__init__(f"{place}: {subject}" if place else subject, hint=hint)
        self.file, self.key, self.line = file, key, line


class StateError(SessiondError):
    """Our own files (state directory, spool, lock) can't be used."""


class SpoolTooNew(StateError):
    """The spool was written by a newer sessiond; reading it with this one could lose what it holds."""

    exit_code = exit_codes.CONFIG


class SpoolDamaged(StateError):
    """SQLite can't read the spool; it is set aside and rebuilt from the sources and the endpoint."""


class ArchiveUnreadable(StateError):
    """The built-in archive, which is to be copied to the configured endpoint, can't be read."""


class StateFull(StateError):
    """There is no room to write the spool (full disk or quota); capturing waits until there is."""


class AlreadyRunning(SessiondError):
    """Another daemon holds the lock of this state directory."""

    exit_code = exit_codes.ALREADY_RUNNING


class NotRunning(SessiondError):
    """The command needs a running daemon."""

    exit_code = exit_codes.NOT_RUNNING


class ServiceError(SessiondError):
    """The service manager (systemd, launchd) is not there, or does not do what was asked."""


class Shortage(SessiondError):
    """The system refuses another thread or more memory."""

    exit_code = exit_codes.SHORTAGE


def shortage(error: BaseException) -> Shortage | None:
    """Return what to report for an error that Python raises where the system has no more threads or memory.

    None for every other error.
    """
    hint = "raise the limits of this process: ulimit -v and -u, or MemoryMax and TasksMax of its service"
    if isinstance(error, MemoryError):
        return Shortage("the system refuses more memory", hint=hint)
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return Shortage("the system refuses another thread", hint=hint)
    return None


class NotFound(SessiondError):
    """No session, outbox item or tool goes by that name."""


class WatchLost(SessiondError):
    """A thread that watches for changes died; a new process watches again and looks at everything first."""


class ReadError(SessiondError):
    """A tool's file can't be read now; others go on."""


class Unsafe(ReadError):
    """A link, a device, a FIFO or somebody else's file where a session should be; it is never read."""


class Torn(ReadError):
    """The file was met in the middle of a rewrite; the next change or rescan reads it."""


class EndpointError(SessiondError):
    """The endpoint did not take a request; nothing of it is lost."""

    exit_code = exit_codes.UNAVAILABLE


class Unreachable(EndpointError):
    """No answer, or one that says to come back: network, time-out, 429, 5xx.

    `retry_after` is what the endpoint asked for, in seconds, or None.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class Refused(EndpointError):
    """The endpoint does not accept the token (401, 403); pushing pauses until the token or the config changes."""

    exit_code = exit_codes.REFUSED


class WrongEndpoint(EndpointError):
    """Something answers at that address, but not with our protocol: 404, a redirect, HTML, a bad certificate."""


class TooLarge(EndpointError):
    """The request as a whole was too large (413); a smaller one may pass."""


class Rejected(EndpointError):
    """The endpoint found the request as a whole invalid (400, 415, 422); one of its items may be the cause."""
