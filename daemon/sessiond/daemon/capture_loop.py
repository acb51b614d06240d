"""The capture thread: reads the tools' files, live changes before the backlog, the newest first."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from msgspec.structs import replace

from sessiond.cleanup import due_before
from sessiond.clock import now_ms
from sessiond.config import Backlog as BacklogLimits
from sessiond.daemon.backfill_exclusions import BackfillExclusions
from sessiond.daemon.backlog import Backlog, Rank
from sessiond.daemon.changed_files import SLICE_BYTES, SLICE_SECONDS, ChangedFiles
from sessiond.daemon.idle import Idle
from sessiond.daemon.inventory import Change, Inventory, count, entries, forget_below, load_inventory, make_fingerprint
from sessiond.daemon.reporting import RootHealths, log_root_changes
from sessiond.daemon.resources import Resources
from sessiond.daemon.retries import Retries
from sessiond.daemon.throttle import READING, Throttle
from sessiond.errors import StateFull
from sessiond.ingest import ONCE, Index, ingest
from sessiond.ingest.backlog import catch_up
from sessiond.logs import log
from sessiond.sources.base import UserDirs
from sessiond.spool import health
from sessiond.state import Lock, free_bytes
from sessiond.watch import Batch, WatchedRoot, Watcher

FULL_WAIT = 10.0  # seconds between two tries to write to a full disk


class CaptureLoop:
    """The queue of files to read, and the loop that reads them."""

    def __init__(  # noqa: PLR0913 - the resources of the loop, and whom it wakes
        self,
        resources: Resources,
        watcher: Watcher,
        lock: Lock,
        *,
        on_captured: Callable[[], None],
        handle_other: Callable[[str], bool],
        user_dirs: UserDirs,
        throttle: Throttle | None = None,
    ) -> None:
        """`on_captured` is called when there is something new to push.

        `handle_other` is called with each path that changed, and returns whether it is a file of the configuration.
        Without a `throttle`, the backlog is read at once.
        """
        self._resources = resources
        self._watcher = watcher
        self._lock = lock
        self._on_captured = on_captured
        self._handle_other = handle_other
        self._user_dirs = user_dirs
        self._places = Index(resources.places)
        self._throttle = throttle or Throttle(READING)
        self._sources = {source.tool: source for source, _ in resources.places}
        self._changed_files = ChangedFiles()
        self._backlog = Backlog()
        self._exclusions = BackfillExclusions()
        self._inventory: Inventory = {}
        self._retries = Retries()
        self._idle = Idle(resources.ingest, self._sources)
        self._discovered: dict[str, int] | None = None
        self._found_bytes = 0
        self._root_healths = RootHealths(self._sources)
        self._health = health.CaptureHealth(pid=os.getpid(), machine_id=resources.machine_id)
        self._stopping = False
        self._streams_wait = True
        self._stuck: set[int] = set()
        """Waiting streams that could not be read further. The next scan clears it, so that they are tried again."""
        self._searching = False  # whether the last read only searched for the end of a record
        self._scan_requested = False
        self._scanned_ms: int | None = None
        self.turn = ONCE  # the daemon sets a slice; a scan sets the sessions whose process runs
        self.iterations = 0
        """Incremented on each iteration; lets the watchdog tell a hung thread from an idle one."""

    def run(self) -> None:
        """Capture until `stop()`; commit what was queued by then."""
        with suppress(StateFull):  # the loop meets the error again, and reports it
            health.write(self._resources.spool, self._health)
        while not self._stopping:
            self.iterations += 1
            batch = self._watcher.wait(self._timeout())
            try:
                self._queue_batch(batch)
                self._read_queued()
                if batch.rescan:
                    self._resources.discover_project_roots(self._watcher)
                self._lock.note(stopped=None)
            except StateFull as error:
                self._on_captured()  # what was stored so far is pushed, which makes room
                self._wait_for_room(error)
        with suppress(StateFull):  # what does not fit stays in the tools' files
            for _ in self._changed_files.fresh(self._resources.spool, self._read_live):
                self._on_captured()

    def _wait_for_room(self, error: StateFull) -> None:
        """Wait on a full disk. What was not read stays in the tools' files and in the queue."""
        log.error("spool.filled", reason=str(error), free=free_bytes(self._resources.directory))
        self._lock.note(stopped=str(error))
        until = time.monotonic() + FULL_WAIT
        while not self._stopping and (left := until - time.monotonic()) > 0:
            with suppress(StateFull):  # a scan that can't store its health has queued its files already
                self._queue_batch(self._watcher.wait(left))

    def stop(self) -> None:
        """End the loop soon; any thread may call it."""
        self._stopping = True
        self._watcher.wake()

    def read_waiting_streams(self) -> None:
        """Continue streams that wait for room in the outbox; any thread may call it."""
        self._streams_wait = True
        self._watcher.wake()

    def request_rescan(self) -> None:
        """Scan every root soon, and then store the time in the health; any thread may call it."""
        self._scan_requested = True
        self._watcher.wake()

    def apply_limits(self, limits: BacklogLimits) -> None:
        """Replace the limits of the backlog; any thread may call it."""
        self._throttle.apply_limits(limits)
        self._watcher.wake()

    def capture_all(self) -> int:
        """Scan every root and read all changes, for `sync`; return the number of files found in a rewrite."""
        roots = self._resources.watched
        while roots:
            self._queue_batch(Batch(rescan=tuple(roots)))
            while self._backlog or self._changed_files:
                self._read_queued()
            roots = self._resources.discover_project_roots(self._watcher)
        return len(self._retries)

    def _timeout(self) -> float | None:
        if self._changed_files or (self._backlog and not self._backlog.old):
            return 0
        dues = [self._throttle.seconds_until_open()] if self._backlog else []
        dues += [self._throttle.pause_left()] if self._streams_wait else []
        dues += [due for due in (self._retries.next(), self._idle.left()) if due is not None]
        return max(min(dues), 0) if dues else None

    # The queue

    def _queue_batch(self, batch: Batch) -> None:
        for path in batch.paths:
            if self._handle_other(path):
                continue
            was_file = self._inventory.pop(path, None) is not None
            # Only a session's file is queued. Our own spool may lie beside the configuration, and must not wake us.
            places = self._places(path)
            if places and not self._retries.rests(path, places[0].path):
                self._changed_files.add([path])
            if not was_file and not os.path.lexists(path):
                self._changed_files.add(forget_below(self._inventory, path))
        self._changed_files.add(self._retries.due())
        asked, self._scan_requested = self._scan_requested, False
        if asked:
            self._throttle.override()
            self._on_captured()
            self._scanned_ms = now_ms()
        if asked or batch.rescan:
            others = {root.root.path for root in batch.rescan if root.owner not in self._sources}
            for path in others | self._resources.registries:
                self._handle_other(path)
            ours = [root for root in batch.rescan if root.owner in self._sources]
            if asked or ours:
                self._scan(self._resources.watched if asked else ours)

    def _scan(self, roots: Iterable[WatchedRoot]) -> None:
        """Compare the stat of every file with the one of its last read (rule 11: the rescan is the guarantee)."""
        began, seen, changed = time.monotonic(), set[str](), list[Change]()
        if self._stuck:
            self._stuck.clear()
            self._streams_wait = True
        first = self._discovered is None
        if first:
            self._discovered = {}
        if self._resources.apply_exclusions() or first:
            self._inventory = load_inventory(self._resources.spool)
        for root in roots:
            for path, found in self._watcher.scan(root):
                seen.add(path)
                made = make_fingerprint(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
                if self._inventory.get(path) != made:
                    changed.append(Change(path, found.st_mtime_ns, made))
        due = due_before({**self._user_dirs.environ, "HOME": self._user_dirs.home}, now_ms()) if changed else {}
        self._backlog.add(entries(changed, self._inventory, self._places, now_ms(), due))
        self._inventory |= {each.path: each.fingerprint for each in changed}
        gone = [path for path in self._inventory if path not in seen and any(root.root.covers(path) for root in roots)]
        for path in gone:
            del self._inventory[path]
            self._changed_files.add([path])
        if first or changed or gone:
            self._discovered, self._found_bytes = count(self._inventory, self._places)
            self._resources.release_memory()
            log.debug(
                "watch.rescanned", files=len(seen), changed=len(changed), seconds=round(time.monotonic() - began, 3)
            )
        live = {(tool, native_id) for tool, each in self._sources.items() for native_id in each.live(self._user_dirs)}
        self.turn = replace(self.turn, live=frozenset(live))
        self._report()

    # Reading

    def _read_queued(self) -> None:
        """Read all live changes, one slice of an unfinished file, and as much of the backlog as one commit may hold."""
        news = False
        for _ in self._changed_files.fresh(self._resources.spool, self._read_live):
            if news:
                self._on_captured()  # of the commit before; after the last one, this thread is idle anyway
            news = True
        if self._changed_files:
            self._changed_files.next(self._resources.spool, self._read_live)
            news = True
        if self._backlog and (not self._backlog.old or self._throttle.allows()):
            self._drain_backlog()
            if not self._backlog:
                self._resources.release_memory()
        elif self._streams_wait and not self._throttle.pause_left():
            self._throttle.start()
            self._streams_wait = catch_up(self._resources.ingest, limit=16, stuck=self._stuck, turn=self.turn)
            self._throttle.finish()
            news |= self._streams_wait
        if not self._backlog and self._throttle.finish_backlog():
            news = True  # wake the upload thread: it may be idle, and ends the override only then
        self._changed_files.add(self._exclusions.take())
        news |= self._idle.sweep(self.turn.live)
        self._report()
        if news:
            self._on_captured()

    def _drain_backlog(self) -> None:
        read, done, until, old = 0, 0, time.monotonic() + SLICE_SECONDS, self._backlog.old
        self._throttle.start()
        with self._resources.spool.transaction():
            for entry in self._backlog.newest():
                if read > SLICE_BYTES or time.monotonic() > until or (entry.rank is Rank.OLD and not old):
                    break
                one, more = self._read(entry.path, changed=entry.rank is Rank.CHANGED, size=entry.size)
                read += one
                if more and entry.rank is Rank.OLD and entry.path not in self._changed_files:
                    if not self._searching:
                        break  # it stays first in the queue
                    self._backlog.put_last(entry)
                elif more:
                    self._changed_files.go_on(entry.path)
                done += 1
        self._backlog.drop(done)
        if old:
            self._throttle.finish()
        self._on_captured()

    def _read_live(self, path: str) -> tuple[int, bool]:
        return self._read(path, changed=True)

    def _read(self, path: str, *, changed: bool, size: int = 0) -> tuple[int, bool]:
        """Read a path, or a slice of it; return the bytes read and whether there is more."""
        read, more, self._searching = 0, False, False
        for place in self._places(path):
            outcome = ingest(self._resources.ingest, place, replace(self.turn, changed=changed))
            read += outcome.read + outcome.searched
            more |= outcome.more
            self._searching |= outcome.more and not outcome.read
            self._exclusions.note(place, outcome, size)
            if outcome.trouble is not None:
                self._inventory.pop(path, None)  # the next scan tries again, even if the file does not change
            self._retries.note(path, place, outcome)
        return read, more

    # Health, for status

    def _report(self) -> None:
        made = health.CaptureHealth(
            pid=os.getpid(),
            machine_id=self._resources.machine_id,
            looked_ms=self._scanned_ms,
            torn=len(self._retries),
            discovered=self._discovered,
            found_bytes=self._found_bytes,
            backlog=len(self._backlog),
            backlog_bytes=self._backlog.size,
            waits=self._throttle.reason,
            left_out=len(self._exclusions),
            left_out_bytes=self._exclusions.size,
            roots=self._root_healths.of(self._watcher.states()),
        )
        if made != self._health:
            health.write(self._resources.spool, made)
            log_root_changes(self._health, made)
            self._health = made
