"""What `sessiond status` tells, as types; `--json` prints them."""

from __future__ import annotations

from enum import StrEnum

from sessiond.frozen_record import FrozenRecord
from sessiond.pause import Paused
from sessiond.spool.health import EndpointHealth, RootHealth
from sessiond.spool.safety import Unsafe
from sessiond.spool.stats import ToolCount, Totals, Trouble, Waiting
from sessiond.status.progress import Progress


class Running(StrEnum):
    """How the daemon is."""

    RUNNING = "running"
    STOPPED = "stopped"
    DIED = "died"
    """It ended without closing the spool: a kill, a crash, a power cut. Nothing that was captured is lost."""
    NEVER = "never started"


class SpoolState(StrEnum):
    """How the spool is."""

    OK = "ok"
    MISSING = "missing"
    DAMAGED = "damaged"
    TOO_NEW = "too new"
    UNREADABLE = "unreadable"
    """Locked, without permission, or of another kind of trouble; `reason` has the words."""


class DaemonStatus(FrozenRecord):
    """The process, as the lock of the state directory tells."""

    state: Running
    pid: int | None = None
    since_ms: int | None = None
    service: str | None = None
    stopped: str | None = None
    """Why it can't capture now: a full disk."""


class ConfigStatus(FrozenRecord):
    """Which files make the configuration; `error`: why it can't be used, `refused`: why the daemon kept its old one."""

    files: tuple[str, ...] = ()
    error: str | None = None
    hint: str | None = None
    refused: str | None = None


class SpoolStatus(FrozenRecord):
    """The spool as a file. `rebuilt_ms`: when it was begun anew because the one before was damaged."""

    state: SpoolState
    reason: str | None = None
    hint: str | None = None
    rebuilt_ms: int | None = None
    diverged_ms: list[int] = []  # noqa: RUF012 - each has its own
    """When the endpoint was found to have another last push of this device than this spool."""
    moved_from: str | None = None
    """Another machine that used this state directory before."""


class Discovery(FrozenRecord):
    """What lies in the tools' directories. None and not `current`: nobody has looked since the daemon started."""

    files: int | None = None
    unread: int | None = None
    """Of the files those that were found and are not yet read."""
    left_out: int = 0
    """Of the files those that `backfill` leaves out."""
    left_out_bytes: int = 0
    current: bool = False
    """Whether a running daemon tells it; else it is what the last one left."""


class ToolStatus(FrozenRecord):
    """One tool: what is captured of it and how its directories are watched."""

    count: ToolCount
    files: int | None
    roots: list[RootHealth]

    def is_here(self, home: str) -> bool:
        """Tell whether there is anything of it: sessions, files, or a directory of its own, which the home is not."""
        own = any(root.how != "missing" and root.path != home for root in self.roots)
        return own or self.count.sessions > 0 or bool(self.files)


class Advice(FrozenRecord):
    """What is wrong, and what to do about it. Without `degraded` it is worth knowing and breaks no promise."""

    what: str
    do: str | None = None
    degraded: bool = True


class Status(FrozenRecord):
    """All that `sessiond status` shows. Members are added; what is here keeps its meaning within a version."""

    version: int = 1
    now_ms: int
    healthy: bool
    daemon: DaemonStatus
    machine_id: str | None
    state_dir: str
    disk_bytes: int
    """What the state directory takes on the disk, the built-in archive included."""
    config: ConfigStatus
    spool: SpoolStatus
    discovered: Discovery
    totals: Totals | None
    outbox: Waiting | None
    endpoint: EndpointHealth
    tools: list[ToolStatus]
    redactions: dict[str, int]
    """Secrets that were masked, by their rule."""
    scanner: str = "hyperscan"
    """What looks for them: `hyperscan`; `re` where that is not installed, slower by far; `off`."""
    lost: list[Unsafe]
    """A few of the sessions of which bytes are in no place that can be reached."""
    troubles: list[Trouble]
    """A few of the files that can't be read."""
    advice: list[Advice]
    progress: Progress | None = None
    """How far a running daemon is with what it has found; None where none has looked yet."""
    paused: Paused = Paused()
    """What the user has paused."""
