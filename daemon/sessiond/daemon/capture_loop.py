"""The capture thread: waits for changes, and reads what the work queue has next."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from itertools import chain

from msgspec.structs import replace

from sessiond.daemon.backlog import Entry, Rank
from sessiond.daemon.config_watch import ConfigWatch
from sessiond.daemon.idle import Idle
from sessiond.daemon.messages import Captured, ConfigChanged, EraseForgotten, Inboxes, Message, MoreRoom, ScanNow
from sessiond.daemon.reporting import CaptureReport
from sessiond.daemon.resources import Resources
from sessiond.daemon.scanner import Scanner
from sessiond.daemon.throttle import Throttle
from sessiond.daemon.work_queue import Lane, Reading, Work, WorkQueue
from sessiond.errors import StateFull
from sessiond.ingest import ONCE, ingest
from sessiond.ingest.catch_up import can_catch_up, catch_up
from sessiond.ingest.forget import erase_forgotten
from sessiond.logs import log
from sessiond.spool.scrub import scrub
from sessiond.state import Lock, free_bytes
from sessiond.watch import Batch, WatchedRoot, Watcher

FULL_WAIT = 10.0
"""Seconds between two attempts to write to a full disk."""
SLICE_BYTES, SLICE_SECONDS = 8 << 20, 0.25
"""Limits of one piece of work, so that live changes never wait longer for the backlog."""
GROUP_BYTES, GROUP_FILES = 2 << 20, 32
"""Limits of one commit of small files. Others can't write to the spool until it is made, up to 60 ms. A commit writes
all changed pages, about 100 KB beside the transcripts: with half of these bytes, a backlog writes an eighth more.
"""
STREAMS = 16
"""Waiting streams that are read on before the queue is asked again."""


class CaptureLoop:
    """Reads the tools' files into the spool. Other threads send it messages; see `WorkQueue` for the priorities."""

    slice_seconds = SLICE_SECONDS
    """The longest piece of work. Tests that count commits lift it: on a loaded machine it ends pieces early."""

    def __init__(
        self, resources: Resources, watcher: Watcher, lock: Lock, inboxes: Inboxes, throttle: Throttle
    ) -> None:
        self._resources = resources
        self._watcher = watcher
        self._lock = lock
        self._inboxes = inboxes
        self.queue = WorkQueue(throttle)
        self.scanner = Scanner(resources, watcher)
        self.report = CaptureReport(resources, self.scanner, self.queue)
        self._idle = Idle(resources.ingest, self.scanner.sources)
        self.config_files: ConfigWatch | None = None
        """The files whose changes are reported to the main thread; None without one, as in `sync`."""
        self.turn = ONCE
        """The parameters of a read: the daemon sets the slice, and a scan sets the sessions whose process runs."""
        self._news = False
        """Whether a commit was made that the upload loop does not know of."""
        self.iterations = 0
        """Incremented on each iteration; lets the watchdog tell a hung thread from an idle one."""

    def run(self) -> None:
        """Capture until Stop; commit the live changes that are queued by then."""
        with suppress(StateFull):  # the loop meets the error again, and reports it
            self.report.begin()
        while not self._inboxes.capture.stopped:
            self.iterations += 1
            try:
                self.step()
            except StateFull as error:
                self.queue.restart()
                self._inboxes.upload.put(Captured())  # what was stored so far is pushed, which makes room
                self._wait_for_room(error)
        with suppress(StateFull):  # what does not fit stays in the tools' files
            while work := self.queue.next_live():
                self._read_files(work)
        self._inboxes.upload.put(Captured())

    def step(self) -> None:
        """Do one piece of work, or wait until there may be one; then queue what changed meanwhile.

        The end of a round is short, so it is no piece of its own.
        """
        found = self.queue.next(self._resources.clock.monotonic())
        if isinstance(found, Work):
            self.do(found)
            if self.queue.ends_round(self._resources.clock.monotonic()):
                self._end_round()
            found = self.queue.seconds_left(self._resources.clock.monotonic())
        else:
            self.store_report()  # the throttle may have paused the backlog just now
            self._lock.note(stopped=None)  # nothing is left to write, so a full disk stops nothing any more
        self.add_batch(self._watcher.wait(found))

    def capture_all(self) -> int:
        """Scan every root and read all changes, for `sync`; return the number of files found in a rewrite."""
        scanned = 0
        while roots := self._resources.watched[scanned:]:
            scanned += len(roots)
            self.add_batch(Batch(rescan=tuple(roots)))
            while isinstance(work := self.queue.next(self._resources.clock.monotonic()), Work):
                self.do(work)
            self._resources.discover_project_roots(self._watcher)
        return len(self.queue.retries)

    def _wait_for_room(self, error: StateFull) -> None:
        """Wait on a full disk. What was not read stays in the tools' files and in the queue."""
        log.error("spool.filled", reason=str(error), free=free_bytes(self._resources.directory))
        self._lock.note(stopped=str(error))
        until = self._resources.clock.monotonic() + FULL_WAIT
        while not self._inboxes.capture.stopped and (left := until - self._resources.clock.monotonic()) > 0:
            with suppress(StateFull):  # a scan that can't store its health has queued its files already
                self.add_batch(self._watcher.wait(left))

    # What changed

    def add_batch(self, batch: Batch) -> None:
        """Apply the messages, queue the changed paths, and scan the roots that are due."""
        asked = self._apply_messages()
        for path in batch.paths:
            self._add_path(path)
        if not (asked or batch.rescan):
            return
        if asked:
            self.queue.throttle.override()
            self._inboxes.upload.put(Captured())  # the override is for pushing too
            self.report.scanned_ms = self._resources.clock.now_ms()
        ours = self.scanner.sources
        for path in {root.root.path for root in batch.rescan if root.owner not in ours}:
            self._report_to_main(path)
        if self._resources.registries:
            self._inboxes.main.put(Message.MOVED)  # once for all lists: it searches the roots of all tools
        roots = self._resources.watched if asked else [root for root in batch.rescan if root.owner in ours]
        if roots:
            self._scan(roots)

    def _apply_messages(self) -> bool:
        """Apply the messages of other threads; return whether a scan is requested."""
        asked = False
        for message in self._inboxes.capture.take():
            if isinstance(message, MoreRoom):
                self.queue.streams_wait = True
            elif isinstance(message, EraseForgotten):
                erase_forgotten(self._resources.ingest)
            elif isinstance(message, ScanNow):
                asked = True
            elif isinstance(message, ConfigChanged):
                self.queue.throttle.apply_limits(message.limits)
                self.config_files = message.files
        return asked

    def _add_path(self, path: str) -> None:
        if self._report_to_main(path):
            return
        was_file = self.scanner.forget(path)
        # Only a session's file is queued. Our own spool may be beside the configuration, and must not wake us.
        if locations := self.scanner.locate(path):
            self.queue.add_change(path, locations[0].path, self._resources.clock.monotonic())
        # A clean-up deletes thousands of files at once. Only the path of a deleted directory covers others.
        if not was_file and not os.path.lexists(path):
            self.queue.add(self.scanner.forget_below(path))

    def _report_to_main(self, path: str) -> bool:
        """Report a change of the configuration or of a tool's list of roots; return whether it was the former."""
        if self.config_files is not None and self.config_files.has(path):
            self._inboxes.main.put(Message.EDITED)
            return True
        if path in self._resources.registries:
            self._inboxes.main.put(Message.MOVED)
        return False

    def _scan(self, roots: Collection[WatchedRoot]) -> None:
        self.queue.retry_streams()
        result = self.scanner.scan(roots)
        self.turn = replace(self.turn, live=result.live)
        self.queue.backlog.add(result.entries)
        self.queue.add(result.gone)
        self.store_report()

    # Reading

    def do(self, work: Work) -> None:
        """Do a piece of work. Raises: StateFull; the work is still queued then."""
        if work.lane is Lane.END:
            self._end_round()
            return
        if self._news:
            self._inboxes.upload.put(Captured())  # of the commit before; after the last one, this thread is idle
            self._news = False
        if work.lane is Lane.STREAMS:
            self._read_streams()
        else:
            self._read_files(work)
            self._news = True

    def _read_files(self, work: Work) -> None:
        """Read entries until it was enough for one turn; a few small ones share a commit."""
        readings, entries = list[Reading](), iter(work.entries)
        size, until = 0, self._resources.clock.monotonic() + self.slice_seconds
        self.queue.throttle.start()
        try:
            for first in entries:
                group = [self.read(first)] if work.single else self._read_group(chain((first,), entries), until)
                readings += group
                size += sum(reading.size for reading in group)
                if size > SLICE_BYTES or self._resources.clock.monotonic() > until or group[-1].stays_first:
                    break
        finally:
            # Only what was committed: if a commit failed, what it had is still queued and will be read again.
            self.queue.finish(work, readings, self._resources.clock.monotonic())
        # A file that was read while the outbox was full may have been committed after the push that made space.
        self.queue.streams_wait |= can_catch_up(self._resources.ingest)
        if work.throttled:
            self.queue.throttle.finish()
        if work.lane is Lane.BACKLOG and not self.queue.backlog:
            self._resources.release_memory()

    def _read_group(self, entries: Iterator[Entry], until: float) -> list[Reading]:
        """Read entries that share commits. Before one that takes long is read, what was stored is committed.

        The last commit of such an entry is shared by small ones after it.
        """
        spool, readings, total = self._resources.spool, list[Reading](), 0
        with spool.group():
            begun, files, size = spool.groups, 0, 0
            for entry in entries:
                reading = self.read(entry)
                readings.append(reading)
                total, files, size = total + reading.size, files + 1, size + reading.size
                if begun != spool.groups:
                    begun, files, size = spool.groups, 1, 0  # what took long was read before this commit began
                full = size > GROUP_BYTES or files >= GROUP_FILES
                enough = total > SLICE_BYTES or self._resources.clock.monotonic() > until
                if full or enough or reading.stays_first or not spool.in_group:
                    break
        return readings

    def read(self, entry: Entry) -> Reading:
        """Read a path, or a slice of it, for each source that owns it."""
        turn = replace(self.turn, changed=entry.rank is Rank.CHANGED)
        outcomes = [
            (location, ingest(self._resources.ingest, location, turn)) for location in self.scanner.locate(entry.path)
        ]
        if any(outcome.trouble is not None for _, outcome in outcomes):
            self.scanner.forget(entry.path)  # the next scan tries again, even if the file does not change
        return Reading(entry, outcomes)

    def _read_streams(self) -> None:
        """Read on in streams that wait for room in the outbox or whose bytes the endpoint lacks."""
        self.queue.throttle.start()
        self.queue.streams_wait = catch_up(self._resources.ingest, STREAMS, self.queue.stuck, self.turn)
        self.queue.throttle.finish()
        self._news |= self.queue.streams_wait

    def _end_round(self) -> None:
        """End idle sessions, store the state for `status`, and wake the upload loop if it has something to do."""
        if not self.queue.backlog and self.queue.throttle.finish_backlog():
            self._news = True  # the upload loop may be idle, and ends the override only when it hears of this
        self._news |= self._idle.sweep(self.turn.live)
        scrub(self._resources.spool)  # another process may have read the log when a session was erased
        self.queue.idle_due = self._resources.clock.monotonic() + self._idle.left()
        self.store_report()
        self._lock.note(stopped=None)
        if self._news:
            self._inboxes.upload.put(Captured())
            self._news = False
        self.scanner.find_projects()  # last: it may search many directories, and the push need not wait for it

    def store_report(self) -> None:
        """Store the state for `status`, if it changed. Raises: StateFull."""
        self.report.update(self._watcher.states(), self.queue.throttle.reason)
