"""Captures and pushes everything once, in this process: `sync` without a running daemon."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from contextlib import ExitStack

import msgspec

from sessiond import state
from sessiond.clock import now_ms
from sessiond.config import Loaded, state_dir
from sessiond.daemon.engine import SLICE_OF_FILE, Engine, EngineOptions
from sessiond.daemon.messages import Cause, Retry
from sessiond.daemon.settings import resolve_settings
from sessiond.ingest.catch_up import catch_up
from sessiond.spool import Spool
from sessiond.spool.archive_file import archive_position
from sessiond.spool.health import EndpointHealth, read_capture_progress, read_endpoint
from sessiond.spool.safety import BOUND, BOUND_ENDPOINT, CHANGED, LAST_BATCH, UNTRUSTED
from sessiond.spool.stats import ToolCount, Totals, Trouble, Waiting
from sessiond.spool.verification import EACH_MS, last_check_ms

SCAN_ATTEMPTS = 8
SCAN_RETRY_SECONDS = 0.5
"""Attempts to read files that are being rewritten, and the seconds between them."""
ROUNDS = 1000
"""Rounds of pushing and reading: an endpoint that contradicts itself must not keep `sync` running without end."""
SHOWN = 3


class SyncResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of `sync`."""

    totals: Totals
    waiting: Waiting
    endpoint: EndpointHealth
    tools: list[ToolCount]
    troubles: list[Trouble]
    unread: int
    """Files that could not be read to their end because they were being rewritten."""
    paused: int | None = None
    """When the user's pause of pushing ends, as in pause.Paused."""
    left_out: int = 0
    """Files that `backfill` leaves out; they are no part of the rest."""

    @property
    def empty(self) -> bool:
        """Return whether the endpoint has everything that it accepts."""
        return not self.unread and self.only_unread

    @property
    def only_unread(self) -> bool:
        """Return whether nothing is on its way beside files that are being rewritten."""
        totals, archive = self.totals, self.totals.archive
        on_its_way = totals.waiting or totals.archived or archive.pending > archive.refused
        return not (on_its_way or self.waiting.sessions or self.waiting.segments or self.waiting.behind)


def sync_once(loaded: Loaded, environ: Mapping[str, str]) -> SyncResult:
    """Capture all and push all, holding the lock.

    Raises: AlreadyRunning, StateError, ConfigError.
    """
    # Another `sync` may take us for a daemon and send us SIGUSR1, which would end us.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    directory = state_dir(loaded.config)
    state.prepare(directory)
    with ExitStack() as closing:
        lock = state.Lock(directory)
        closing.callback(lock.release)
        settings = resolve_settings(loaded, environ)
        options = EngineOptions(slice=SLICE_OF_FILE, once=True)
        engine = closing.enter_context(Engine(settings, environ, lock, options))
        unread = _capture(engine)
        if settings.paused.pushing is None and (unread or not _archive_has_all(engine)):
            _push(engine)
            if engine.capture_loop.scanner.must_reread:  # another endpoint answered
                unread = _capture(engine)
                _push(engine)
        return sync_result(engine.resources.spool, settings.config.endpoint.url, unread, settings.paused.pushing)


def erase_once(loaded: Loaded, environ: Mapping[str, str]) -> None:
    """Erase forgotten sessions here, at the endpoint and in the built-in archive, holding the lock.

    Nothing is captured or pushed. What the endpoint does not erase now stays due.

    Raises: AlreadyRunning, StateError, ConfigError.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # as in `sync_once`
    directory = state_dir(loaded.config)
    state.prepare(directory)
    with ExitStack() as closing:
        lock = state.Lock(directory)
        closing.callback(lock.release)
        settings = resolve_settings(loaded, environ)
        # Opening the engine erases what is in the spool.
        engine = closing.enter_context(Engine(settings, environ, lock, EngineOptions(slice=SLICE_OF_FILE)))
        if settings.paused.pushing is None:
            engine.upload_loop.pusher.erase()


def sync_result(spool: Spool, url: str, unread: int, paused: int | None = None) -> SyncResult:
    """Return the result. `unread` is the number of files found in a rewrite, which the spool does not know.

    `url` is the endpoint that counts, "" for the built-in archive.
    """
    with spool.snapshot():
        tools = spool.stats.tools(url)
        return SyncResult(
            totals=spool.stats.totals(url, tools),
            waiting=spool.stats.waiting(),
            endpoint=read_endpoint(spool),
            tools=tools,
            troubles=spool.stats.troubles(SHOWN),
            unread=unread,
            paused=paused,
            left_out=read_capture_progress(spool).left_out,
        )


def _capture(engine: Engine) -> int:
    torn = 0
    for attempt in range(SCAN_ATTEMPTS):
        if attempt:
            time.sleep(SCAN_RETRY_SECONDS)
        torn = engine.capture_loop.capture_all()
        if not torn:
            break
    return torn


def _archive_has_all(engine: Engine) -> bool:
    """Return whether the built-in archive has everything, as a push would find out, without starting its process.

    A push compares the archive's id and the name of the last batch with the spool's. If they differ, the archive was
    deleted, replaced or restored from a backup, and what the spool counts as acknowledged may not be in it.
    """
    resources = engine.resources
    spool, directory = resources.spool, resources.directory
    if resources.config.endpoint.url or spool.meta(BOUND) != "" or spool.meta(UNTRUSTED) or spool.meta(CHANGED):
        return False
    with spool.reading():
        if spool.forgotten.due(1, archive=True):
            return False  # it has to erase something
    position = archive_position(directory, resources.device.device_id)
    if position is None or position != (spool.meta(BOUND_ENDPOINT), spool.meta(LAST_BATCH)):
        return False
    checked_ms = last_check_ms(spool, "")
    if checked_ms is None or not 0 <= now_ms() - checked_ms < EACH_MS:
        return False  # a push compares everything once a day
    result = sync_result(spool, "", 0)
    health, waiting, totals = result.endpoint, result.waiting, result.totals
    failing = not health.archive or health.failing_since_ms is not None
    return result.empty and totals.complete and not (failing or waiting.parked or totals.lost or totals.dropped)


def _push(engine: Engine) -> None:
    """Push until nothing is left or the endpoint fails; continue reading streams that waited for room."""
    engine.inboxes.upload.put(Retry(Cause.USER))
    engine.upload_loop.apply_messages()
    stuck: set[int] = set()
    for _ in range(ROUNDS):
        engine.inboxes.upload.sleep(engine.upload_loop.pusher.pace_left())
        if engine.upload_loop.push_all():
            continue
        if read_endpoint(engine.resources.spool).next_attempt_ms is not None or not catch_up(
            engine.resources.ingest, limit=16, stuck=stuck, turn=engine.capture_loop.turn
        ):
            return
