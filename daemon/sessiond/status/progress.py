"""Progress of the backlog: bytes and sessions found, captured and acknowledged, the rate and the time left.

All values come from the spool, so `status` shows the same for a service and for a daemon in a terminal. Bytes are those
of the tools' files, and those that only the built-in archive has while it is copied. For documents and databases,
captured and acknowledged bytes are estimates until the end.
"""

from __future__ import annotations

import os

from sessiond import state
from sessiond.errors import StateError
from sessiond.frozen_record import FrozenRecord
from sessiond.spool import NAME, Spool
from sessiond.spool.health import CaptureHealth, EndpointHealth, read_capture_progress, read_endpoint
from sessiond.spool.stats import Totals, Waiting

PATIENCE = 0.5
"""Seconds to wait for a locked spool."""


class Progress(FrozenRecord):
    """Totals of the last scan, without files that `backfill` excludes, and how much is done."""

    files: int
    bytes: int
    captured_files: int
    captured_bytes: int
    captured_sessions: int
    acknowledged_bytes: int
    acknowledged_sessions: int
    rate: float | None = None
    """Acknowledged bytes per second in the last minute of pushing; None if there were none."""
    seconds_left: float | None = None
    """Seconds until everything is acknowledged at this rate; None if paused, failing or unknown."""
    waits: str | None = None
    """Why the backlog is paused: on battery, on a metered network."""
    done: bool = False
    """Whether all files are read, except ones that are being rewritten, and nothing is left to push."""


def measure(capture: CaptureHealth, endpoint: EndpointHealth, totals: Totals, waiting: Waiting) -> Progress | None:
    """Return the progress; None before the first scan is complete."""
    if capture.discovered is None:
        return None
    archive = totals.archive
    found = max(0, capture.found_bytes - capture.left_out_bytes - capture.sessionless_bytes) + archive.only_bytes
    captured = max(0, found - capture.backlog_bytes)
    # What is copied from the archive is counted by the archive's list, which has sessions that the spool lost too.
    unsent = totals.unsent_bytes - totals.archived_bytes + archive.only_pending_bytes
    acknowledged = max(0, captured - unsent)
    files = sum(capture.discovered.values()) - capture.left_out
    waits = capture.waits or endpoint.waits
    span_ms = (endpoint.last_ack_ms or 0) - (endpoint.pace_ms or 0)
    rate = endpoint.pace_bytes / span_ms * 1000 if endpoint.pace_ms and span_ms > 0 and endpoint.pace_bytes else None
    going = rate is not None and waits is None and endpoint.failing_since_ms is None
    return Progress(
        files=files,
        bytes=found,
        captured_files=max(0, files - capture.backlog),
        captured_bytes=captured,
        captured_sessions=totals.captured,
        acknowledged_bytes=acknowledged,
        acknowledged_sessions=totals.acknowledged,
        rate=rate,
        seconds_left=(found - acknowledged) / rate if going and rate else None,
        waits=waits,
        done=not (
            capture.backlog
            or totals.unsent_bytes
            or waiting.sessions
            or waiting.segments
            or archive.pending > archive.refused
        ),
    )


def read_progress(directory: str) -> tuple[Progress | None, EndpointHealth]:
    """Return the progress of a running daemon or `sync` with the state in `directory`; None before its first scan."""
    if not os.path.exists(os.path.join(directory, NAME)):
        return None, EndpointHealth()
    try:
        spool = Spool(directory, readonly=True, patience=PATIENCE)
        try:
            with spool.snapshot():
                capture, endpoint = read_capture_progress(spool), read_endpoint(spool)
                totals, waiting = spool.stats.totals(), spool.stats.waiting()
        finally:
            spool.close()
    except StateError:
        return None, EndpointHealth()  # the spool is being created, or set aside
    holder = state.running(directory)
    current = holder is not None and holder.pid == capture.pid  # values of an earlier daemon are outdated
    return (measure(capture, endpoint, totals, waiting) if current else None), endpoint
