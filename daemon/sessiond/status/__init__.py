"""The status of the daemon, its sessions and its endpoint, read from disk with or without a running daemon.

The status never looks complete while files are undiscovered or unread: facts that only a daemon knows (which files
exist, whether all were read) count only if the running daemon wrote them. `sessiond status` has a budget of 100 ms, so
this package imports nothing slow and does not use the network.
"""

from __future__ import annotations

import os
from importlib.machinery import PathFinder

from sessiond import clock, pause, state
from sessiond.spool.archive_file import archive_bytes
from sessiond.spool.health import CaptureHealth, EndpointHealth, RootHealth
from sessiond.spool.stats import ToolCount
from sessiond.spool.verification import Verification
from sessiond.status.advice import advise
from sessiond.status.configured import Configured, Origins, read_configured
from sessiond.status.model import (
    Advice,
    ConfigStatus,
    DaemonStatus,
    Discovery,
    Running,
    SpoolState,
    SpoolStatus,
    Status,
    ToolStatus,
)
from sessiond.status.progress import Progress, measure
from sessiond.status.snapshot import SpoolSnapshot, read_snapshot
from sessiond.unsaved import find_unsaved

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
    "SpoolState",
    "SpoolStatus",
    "Status",
    "ToolStatus",
    "read_status",
]


def read_status(file: str | None, environ: Mapping[str, str], *, now_ms: int | None = None) -> Status:
    """Read the status. A damaged or missing spool or configuration is reported in it, not raised.

    `file` and `environ` locate the configuration, as for `config.load`.
    """
    now_ms = clock.now_ms() if now_ms is None else now_ms
    configured, holder, snapshot = _locate(file, environ)
    directory = configured.directory
    endpoint = _endpoint(configured.url, holder, snapshot.endpoint)
    snapshot = snapshot.without_foreign_acks("" if endpoint.archive else endpoint.url)
    made = Status(
        now_ms=now_ms,
        healthy=False,
        daemon=_daemon(holder, snapshot),
        machine_id=configured.machine_id or snapshot.capture.machine_id or None,
        state_dir=directory,
        disk_bytes=_disk_bytes(directory),
        config=configured.status.replace(refused=snapshot.refused if holder else None),
        spool=snapshot.spool,
        discovered=_discovery(holder, snapshot.capture),
        totals=snapshot.totals,
        outbox=snapshot.outbox,
        endpoint=endpoint,
        # Without an endpoint, the archive is what has to erase them.
        erasures=snapshot.erasures.replace(endpoint=0) if endpoint.archive else snapshot.erasures,
        sizes=snapshot.sizes,
        archive_bytes=archive_bytes(directory) if endpoint.archive and snapshot.archive_max_bytes else 0,
        archive_max_bytes=snapshot.archive_max_bytes if endpoint.archive else 0,
        keep_days=snapshot.keep_days,
        archive_age=snapshot.archive_age if endpoint.archive else None,
        archive_old=snapshot.archive_old if endpoint.archive else 0,
        archive_old_only_here=snapshot.archive_old_only_here if endpoint.archive else 0,
        verification=_verification(snapshot, "" if endpoint.archive else endpoint.url),
        unreadable=snapshot.unreadable,
        progress=_progress(holder, snapshot),
        tools=_tools(snapshot),
        redactions=snapshot.redactions,
        scanner=_scanner(configured.redact),
        lost=snapshot.lost,
        troubles=snapshot.troubles,
        advice=[],
        paused=pause.read(directory, now_ms),
        unsaved=find_unsaved(environ, now_ms),
        restored=snapshot.restored,
        continued=snapshot.continued,
        restore_interrupted=state.interrupted_restore(directory),
    )
    advice = advise(made)
    healthy = made.daemon.state is Running.RUNNING and not any(each.degraded for each in advice)
    return made.replace(advice=advice, healthy=healthy)


