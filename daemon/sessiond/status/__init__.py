"""Status: how the daemon, its sessions and its endpoint are, read from disk, with or without a running daemon.

It never looks complete while something is undiscovered or unread: what only a daemon knows (which files
there are, whether all were read) counts only from the one that runs now. Nothing slow is imported here and nothing is
asked over a network: `sessiond status` has 100 ms.
"""

from __future__ import annotations

import os
import time
from importlib.machinery import PathFinder

from sessiond import pause, state
from sessiond.errors import SpoolDamaged, SpoolTooNew, StateError
from sessiond.spool import NAME, Spool
from sessiond.spool import health as health_room
from sessiond.spool.health import CaptureHealth, ConfigHealth, EndpointHealth
from sessiond.spool.overview import ToolCount, Totals, Trouble, Waiting
from sessiond.spool.safety import BOUND, State, Unsafe
from sessiond.status.advice import advise
from sessiond.status.configured import Configured, Origins, read_configured
from sessiond.status.model import (
    Advice,
    ConfigStatus,
    DaemonStatus,
    Discovery,
    Running,
    Shape,
    SpoolStatus,
    Status,
    ToolStatus,
)
from sessiond.status.progress import Progress, measure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Advice",
    "ConfigStatus",
    "DaemonStatus",
    "Discovery",
    "Progress",
    "Running",
    "Shape",
    "SpoolStatus",
    "Status",
    "ToolStatus",
    "read_status",
]

PATIENCE = 0.03
"""Seconds to wait for a spool that is locked; in WAL mode only a recovery locks readers out."""
TROUBLES = 3


class _Held:
    """What the spool says; members stay as they are here from where it could not be read any more."""

    def __init__(self, shape: SpoolStatus) -> None:
        self.shape = shape
        self.clean = False
        self.refused: str | None = None
        self.taken: ConfigHealth | None = None
        self.capture = CaptureHealth()
        self.endpoint = EndpointHealth()
        self.bound: str | None = None
        """The endpoint that the acknowledgements are of; see spool.safety.BOUND."""
        self.totals: Totals | None = None
        self.outbox: Waiting | None = None
        self.counts: list[ToolCount] = []
        self.lost: list[Unsafe] = []
        self.troubles: list[Trouble] = []
        self.redactions: dict[str, int] = {}

    def believe(self, url: str) -> None:
        """Count nothing as acknowledged that another endpoint than the one at `url` acknowledged."""
        if self.totals is not None and self.bound != url:
            self.totals = self.totals.unanswered()
            self.counts = [each.but(counts=each.counts.unanswered()) for each in self.counts]


def read_status(file: str | None, environ: Mapping[str, str], *, now_ms: int | None = None) -> Status:
    """Read how everything is; never fails for the state that anything is in.

    `file` and `environ` say where the configuration is, as for `config.load`.
    """
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    configured, holder, held = _look(file, environ)
    directory = configured.directory
    endpoint = _endpoint(configured.url, holder, held.endpoint)
    held.believe("" if endpoint.archive else endpoint.url)
    made = Status(
        now_ms=now_ms,
        healthy=False,
        daemon=_daemon(holder, held),
        machine_id=configured.machine_id or held.capture.machine_id or None,
        state_dir=directory,
        disk_bytes=_disk_bytes(directory),
        config=configured.status.but(refused=held.refused if holder else None),
        spool=held.shape,
        discovered=_discovery(holder, held.capture),
        totals=held.totals,
        outbox=held.outbox,
        endpoint=endpoint,
        progress=_progress(holder, held),
        tools=_tools(held),
        redactions=held.redactions,
        scanner=_scanner(configured.redact),
        lost=held.lost,
        troubles=held.troubles,
        advice=[],
        paused=pause.read(directory, now_ms),
    )
    advice = advise(made)
    running = made.daemon.state is Running.RUNNING
    healthy = running and not any(each.degraded for each in advice)
    return made.but(advice=advice, healthy=healthy)


def _look(file: str | None, environ: Mapping[str, str]) -> tuple[Configured, state.Holder | None, _Held]:
    """Find the configuration, and in its state directory a daemon and the spool."""
    origins = Origins(file, environ)
    directory = origins.directory()
    if directory is not None:
        holder, held = _state(directory)
        if (known := origins.recognised(directory, held.taken)) is not None:
            return known, holder, held
    configured = read_configured(file, environ)
    if configured.directory != directory:
        holder, held = _state(configured.directory)
    return configured, holder, held


def _state(directory: str) -> tuple[state.Holder | None, _Held]:
    holder, reason = _holder(directory)
    return holder, _read_spool(directory, reason)


def _scanner(redact: str) -> str:
    """Tell what looks for secrets, without loading it: that would take a tenth of a second."""
    if redact == "off":
        return "off"
    return "re" if PathFinder.find_spec("hyperscan") is None else "hyperscan"


def _holder(directory: str) -> tuple[state.Holder | None, str | None]:
    try:
        return state.running(directory), None
    except OSError as error:
        return None, (error.strerror or str(error)).lower()


