"""Every exception that sessiond raises on purpose.

    SessiondError
    ├── ConfigError            78  the user's configuration can't be used
    ├── StateError              1  our own files can't be used
    │   ├── SpoolTooNew        78  a newer sessiond wrote the spool
    │   ├── SpoolDamaged        1  SQLite reports that the spool is damaged
    │   ├── ArchiveUnreadable   1  the built-in archive can't be read
    │   └── StateFull           1  no space to write (disk, quota)
    ├── AlreadyRunning         75  another daemon holds the lock
    ├── NotRunning              3  the command needs a daemon
    ├── ServiceError            1  the service manager is missing or fails
    ├── NotFound                1  no such session, item or tool
    ├── Shortage               71  the system refuses a thread or memory
    ├── WatchLost               1  a thread that watches files died
    ├── ReadError               1  a tool's file can't be read now
    │   ├── Unsafe                 a link, a device or another user's file, which is never read
    │   └── Torn                   the file is being rewritten; it is read again later
    └── EndpointError          69  the endpoint did not store a push
        ├── Unreachable        69  no answer, or a transient failure
        ├── Refused            77  the token is not accepted
        │   └── Forbidden      77  the token is accepted, but not for this request
        ├── WrongEndpoint      69  the server does not speak our protocol
        ├── TooLarge           69  the request is too large; a smaller one may succeed
        └── Rejected           69  the request is not valid; one of its items may be the cause

A message has no final period. The hint says what to do. The exit code is that of `sessiond` if the error reaches the
command line.
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
    """The configuration can't be used. `file`, `key` and `line` are the position of the mistake; None if unknown."""

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
        position = ":".join(str(part) for part in (file, line) if part is not None)
        subject = f"{key}: {message}" if key else message
        super().__init__(f"{position}: {subject}" if position else subject, hint=hint)
        self.file, self.key, self.line = file, key, line


class StateError(SessiondError):
    """Our own files (state directory, spool, lock) can't be used."""


class SpoolTooNew(StateError):
    """A newer sessiond wrote the spool. Using it with this version could lose data."""

    exit_code = exit_codes.CONFIG


class SpoolDamaged(StateError):
    """SQLite can't read the spool. It is set aside, and rebuilt from the tools' files and the endpoint."""


class ArchiveUnreadable(StateError):
    """The built-in archive, which is to be copied to the configured endpoint, can't be read."""


class StateFull(StateError):
    """There is no space to write (full disk or quota). Capturing waits until there is."""


class AlreadyRunning(SessiondError):
    """Another daemon holds the lock of this state directory."""

    exit_code = exit_codes.ALREADY_RUNNING


class NotRunning(SessiondError):
    """The command needs a running daemon."""

    exit_code = exit_codes.NOT_RUNNING


class ServiceError(SessiondError):
    """The service manager (systemd, launchd) is missing or fails."""


class Shortage(SessiondError):
    """The system refuses another thread or more memory."""

    exit_code = exit_codes.SHORTAGE


def shortage(error: BaseException) -> Shortage | None:
    """Return the Shortage for an error that Python raises if the system refuses a thread or memory; otherwise None."""
    hint = "raise the limits of this process: ulimit -v and -u, or MemoryMax and TasksMax of its service"
    if isinstance(error, MemoryError):
        return Shortage("the system refuses more memory", hint=hint)
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return Shortage("the system refuses another thread", hint=hint)
    return None


class NotFound(SessiondError):
    """No session, outbox item or tool has that name."""


class WatchLost(SessiondError):
    """A thread that watches files died. The process ends; the next one scans everything before it watches again."""


class ReadError(SessiondError):
    """A tool's file can't be read now. Other files are not affected."""


class Unsafe(ReadError):
    """A link, a device, a FIFO or another user's file in place of a session. It is never read."""


class Torn(ReadError):
    """The file is being rewritten. The next change or rescan reads it."""


class Busy(Torn):
    """A tool's database can't be read now, mostly because the tool has locked it. It is tried again soon."""


class EndpointError(SessiondError):
    """The endpoint did not carry out a request. Nothing is lost: the data stays in the outbox."""

    exit_code = exit_codes.UNAVAILABLE


class Unreachable(EndpointError):
    """No answer, or a transient failure: network, timeout, 429, 5xx.

    `retry_after`: the seconds to wait that the endpoint asked for; None if it did not.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class Refused(EndpointError):
    """The endpoint does not accept the token (401). Pushing pauses until the token or the config changes."""

    exit_code = exit_codes.REFUSED


class Forbidden(Refused):
    """The endpoint knows the token, but it may not do this (403). Other requests may be allowed."""


class WrongEndpoint(EndpointError):
    """The server at that address does not speak our protocol: 404, a redirect, HTML, a bad certificate."""


class TooLarge(EndpointError):
    """The request as a whole is too large (413). A smaller one may succeed."""


class Rejected(EndpointError):
    """The endpoint rejects the request as a whole (400, 415, 422). One of its items may be the cause."""
