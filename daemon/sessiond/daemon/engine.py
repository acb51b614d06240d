"""The engine: everything that captures and pushes under one configuration.

The daemon, `sync`, `demo` and the tests use it. Only the tests of `ingest()` and `upload()` call these directly.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING

import msgspec

from sessiond.config import Backlog as BacklogLimits
from sessiond.config.units import parse_backfill
from sessiond.daemon.capture_loop import CaptureLoop
from sessiond.daemon.config_watch import ConfigWatch
from sessiond.daemon.messages import Hold, Inbox, Inboxes, Message, Ping, Stop
from sessiond.daemon.resources import Opening, Resources, open_resources
from sessiond.daemon.settings import Settings
from sessiond.daemon.throttle import PUSHING, READING, UNLIMITED, Override, Throttle
from sessiond.errors import StateFull
from sessiond.ingest import Turn
from sessiond.logs import hide
from sessiond.spool.archive_file import ARCHIVE_KEEP, ARCHIVE_LIMIT
from sessiond.spool.translation import translated
from sessiond.state import Lock
from sessiond.watch import Watcher, WatchOptions

if TYPE_CHECKING:
    from sessiond.daemon.archive import Archive
    from sessiond.daemon.pusher import Target
    from sessiond.daemon.upload_loop import UploadLoop

ENDING = 4.0
"""Seconds until the process ends without one of its threads. That costs a repeated push, and no data."""
SLICE_OF_FILE = 4 << 20
"""Bytes of one file that are read before the next file, and between two commits."""


class Throttles(msgspec.Struct, frozen=True):
    """The limits of both loops."""

    reading: Throttle
    pushing: Throttle

    @classmethod
    def of(cls, limits: BacklogLimits) -> Throttles:
        """Return throttles that share an override: `sync` lifts the limits of both."""
        override = Override()
        return cls(Throttle(READING, limits, override=override), Throttle(PUSHING, limits, override=override))


class EngineOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How an engine is run."""

    throttles: Throttles | None = None
    """If None, the backlog is never delayed."""
    slice: int | None = None
    """Bytes of one file that are read before the next file; None reads each file to its end."""
    config_files: ConfigWatch | None = None
    """Files of the configuration to watch as well."""
    opening: Opening | None = None
    """How the resources are opened."""
    target: Target | None = None
    """The endpoint to push to; None for the configured one, or the built-in archive, which is started."""
    once: bool = False
    """Whether the caller drives the loops once, as `sync` does. Then nothing is watched, and the upload loop is made
    when it is first used: there may be nothing to push."""
    main: queue.SimpleQueue[Message | BaseException] = msgspec.field(default_factory=queue.SimpleQueue)
    """Gets the messages to the main thread, and the error of a thread that ended."""


