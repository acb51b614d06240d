"""How far the backlog is: bytes and sessions that were found, captured and acknowledged, how fast, and how long yet.

All of it stands in the spool, so that `status` tells the same of a service as a terminal does. Bytes are those of the
tools' files; of documents and databases, of which a transcript is made, the last two are an estimate until the end.
"""

from __future__ import annotations

import os

from sessiond import state
from sessiond.errors import StateError
from sessiond.frozen_record import FrozenRecord
from sessiond.spool import NAME, Spool
from sessiond.spool.health import CaptureHealth, EndpointHealth, read_capture, read_endpoint
from sessiond.spool.stats import Totals, Waiting

PATIENCE = 0.5
"""Seconds to wait for a spool that is locked."""


class Progress(FrozenRecord):
    """What a look has found, without what `backfill` leaves out, and how far it is."""

    files: int
    bytes: int
    captured_files: int
    captured_bytes: int
    captured_sessions: int
    acknowledged_bytes: int
    acknowledged_sessions: int
    rate: float | None = None
    """Bytes a second that were acknowledged in the last minute of pushing; None where none were."""
    seconds_left: float | None = None
    """Until all is acknowledged, at this rate; None where nothing goes on, or nobody knows."""
    waits: str | None = None
    """Why the backlog waits, in words: on battery, on a metered network."""
    done: bool = False
    """Whether all that was found is read, but for files that are being rewritten, and nothing is left to push."""


def measure(capture: CaptureHealth, endpoint: EndpointHealth, totals: Totals, waiting: Waiting) -> Progress | None:
    """Tell how far it is; None before the first look is over."""
    if capture.discovered is None:
        return None
    found = max(0, capture.found_bytes - capture.left_out_bytes)
    captured = max(0, found - capture.backlog_bytes)
    acknowledged = max(0, captured - totals.unsent_bytes)
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
            or totals.archive.pending > totals.archive.refused
        ),
    )


def read_progress(directory: str) -> tuple[Progress | None, EndpointHealth]:
    """Read how far a running daemon, or `sync`, is with the state in `directory`; None before its first look."""
    if not os.path.exists(os.path.join(directory, NAME)):
        return None, EndpointHealth()
    try:
        spool = Spool(directory, readonly=True, patience=PATIENCE)
        try:
            with spool.snapshot():
                capture, endpoint = read_capture(spool), read_endpoint(spool)
                totals, waiting = spool.stats.totals(), spool.stats.waiting()
        finally:
            spool.close()
    except StateError:
        return None, EndpointHealth()  # it is being made, or set aside
    holder = state.running(directory)
    told = holder is not None and holder.pid == capture.pid  # what another one saw is past
    return (measure(capture, endpoint, totals, waiting) if told else None), endpoint
