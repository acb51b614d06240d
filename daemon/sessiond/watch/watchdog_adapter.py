"""Adapts watchdog: its observer threads, inotify reader, warnings and log."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.api import BaseObserver, ObservedWatch
from watchdog.utils import BaseThread

from sessiond.watch.targets import WatchScope, WatchTarget

if sys.platform == "linux":
    from watchdog.observers.inotify import InotifyEmitter
    from watchdog.observers.inotify_c import DEFAULT_EVENT_BUFFER_SIZE, InotifyEvent, InotifyFD
else:
    from watchdog.observers import Observer

_NAMES: list[type[FileSystemEvent]] = [FileCreatedEvent, FileMovedEvent, DirCreatedEvent, DirMovedEvent]
"""Events for WatchScope.ANCESTOR. Writes to files in the home directory must not wake us."""
_CHANGES: list[type[FileSystemEvent]] = [*_NAMES, FileModifiedEvent, FileDeletedEvent, DirDeletedEvent]
"""The events of changes: without a filter, each of our own reads would cause two events."""

_PAUSE = 0.05


class _Listener(FileSystemEventHandler):
    """Passes every event on, without watchdog's dispatch by name."""

    def __init__(self, note: Callable[[FileSystemEvent], None]) -> None:
        self._note = note

    def dispatch(self, event: FileSystemEvent) -> None:
        """Pass an event on; runs in the observer's thread."""
        self._note(event)


class _Log(logging.Handler):
    """Detects in watchdog's log that events were lost: version 7.1 reports it nowhere else."""

    def __init__(self, lost: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._lost = lost

    def emit(self, record: logging.LogRecord) -> None:
        """Handle a log record; runs in a thread of watchdog."""
        message = record.getMessage()
        if "overflow" in message or "rebuild" in message:
            self._lost()


if sys.platform == "linux":

    class _BatchingReader(InotifyFD):
        """Reads events in batches.

        Each read wakes three threads of watchdog in turn, so 500 writes a second would cost 10 % CPU. A short pause
        after each read lets the kernel merge repeated events.
        """

        def __init__(self, ended: Callable[[], None]) -> None:
            super().__init__()
            self._ended = ended
            self._queue_was_empty = True

        def run(self) -> None:
            """Read until the end, and report it: nothing else would wake the waiting thread."""
            try:
                super().run()
            finally:
                self._ended()

        def read_events(self, *, event_buffer_size: int = DEFAULT_EVENT_BUFFER_SIZE) -> list[InotifyEvent]:
            """Return the events since the last read."""
            if not self._queue_was_empty:
                self.stopped_event.wait(_PAUSE)
            events = super().read_events(event_buffer_size=event_buffer_size)
            self._queue_was_empty = not events
            return events

    class _Emitter(InotifyEmitter):
        """Passes each event on itself: waking watchdog's dispatcher would cost more."""

        def __init__(self, *arguments: Any, note: Callable[[FileSystemEvent], None], **more: Any) -> None:
            super().__init__(*arguments, **more)
            self._note = note

        def queue_event(self, event: FileSystemEvent) -> None:
            """Pass on an event that the watch reports; runs in the emitter's thread."""
            if self._event_filter is None or isinstance(event, tuple(self._event_filter)):
                self._note(event)

    def _observe(
        note: Callable[[FileSystemEvent], None], ended: Callable[[], None]
    ) -> tuple[BaseObserver, BaseThread | None]:
        """Start an observer and its reader."""
        reader = _BatchingReader(ended)
        reader.start()
        observer = BaseObserver(_Emitter, inotify_fd=reader, note=note)
        observer.start()
        return observer, reader

else:

    def _observe(
        note: Callable[[FileSystemEvent], None], ended: Callable[[], None]
    ) -> tuple[BaseObserver, BaseThread | None]:
        """Start an observer; events go to `note` through the listener."""
        observer = Observer()
        observer.start()
        return observer, None


class WatchdogAdapter:
    """One inotify instance (or the platform's equivalent) and its targets.

    `note` gets every event, and `lost` is called when events were dropped, both in threads of watchdog. The methods
    are for one thread at a time.
    """

    def __init__(self, note: Callable[[FileSystemEvent], None], lost: Callable[[], None]) -> None:
        self._note = note
        self._listener = _Listener(note)
        self._lost = lost
        self._log = _Log(lost)
        self._observer: BaseObserver | None = None
        self._reader: BaseThread | None = None
        self._watches: dict[WatchTarget, ObservedWatch] = {}

    def watch(self, targets: Iterable[WatchTarget]) -> tuple[frozenset[WatchTarget], dict[WatchTarget, OSError]]:
        """Watch exactly these targets; return the newly watched ones and the refused ones.

        At the limit of watches, watchdog ignores failures below a tree: compare with `kernel.watched_inodes()`.
        """
        wanted = set(targets)
        try:
            observer = self._observer or self._open()
        except OSError as error:
            return frozenset(), dict.fromkeys(wanted, error)
        running = {emitter.watch for emitter in observer.emitters if emitter.is_alive()}
        for target, watch in list(self._watches.items()):
            # The emitter of a deleted directory has ended by itself.
            if target not in wanted or watch not in running:
                observer.unschedule(self._watches.pop(target))
        fresh: set[WatchTarget] = set()
        refused: dict[WatchTarget, OSError] = {}
        for target in wanted.difference(self._watches):
            try:
                self._watches[target] = observer.schedule(
                    self._listener,
                    target.path,
                    recursive=target.scope is WatchScope.TREE,
                    event_filter=_NAMES if target.scope is WatchScope.ANCESTOR else _CHANGES,
                )
                fresh.add(target)
            except OSError as error:
                refused[target] = error
        return frozenset(fresh), refused

    def holds(self, target: WatchTarget) -> bool:
        """Return whether a target is watched, or at least its top directory."""
        return target in self._watches

    def forget(self, target: WatchTarget) -> None:
        """Stop watching a target, so that the next `watch()` registers it again."""
        if self._observer is not None and target in self._watches:
            self._observer.unschedule(self._watches.pop(target))

    def dead(self) -> str | None:
        """Return the name of a thread that died, None if none did. Without it no events would arrive any more."""
        observer = self._observer
        if observer is None:
            return None
        if self._reader is not None and not self._reader.is_alive():
            return "inotify reader"
        if not observer.is_alive():
            return "event dispatcher"
        for emitter in observer.emitters:
            if not emitter.is_alive() and emitter.should_keep_running():
                return f"emitter of {emitter.watch.path}"
        return None

    def close(self) -> None:
        """End all threads."""
        observer, self._observer = self._observer, None
        self._watches.clear()
        if observer is not None:
            observer.stop()
            observer.join()
        if self._reader is not None:
            self._reader.stop()
            self._reader.join()
            self._reader = None
        logging.getLogger("watchdog").removeHandler(self._log)

    def _open(self) -> BaseObserver:
        # watchdog warns for each directory of `mkdir -p a/b/c`, with the table of all watches. If stderr is a full
        # pipe, the observer would block.
        warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"watchdog\.")
        log = logging.getLogger("watchdog")
        log.propagate = False
        log.setLevel(logging.WARNING)
        if self._log not in log.handlers:
            log.addHandler(logging.NullHandler())  # stays after close(): no handler at all means stderr
            log.addHandler(self._log)
        self._observer, self._reader = _observe(self._note, self._lost)
        return self._observer