def _locate(file: str | None, environ: Mapping[str, str]) -> tuple[Configured, state.Holder | None, SpoolSnapshot]:
    """Return the configuration, the running daemon and the contents of the spool."""
    origins = Origins(file, environ)
    directory = origins.directory()
    if directory is not None:
        holder, snapshot = _state(directory)
        if (known := origins.recognize(directory, snapshot.taken)) is not None:
            return known, holder, snapshot
    configured = read_configured(file, environ)
    if configured.directory != directory:
        holder, snapshot = _state(configured.directory)
    return configured, holder, snapshot


def _state(directory: str) -> tuple[state.Holder | None, SpoolSnapshot]:
    holder, reason = _holder(directory)
    return holder, read_snapshot(directory, reason)


def _scanner(redact: str) -> str:
    """Return the engine that finds secrets, without importing it: that would take a tenth of a second."""
    if redact == "off":
        return "off"
    return "re" if PathFinder.find_spec("hyperscan") is None else "hyperscan"


def _holder(directory: str) -> tuple[state.Holder | None, str | None]:
    try:
        return state.running(directory), None
    except OSError as error:
        return None, (error.strerror or str(error)).lower()


def _daemon(holder: state.Holder | None, snapshot: SpoolSnapshot) -> DaemonStatus:
    if holder is not None:
        return DaemonStatus(
            state=Running.RUNNING,
            pid=holder.pid or None,
            since_ms=holder.since_ms or None,
            service=holder.service,
            stopped=holder.stopped,
        )
    if snapshot.spool.state is SpoolState.MISSING:
        return DaemonStatus(state=Running.NEVER)
    # An unreadable spool does not show how its daemon ended.
    died = snapshot.spool.state is SpoolState.OK and not snapshot.clean
    return DaemonStatus(state=Running.DIED if died else Running.STOPPED)


def _discovery(holder: state.Holder | None, capture: CaptureHealth) -> Discovery:
    if holder is not None and capture.pid != holder.pid:
        return Discovery(current=True)  # the daemon has not scanned yet, and facts of an earlier daemon are outdated
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


def _progress(holder: state.Holder | None, snapshot: SpoolSnapshot) -> Progress | None:
    if holder is None or snapshot.capture.pid != holder.pid or snapshot.totals is None or snapshot.outbox is None:
        return None
    return measure(snapshot.capture, snapshot.endpoint, snapshot.totals, snapshot.outbox)


def _endpoint(url: str, holder: state.Holder | None, known: EndpointHealth) -> EndpointHealth:
    """Return the endpoint of the running daemon, or the configured one if no daemon runs."""
    same = known.archive if not url else known.url == url
    if same or (holder is not None and known.url):
        return known  # a running daemon has its own environment, so its endpoint is the one in use
    return EndpointHealth(url=url, archive=not url)


def _verification(snapshot: SpoolSnapshot, url: str) -> Verification | None:
    """Return the last comparison, unless it was with another endpoint."""
    last = snapshot.verification
    return last if last is not None and last.url == url else None


def _tools(snapshot: SpoolSnapshot) -> list[ToolStatus]:
    """Return the tools with captured sessions or with roots that a daemon has watched."""
    roots: dict[str, list[RootHealth]] = {}
    for root in snapshot.capture.roots:
        roots.setdefault(root.tool, []).append(root)
    counts = {count.tool: count for count in snapshot.counts}
    files = snapshot.capture.discovered
    return [
        ToolStatus(
            count=counts.get(tool, ToolCount(tool=tool)),
            files=None if files is None else files.get(tool, 0),
            roots=roots.get(tool, []),
            sessionless=snapshot.capture.sessionless.get(tool, 0),
            unrecognized=snapshot.capture.unrecognized.get(tool, 0),
        )
        for tool in sorted(roots.keys() | counts.keys())
    ]


def _disk_bytes(directory: str) -> int:
    """Return the disk usage of the state directory. Files with other hard links (pins) count as 0."""
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
