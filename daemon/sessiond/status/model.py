"""Types of the status; `sessiond status --json` prints them."""

from __future__ import annotations

from enum import StrEnum

from sessiond.frozen_record import FrozenRecord
from sessiond.pause import Paused
from sessiond.spool.forgotten import Erasures
from sessiond.spool.health import EndpointHealth, RootHealth
from sessiond.spool.safety import Unsafe
from sessiond.spool.sizes import Sizes
from sessiond.spool.stats import ToolCount, Totals, Trouble, Waiting
from sessiond.spool.verification import Verification
from sessiond.status.progress import Progress
from sessiond.unsaved import Unsaved


class Running(StrEnum):
    """The state of the daemon."""

    RUNNING = "running"
    STOPPED = "stopped"
    DIED = "died"
    """It ended without closing the spool: a kill, a crash, a power cut. Captured sessions are not lost."""
    NEVER = "never started"


class SpoolState(StrEnum):
    """The state of the spool file."""

    OK = "ok"
    MISSING = "missing"
    DAMAGED = "damaged"
    TOO_NEW = "too new"
    UNREADABLE = "unreadable"
    """Locked, not permitted, or another error; see `reason`."""


class DaemonStatus(FrozenRecord):
    """The process that holds the lock of the state directory."""

    state: Running
    pid: int | None = None
    since_ms: int | None = None
    service: str | None = None
    stopped: str | None = None
    """Why it can't capture now, such as a full disk."""


class ConfigStatus(FrozenRecord):
    """The configuration files; `error`: why they are invalid, `refused`: why the daemon kept the previous values."""

    files: tuple[str, ...] = ()
    error: str | None = None
    hint: str | None = None
    refused: str | None = None


class SpoolStatus(FrozenRecord):
    """The spool file. `rebuilt_ms`: when it was rebuilt because the previous one was damaged."""

    state: SpoolState
    reason: str | None = None
    hint: str | None = None
    rebuilt_ms: int | None = None
    diverged_ms: list[int] = []  # noqa: RUF012 - each has its own
    """When pushes of this device that are not in this spool were found at the endpoint."""
    moved_from: str | None = None
    """The machine that used this state directory before this one."""


class Discovery(FrozenRecord):
    """Files in the tools' directories. None if there was no scan yet."""

    files: int | None = None
    unread: int | None = None
    """Files that were found but not read yet."""
    left_out: int = 0
    """Files that `backfill` excludes."""
    left_out_bytes: int = 0
    current: bool = False
    """Whether the values are from the running daemon; otherwise they are from the last one."""


class ToolStatus(FrozenRecord):
    """One tool: its captured sessions and its directories."""

    count: ToolCount
    files: int | None
    roots: list[RootHealth]
    sessionless: int = 0
    """Side files of sessions that are not captured."""
    unrecognized: int = 0
    """Files that look like sessions and that no source reads."""

    def is_here(self, home: str) -> bool:
        """Return whether the tool has sessions, files, or a directory of its own (the home directory is not)."""
        own = any(root.how != "missing" and root.path != home for root in self.roots)
        return own or self.count.sessions > 0 or bool(self.files)


class Advice(FrozenRecord):
    """What is wrong, and what to do about it. Without `degraded` it is only a hint."""

    what: str
    do: str | None = None
    degraded: bool = True


class Status(FrozenRecord):
    """Everything that `sessiond status` shows. Within a version, members are added but do not change."""

    version: int = 1
    now_ms: int
    healthy: bool
    daemon: DaemonStatus
    machine_id: str | None
    state_dir: str
    disk_bytes: int
    """Disk usage of the state directory, including the built-in archive."""
    config: ConfigStatus
    spool: SpoolStatus
    discovered: Discovery
    totals: Totals | None
    outbox: Waiting | None
    endpoint: EndpointHealth
    tools: list[ToolStatus]
    redactions: dict[str, int]
    """Numbers of masked secrets, by rule."""
    scanner: str = "hyperscan"
    """The engine that finds secrets: `hyperscan`, `re` (much slower) if hyperscan is not installed, or `off`."""
    lost: list[Unsafe]
    """Some of the sessions with lost bytes."""
    troubles: list[Trouble]
    """Some of the files that can't be read."""
    advice: list[Advice]
    erasures: Erasures = Erasures()
    """Sessions that the user erased, and where that is still to be done."""
    sizes: Sizes | None = None
    """How much was captured, counted once a day; None before the first time."""
    archive_bytes: int = 0
    """The size of the built-in archive, while it is the endpoint and has a limit."""
    archive_max_bytes: int = 0
    """Its limit; 0: none."""
    keep_days: int | None = None
    """The days for which the endpoint keeps sessions; None: it keeps all."""
    archive_old: int = 0
    """Sessions older than `archive.keep`, while the built-in archive is the endpoint: nothing is removed then."""
    archive_old_only_here: int = 0
    """How many of them exist only in the archive, because their tool deleted them."""
    archive_age: float | None = None
    """`archive.keep` in seconds, while the built-in archive is the endpoint; None: everything is kept."""
    verification: Verification | None = None
    """The last comparison with the endpoint; None: there was none with this one."""
    unreadable: int = 0
    """Sessions whose copies at the endpoint are to be compared, but the token can't read them."""
    progress: Progress | None = None
    """Progress of the running daemon; None before its first scan."""
    paused: Paused = Paused()
    """The user's pauses."""
    unsaved: list[Unsaved] = []  # noqa: RUF012
    """Running tools that save no transcript, so that nothing of them can be captured."""
    continued: int = 0
    """Sessions of other machines that were restored here and continued: `show` names the one that each continues."""
    restored: int = 0
    """Sessions of other machines that were restored here and have no message of their own, so that only the endpoint
    from which they came has them."""
    restore_interrupted: bool = False
    """Whether a restore was killed."""
