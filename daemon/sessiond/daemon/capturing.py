"""Capturing: the one thread that reads the tools' files, live changes before the backlog, newest first."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress

from sessiond.daemon.reporting import RootHealths, note_roots
from sessiond.daemon.rooms import Rooms, now_ms
from sessiond.errors import StateFull
from sessiond.ingest import Index, Outcome, Place, ingest, sweep_idle
from sessiond.ingest.backlog import catch_up
from sessiond.logs import log
from sessiond.sources.base import Places
from sessiond.spool import health
from sessiond.state import Lock, free_bytes
from sessiond.watch import Batch, WatchedRoot, Watcher

SLICE_BYTES, SLICE_SECONDS = 8 << 20, 0.25  # what one commit holds; live changes wait no longer for the backlog
FULL_WAIT = 10.0  # seconds between two tries to write to a full disk
TORN_WAITS = (0.25, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0)  # seconds until a file met in a rewrite is looked at again
Stamp = int  # a hash of what stat tells: the numbers themselves would take five times the memory


class Capturing:
    """The queue of what is to be read, and the loop that reads it."""

    def __init__(
        self,
        rooms: Rooms,
        watcher: Watcher,
        lock: Lock,
        *,
        captured: Callable[[], None],
        aside: Callable[[str], bool],
        places: Places,
    ) -> None:
        """`captured` is called when there is something new to push; `aside` takes paths that are no tool's."""
        self._rooms = rooms
        self._watcher = watcher
        self._lock = lock
        self._captured = captured
        self._aside = aside
        self._environ = places
        self._places = Index(rooms.places)
        self._sources = {source.tool: source for source, _ in rooms.places}
        self._live: dict[str, None] = {}
        self._backlog: list[tuple[int, str]] = []
        self._settled: dict[str, Stamp] = {}
        self._torn: dict[str, tuple[int, float]] = {}
        self._troubled: set[str] = set()
        self._discovered: dict[str, int] | None = None
        self._root_healths = RootHealths(self._sources)
        self._health = health.CaptureHealth(pid=os.getpid(), machine_id=rooms.machine_id)
        self._stopping = False
        self._behind = True
        self._stuck: set[int] = set()
        """Streams that wait and that the last tries to read on got nowhere with; a look at everything forgets them."""
        self._asked = False
        self._looked_ms: int | None = None
        self.beats = 0
        """Grows with each turn of the loop: a daemon that hangs is told from one that has nothing to do."""

    def run(self) -> None:
        """Capture until `stop()`; what came in by then is committed."""
        with suppress(StateFull):  # the loop meets it again, and says it
            health.write(self._rooms.spool, self._health)
        while not self._stopping:
            self.beats += 1
            batch = self._watcher.wait(self._timeout())
            try:
                self._take(batch)
                self._work()
                if batch.rescan:
                    self._rooms.learn(self._watcher)
                self._lock.note(stopped=None)
            except StateFull as error:
                self._wait_for_room(error)
        with suppress(StateFull):  # what finds no room stays in the tools' files
            self._drain(self._live)

    def _wait_for_room(self, error: StateFull) -> None:
        """A full disk: what is to be read stays in the tools' files, and in the queue here, until it fits."""
        log.error("spool.filled", reason=str(error), free=free_bytes(self._rooms.directory))
        self._lock.note(stopped=str(error))
        until = time.monotonic() + FULL_WAIT
        while not self._stopping and (left := until - time.monotonic()) > 0:
            with suppress(StateFull):  # a look that can't tell of itself has noted what is to be read
                self._take(self._watcher.wait(left))

    def stop(self) -> None:
        """End the loop soon; any thread may call it."""
        self._stopping = True
        self._watcher.poke()

    def more_room(self) -> None:
        """Read on in transcripts that wait for room in the outbox; any thread may call it."""
        self._behind = True
        self._watcher.poke()

    def look_now(self) -> None:
        """Look at every root soon, and then say in the health that it was done; any thread may call it."""
        self._asked = True
        self._watcher.poke()

    def capture_all(self, left: Callable[[int], None]) -> int:
        """Look at every root and read all that is new, for `sync`; tell how many files were met in a rewrite."""
        roots = self._rooms.watched
        while roots:
            self._take(Batch(rescan=tuple(roots)))
            while self._backlog or self._live:
                left(len(self._backlog) + len(self._live))
                self._work()
            roots = self._rooms.learn(self._watcher)
        return len(self._torn)

    def _timeout(self) -> float | None:
        if self._live or self._backlog or self._behind:
            return 0
        dues = [due - time.monotonic() for _, due in self._torn.values()]
        idle = self._rooms.spool.catalog.next_idle_ms()
        if idle is not None:
            # At most one wakeup a minute, for a session whose process lives stays ongoing however idle.
            dues.append(max((idle + self._rooms.ingest.idle_after_ms - now_ms()) / 1000 + 1, 60.0))
        return max(min(dues), 0) if dues else None

    # What is to be read

    def _take(self, batch: Batch) -> None:
        for path in batch.paths:
            if self._aside(path):
                continue
            was_file = self._settled.pop(path, None) is not None
            # What is nobody's session wakes nobody: it may be our own spool, where the configuration lies beside it.
            if self._places(path):
                self._live[path] = None
            if not was_file and not os.path.lexists(path):
                self._forget_below(path)
        now = time.monotonic()
        for path, (_, due) in list(self._torn.items()):
            if due <= now:
                self._live[path] = None
        if self._asked:
            self._asked = False
            self._looked_ms = now_ms()
            self._look(self._rooms.watched)
        elif batch.rescan:
            ours = [root for root in batch.rescan if root.owner in self._sources]
            others = {root.root.path for root in batch.rescan if root.owner not in self._sources}
            for path in others | self._rooms.registries:
                self._aside(path)
            if ours:
                self._look(ours)

    def _forget_below(self, directory: str) -> None:
        """The name of a directory that is gone stands for all that was known below it."""
        prefix = directory + "/"
        for path in [path for path in self._settled if path.startswith(prefix)]:
            del self._settled[path]
            self._live[path] = None

    def _look(self, roots: Iterable[WatchedRoot]) -> None:
        """Rule 11: the rescan is the guarantee. Compare every file's stat with what it was when it was read."""
        began, seen, changed, newest = time.monotonic(), set[str](), [], dict[str, int]()
        if self._stuck:
            self._stuck.clear()
            self._behind = True
        first = self._discovered is None
        if first:
            self._discovered = {}
        if self._rooms.heed() or first:
            self._recall()
        for root in roots:
            for path, found in self._watcher.scan(root):
                seen.add(path)
                stamp = hash((found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))
                if self._settled.get(path) != stamp:
                    changed.append((found.st_mtime_ns, path, stamp))
        gone = [path for path in self._settled if path not in seen and any(root.root.covers(path) for root in roots)]
        for path in gone:
            del self._settled[path]
            self._live[path] = None
        for mtime_ns, path, stamp in sorted(changed):
            self._settled[path] = stamp
            newest |= {place.path: mtime_ns for place in self._places(path)}  # a folder's thousand files are one
        self._backlog += [(mtime_ns, path) for path, mtime_ns in newest.items()]
        self._backlog.sort()
        if first or changed or gone:
            self._count()
            self._rooms.rest()
            log.debug(
                "watch.rescanned", files=len(seen), changed=len(changed), seconds=round(time.monotonic() - began, 3)
            )
        self._rooms.ingest.live = frozenset(
            (source.tool, native_id) for source in self._sources.values() for native_id in source.live(self._environ)
        )
        self._report()

    def _recall(self) -> None:
        """Take over from the spool what was read; what did not change since is not read."""
        self._settled.clear()
        with self._rooms.spool.reading():
            for file in self._rooms.spool.catalog.known_files():
                point = file.checkpoint
                if point is not None:
                    self._settled[file.path] = hash((point.ino, point.size, point.mtime_ns, point.ctime_ns))

    def _count(self) -> None:
        places = (place for path in self._settled for place in self._places(path))
        self._discovered = dict(Counter(place.source.tool for place in places if place.relative == place.below))

    # Reading it

    def _work(self) -> None:
        """One slice: all live changes, then as much of the backlog as one commit may hold."""
        if self._live:
            self._drain(self._live)
        if self._backlog:
            self._drain_backlog()
            if not self._backlog:
                self._rooms.rest()
        elif self._behind:
            self._behind = catch_up(self._rooms.ingest, limit=16, stuck=self._stuck)
            if self._behind:
                self._captured()
        if sweep_idle(self._rooms.ingest, self._sources):
            self._captured()
        self._report()

    def _drain(self, paths: dict[str, None]) -> None:
        """Read changed paths, several in one commit; on a full disk they stay in the queue."""
        while paths:
            done: list[str] = []
            read, until = 0, time.monotonic() + SLICE_SECONDS
            with self._rooms.spool.transaction():
                for path in paths:
                    read += self._read(path)
                    done.append(path)
                    if read > SLICE_BYTES or time.monotonic() > until:
                        break
            for path in done:
                del paths[path]
            self._captured()

    def _drain_backlog(self) -> None:
        read, until = 0, time.monotonic() + SLICE_SECONDS
        position = len(self._backlog)
        with self._rooms.spool.transaction():
            while position and read <= SLICE_BYTES and time.monotonic() <= until:
                position -= 1
                read += self._read(self._backlog[position][1])
        del self._backlog[position:]
        self._captured()

    def _read(self, path: str) -> int:
        read = 0
        for place in self._places(path):
            outcome = ingest(self._rooms.ingest, place)
            read += outcome.read
            self._note(path, place, outcome)
        return read

    def _note(self, path: str, place: Place, outcome: Outcome) -> None:
        tool = place.source.tool
        if outcome.retry:
            tries = self._torn.get(path, (0, 0.0))[0]
            self._torn[path] = (tries + 1, time.monotonic() + TORN_WAITS[min(tries, len(TORN_WAITS) - 1)])
        else:
            self._torn.pop(path, None)
        if outcome.trouble is not None:
            self._settled.pop(path, None)  # the next look tries again, though nothing of it changed
        if outcome.trouble is None:
            self._troubled.discard(path)
        elif path not in self._troubled and (not outcome.retry or self._torn[path][0] > len(TORN_WAITS)):
            self._troubled.add(path)
            log.warning("ingest.skipped", tool=tool, path=path, reason=outcome.trouble)
        if outcome.damaged:
            log.warning("ingest.damaged", tool=tool, path=path, records=outcome.damaged)
        if outcome.read:
            log.debug("ingest.captured", tool=tool, bytes=outcome.read)

    # What status shows

    def _report(self) -> None:
        made = health.CaptureHealth(
            pid=os.getpid(),
            machine_id=self._rooms.machine_id,
            looked_ms=self._looked_ms,
            torn=len(self._torn),
            discovered=self._discovered,
            backlog=len(self._backlog),
            roots=self._root_healths.of(self._watcher.states()),
        )
        if made != self._health:
            health.write(self._rooms.spool, made)
            note_roots(self._health, made)
            self._health = made