class Engine:
    """The spool, the roots, the watcher and the two loops.

    `start` runs the loops in threads; without it the caller drives them. As a context manager it stops at the end.
    """

    def __init__(
        self, settings: Settings, environ: Mapping[str, str], lock: Lock, options: EngineOptions | None = None
    ) -> None:
        """Open everything; the caller holds the lock.

        Raises: StateError, ConfigError. Nothing stays open then.
        """
        self._options = options = options or EngineOptions()
        throttles = self._throttles = options.throttles or Throttles.of(UNLIMITED)
        self._settings = settings
        self._threads = [
            threading.Thread(target=self._guard, args=(run,), name=name, daemon=True)
            for name, run in (("capture", self._capture), ("push", self._push))
        ]
        self._started = False
        if settings.token is not None:
            hide(settings.token.reveal())
        with ExitStack() as undo:
            self.resources: Resources = open_resources(settings.config, environ, options.opening)
            undo.callback(self.resources.close, clean=False)
            self._archive: Archive | None = None
            configured = options.config_files.roots() if options.config_files else []
            watching = WatchOptions(events=not options.once, rescan=settings.config.rescan)
            self.watcher = Watcher([*self.resources.watched, *configured], watching)
            undo.callback(self.watcher.close)
            self.inboxes = Inboxes(options.main, Inbox(self.watcher.wake), Inbox())
            self.inboxes.upload.put(Hold(settings.paused.pushing is not None))
            self.capture_loop = CaptureLoop(self.resources, self.watcher, lock, self.inboxes, throttles.reading)
            self.capture_loop.config_files = options.config_files
            self.capture_loop.turn = Turn(slice=options.slice)
            undo.callback(self._stop_pushing)
            if not options.once:
                _ = self.upload_loop
            self.watcher.start()
            undo.pop_all()

    @cached_property
    def upload_loop(self) -> UploadLoop:
        """The loop that pushes, with its client. Raises: StateError if the built-in archive does not start."""
        from sessiond.daemon.pusher import Pusher  # late: the HTTP client takes a third of a `sync` without a push
        from sessiond.daemon.upload_loop import UploadLoop

        pusher = Pusher(self.resources, self.target, self._throttles.pushing, self.inboxes.upload.sleep)
        return UploadLoop(pusher, self.inboxes)

    @cached_property
    def target(self) -> Target:
        """The configured endpoint, or the built-in archive, which is started. The token is masked in the log."""
        from sessiond.daemon.pusher import Target

        if self._options.target is not None:
            return self._options.target
        url, token = self._settings.config.endpoint.url, self._settings.token
        if not url:
            from sessiond.daemon.archive import Archive  # late: with an endpoint no subprocess is needed

            main = self.inboxes.main
            limit, spool = self._settings.config.archive.max_bytes, self.resources.spool
            self._archive = Archive(self.resources.directory, lambda: main.put(Message.DIED), max_bytes=limit)
            age = parse_backfill(self._settings.config.archive.keep)
            for key, value in ((ARCHIVE_LIMIT, str(limit)), (ARCHIVE_KEEP, "" if age is None else str(age))):
                if spool.meta(key) != value:
                    with suppress(StateFull):  # `status` warns of a full archive only after the next start
                        spool.set_meta(key, value)
            url, token = self._archive.url, self._archive.token
        if token is not None:
            hide(token.reveal())
        return Target(url, token)

    def _capture(self) -> None:
        self.capture_loop.run()

    def _push(self) -> None:
        self.upload_loop.run()

    def start(self) -> None:
        """Start the threads of the loops."""
        self._started = True
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """Whether a thread of a loop runs."""
        return any(thread.is_alive() for thread in self._threads)

    @property
    def intact(self) -> bool:
        """Whether the threads of both loops run."""
        return all(thread.is_alive() for thread in self._threads)

    def ping(self) -> None:
        """Make both loops start another iteration, unless they are hung."""
        self.inboxes.capture.put(Ping())
        self.inboxes.upload.put(Ping())

    def stop(self, *, whole: bool = True) -> None:
        """Stop in the order in which data flows: commit the queued changes, stop watching, push once more.

        What is not pushed by then stays in the outbox. `whole` is false after an error: then nothing more is pushed,
        and the next start checks the spool. It also checks it if a thread is hung and keeps the spool open.
        """
        capture, push = self._threads
        self.inboxes.capture.put(Stop())
        self._join(capture)
        self.watcher.close()
        self.inboxes.upload.put(Stop())
        self._join(push)
        if not self.alive and whole and self._started:
            self.upload_loop.last_push()
        self._stop_pushing()
        if not self.alive:
            self.resources.close(clean=whole)

    def _stop_pushing(self) -> None:
        """Close the connection if it was opened and no thread uses it, and stop the built-in archive."""
        if not self.alive and "upload_loop" in vars(self):
            self.upload_loop.pusher.close()
        if self._archive is not None:
            self._archive.stop()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(whole=error is None)

    def _join(self, thread: threading.Thread) -> None:
        if self._started:
            thread.join(ENDING)

    def _guard(self, run: Callable[[], None]) -> None:
        try:
            with translated():
                run()
        except Exception as error:  # noqa: BLE001 - main ends the process with it
            self.inboxes.main.put(error)