def _read_spool(directory: str, unreadable: str | None) -> _Held:
    """Read as much as can be read."""
    if not os.path.lexists(os.path.join(directory, NAME)):
        if unreadable is not None:
            return _Held(SpoolStatus(state=Shape.UNREADABLE, reason=f"{directory}: {unreadable}"))
        return _Held(SpoolStatus(state=Shape.MISSING))
    held = _Held(SpoolStatus(state=Shape.FINE))
    try:
        spool = Spool(directory, readonly=True, patience=PATIENCE)
        try:
            _fill(held, spool)
        finally:
            spool.close()
    except SpoolTooNew as error:
        held.shape = SpoolStatus(state=Shape.TOO_NEW, reason=str(error), hint=error.hint)
    except SpoolDamaged as error:
        held.shape = SpoolStatus(state=Shape.DAMAGED, reason=str(error))
    except StateError as error:
        held.shape = SpoolStatus(state=Shape.UNREADABLE, reason=str(error), hint=error.hint)
    except ValueError as error:
        held.shape = SpoolStatus(state=Shape.UNREADABLE, reason=f"the spool holds something unexpected: {error}")
    return held


def _fill(held: _Held, spool: Spool) -> None:
    with spool.snapshot():
        rebuilt = spool.meta(health_room.REBUILT)
        copies = health_room.read_copies(spool)
        held.shape = SpoolStatus(
            state=Shape.FINE,
            rebuilt_ms=int(rebuilt) if rebuilt else None,
            diverged_ms=copies.diverged_ms,
            moved_from=copies.moved_from,
        )
        held.clean = spool.meta(health_room.CLEAN) is not None
        held.refused = spool.meta(health_room.CONFIG)
        held.taken = health_room.read_taken(spool)
        held.capture = health_room.read_capture(spool)
        held.endpoint = health_room.read_endpoint(spool)
        held.bound = spool.meta(BOUND)
        held.counts = spool.overview.tools()
        held.totals = spool.overview.totals(tools=held.counts)
        held.lost = list(spool.safety.unsafe(State.LOST, limit=TROUBLES)) if held.totals.lost else []
        held.outbox = spool.overview.waiting()
        held.redactions = spool.overview.redactions()
        if any(count.troubled for count in held.counts):
            held.troubles = spool.overview.troubles(TROUBLES)


def _daemon(holder: state.Holder | None, held: _Held) -> DaemonStatus:
    if holder is not None:
        return DaemonStatus(
            state=Running.RUNNING,
            pid=holder.pid or None,
            since_ms=holder.since_ms or None,
            service=holder.service,
            stopped=holder.stopped,
        )
    if held.shape.state is Shape.MISSING:
        return DaemonStatus(state=Running.NEVER)
    # A spool that can't be read does not tell how its daemon ended.
    died = held.shape.state is Shape.FINE and not held.clean
    return DaemonStatus(state=Running.DIED if died else Running.STOPPED)


def _discovery(holder: state.Holder | None, capture: CaptureHealth) -> Discovery:
    if holder is not None and capture.pid != holder.pid:
        return Discovery(current=True)  # the daemon starts and has not looked yet; what another one saw is past
    if capture.discovered is None:
        return Discovery(current=holder is not None)
    files, unread = sum(capture.discovered.values()), capture.backlog + capture.torn
    return Discovery(
        files=files,
        unread=unread,
        left_out=capture.left_out,
        left_out_bytes=capture.left_out_bytes,
        current=holder is not None,
    )


def _progress(holder: state.Holder | None, held: _Held) -> Progress | None:
    if holder is None or held.capture.pid != holder.pid or held.totals is None or held.outbox is None:
        return None
    return measure(held.capture, held.endpoint, held.totals, held.outbox)


def _endpoint(url: str, holder: state.Holder | None, known: EndpointHealth) -> EndpointHealth:
    """Tell the endpoint that the daemon pushes to; of one that does not run, the one that it would push to."""
    same = known.archive if not url else known.url == url
    if same or (holder is not None and known.url):
        return known  # of a daemon that runs always: it has an environment of its own
    return EndpointHealth(url=url, archive=not url)


def _tools(held: _Held) -> list[ToolStatus]:
    """List what is captured and what a daemon watched; before the first one nobody has looked for tools."""
    roots = held.capture.roots
    counts = {count.tool: count for count in held.counts}
    files = held.capture.discovered
    tools = sorted({root.tool for root in roots} | counts.keys())
    return [
        ToolStatus(
            count=counts.get(tool, ToolCount(tool=tool)),
            files=None if files is None else files.get(tool, 0),
            roots=[root for root in roots if root.tool == tool],
        )
        for tool in tools
    ]


def _disk_bytes(directory: str) -> int:
    """Add up what the state directory takes. A pin of a file that its tool still has costs nothing."""
    total, pending = 0, [directory]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                        continue
                    found = entry.stat(follow_symlinks=False)
                    total += 0 if found.st_nlink > 1 else found.st_blocks * 512
        except OSError:
            continue
    return total
