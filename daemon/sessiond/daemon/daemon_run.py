"""One life of the daemon: from one configuration to the next."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from enum import StrEnum

from msgspec.structs import replace

from sessiond import __version__, logs, pause, state
from sessiond.daemon.capture_loop import CaptureLoop
from sessiond.daemon.changed_files import SLICE_OF_FILE
from sessiond.daemon.config_watch import ConfigWatch
from sessiond.daemon.heartbeat import PATIENCE, Heartbeat
from sessiond.daemon.notify import ServiceNotifier
from sessiond.daemon.reporting import record_config_health
from sessiond.daemon.resources import Resources, now_ms, open_resources
from sessiond.daemon.settings import Settings, log_warnings, open_log, reload_settings
from sessiond.daemon.throttle import PUSHING, READING, Override, Throttle
from sessiond.daemon.upload_loop import Cause, UploadLoop
from sessiond.errors import ConfigError, SpoolDamaged, StateFull
from sessiond.logs import hide, log
from sessiond.sources.base import UserDirs
from sessiond.spool import translated
from sessiond.watch import Watcher

ENDING = 8.0
"""Seconds that the threads have to end in; then the process goes without them, which costs a repeated push."""
CLOCK_CHECK = 60.0
"""Seconds between two looks at the clock while something is paused: it may be set, or the machine sleep."""


class Message(StrEnum):
    """What main may be told."""

    STOP = "stop"
    RELOAD = "reload"
    """Asked for by SIGHUP."""
    EDITED = "edited"
    """Something has happened to a file of the configuration."""
    MOVED = "moved"
    """A tool's list of further roots has changed."""
    RETRY = "retry"
    NETWORK = "network"
    """A link or an address has come."""
    DIED = "died"


class DaemonRun:
    """The daemon between two configurations."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        file: str | None,
        lock: state.Lock,
        messages: queue.SimpleQueue[Message | BaseException],
        notify: ServiceNotifier,
        *,
        before: ConfigWatch | None = None,
        damaged: SpoolDamaged | None = None,
        refused: ConfigError | None = None,
    ) -> None:
        """Open the rooms and start the threads. `before` and `damaged` are of the life before.

        `refused` is why the life that should have come instead could not begin.
        Raises: StateError, ConfigError; nothing is left open then.
        """
        self.settings, self._environ, self._file = settings, environ, file
        self._messages, self._notify = messages, notify
        self._began = time.monotonic()
        self._heartbeat = Heartbeat()
        self._next_beat = self._began
        with ExitStack() as undo:
            self._open(lock, before, damaged, undo)
            undo.pop_all()
        self._upload_loop.hold(settings.paused.pushing is not None)
        if before:
            self._upload_loop.retry_sooner(
                Cause.SETUP
            )  # what failed with the old configuration may succeed with this one
        if refused is None:
            self._note_refusal(None)
        else:
            self._refuse(refused)
        self.config_watch.note_change()  # no event reports an edit made before the files were watched
        self._threads = [
            threading.Thread(target=self._guard, args=(work.run,), name=name, daemon=True)
            for name, work in (("capture", self._capture_loop), ("push", self._upload_loop))
        ]
        for thread in self._threads:
            thread.start()
        if not before:
            log.info(
                "daemon.started",
                version=__version__,
                pid=os.getpid(),
                machine=self._resources.machine_id,
                state_dir=self._resources.directory,
                endpoint=self.url,
                tools=len({source.tool for source, _ in self._resources.places}),
            )
            log_warnings(settings.loaded)
        notify(READY="1", STATUS=f"pushing to {self.url}")

    def _open(
        self, lock: state.Lock, before: ConfigWatch | None, damaged: SpoolDamaged | None, undo: ExitStack
    ) -> None:
        """Open the rooms and watch; `undo` closes again what was opened."""
        settings, config = self.settings, self.settings.config
        self._resources: Resources = open_resources(config, self._environ, damaged)
        undo.callback(self._resources.close, clean=False)
        self._resources.ingest.slice = SLICE_OF_FILE  # `sync` reads each file to its end: it has to come to one itself
        self._archive: Archive | None = None
        self.url, token = config.endpoint.url, settings.token
        if not self.url:
            from sessiond.daemon.archive import Archive  # late: most have an endpoint, and need no subprocess

            self._archive = Archive(self._resources.directory, lambda: self._messages.put(Message.DIED))
            undo.callback(self._archive.stop)
            self.url, token = self._archive.url, self._archive.token
        if token is not None:
            hide(token.reveal())
        self.config_watch = ConfigWatch(settings.loaded, self._environ, self._file, before)
        self._watcher = Watcher([*self._resources.watched, *self.config_watch.roots()], rescan=config.rescan)
        undo.callback(self._watcher.close)
        override = Override()
        self._upload_loop = UploadLoop(
            self._resources,
            self.url,
            token,
            lambda: self._capture_loop.read_waiting_streams(),  # noqa: PLW0108 - each of the two knows the other
            Throttle(PUSHING, config.backlog, override=override),
        )
        undo.callback(self._upload_loop.close)
        self._capture_loop = CaptureLoop(
            self._resources,
            self._watcher,
            lock,
            on_captured=self._upload_loop.captured,
            handle_other=self._aside,
            user_dirs=UserDirs.current(self._environ),
            throttle=Throttle(READING, config.backlog, override=override),
        )
        self._watcher.start()

    def _aside(self, path: str) -> bool:
        mine = self.config_watch.has(path)
        if mine:
            self._messages.put(Message.EDITED)
        elif path in self._resources.registries:
            self._messages.put(Message.MOVED)
        return mine

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            with translated():
                work()
        except Exception as error:  # noqa: BLE001 - the one guard: main ends the process with it
            self._messages.put(error)

    def run(self) -> Message | BaseException:
        """Wait for what ends this life; the orders of the next one are in `orders` then."""
        while True:
            try:
                message = self._messages.get(timeout=self._timeout())
            except queue.Empty:
                message = Message.EDITED  # nothing is said that the clock does not say
            if self._notify.watchdog is not None and time.monotonic() >= self._next_beat:
                self._next_beat = time.monotonic() + self._notify.watchdog
                self._send_heartbeat()
            if message is Message.RETRY:
                with self._resources.spool.reading():
                    self._resources.spool.outbox.invalidate_size()  # `queue drop` may have made room in it
                self._upload_loop.retry_sooner(Cause.USER)
                self._capture_loop.read_waiting_streams()
                self._capture_loop.request_rescan()
            elif message is Message.NETWORK:
                self._upload_loop.retry_sooner(Cause.NETWORK)
            elif message is Message.EDITED:
                self.config_watch.note_change()
                if self.config_watch.finished() and self._take_over(asked=False):
                    return message
                if self._pause_ends() and self._repause():
                    return message
            elif message is Message.MOVED:
                if self._resources.roots_changed():
                    return message
            elif message is not Message.RELOAD or self._take_over(asked=True):
                return message

    def _timeout(self) -> float | None:
        """Return how long nothing is due: no edit to read, no sign of life, no end of a pause."""
        beat = None if self._notify.watchdog is None else self._next_beat - time.monotonic()
        end = self.settings.paused.next_end_ms()
        return soonest(beat, self.config_watch.due(), None if end is None else (end - now_ms()) / 1000)

    def _pause_ends(self) -> bool:
        end = self.settings.paused.next_end_ms()
        return end is not None and end <= now_ms()

    def _repause(self) -> bool:
        """Take over what is paused now; True where a new life is needed: a source came or went."""
        before = self.settings
        self.settings = replace(before, paused=pause.read(self._resources.directory, now_ms()))
        self._upload_loop.hold(self.settings.paused.pushing is not None)
        return before.requires_restart(self.settings)

    def _send_heartbeat(self) -> None:
        """Tell the service manager that we live, if both threads turned lately: a hung disk is no life."""
        # A push that fails takes several requests of a full time-out each, and that is no reason to die.
        patience = max(PATIENCE, 6 * self.settings.config.endpoint.timeout)
        if self._heartbeat.alive((self._capture_loop, self._upload_loop), time.monotonic(), patience):
            self._notify(WATCHDOG="1")
        self._watcher.wake()
        self._upload_loop.captured()

    def _take_over(self, *, asked: bool) -> bool:
        """Read the orders again; what is wrong changes nothing and is said. True where a new life is needed."""
        try:
            if not asked and (path := self.config_watch.emptied()):
                hint = "the last good configuration stays; `sessiond reload` if it is meant to be empty"
                raise ConfigError("has lost all that it held", file=path, hint=hint)
            fresh = reload_settings(self._file, self._environ, self._resources.directory)
        except ConfigError as error:
            self._refuse(error)
            return self._repause()
        before, self.settings = self.settings, fresh
        self._note_refusal(None)
        anew = before.requires_restart(fresh)
        if asked or fresh != before:
            log_warnings(fresh.loaded)
            log.info("config.reloaded", files=len(fresh.loaded.files), anew=anew)
        if fresh.config.log != before.config.log:
            _change_log(before, fresh, self._environ)
        if not anew:
            self.config_watch = ConfigWatch(fresh.loaded, self._environ, self._file, self.config_watch)
            self._upload_loop.hold(fresh.paused.pushing is not None)
            if asked or fresh != before:
                self._upload_loop.retry_sooner(Cause.SETUP)
            self._upload_loop.apply_limits(fresh.config.backlog)
            self._capture_loop.apply_limits(fresh.config.backlog)
        return anew

    def _refuse(self, error: ConfigError) -> None:
        log.error("config.refused", file=error.file, line=error.line, key=error.key, reason=str(error), hint=error.hint)
        self._note_refusal(str(error))

    def _note_refusal(self, reason: str | None) -> None:
        # On a full disk `status` does not learn it; the log has it.
        with suppress(StateFull):
            record_config_health(self._resources.spool, self.settings.loaded, reason)

    def end(self, *, last: bool, whole: bool) -> None:
        """End in the data's order: watch no more, commit what came in, push once, leave the rest in the outbox.

        `whole` is false after an error: then nothing more is tried, and the next start checks the spool.
        """
        self._capture_loop.stop()
        self._join(self._threads[0])
        self._watcher.close()
        self._upload_loop.stop()
        self._join(self._threads[1])
        if all(not thread.is_alive() for thread in self._threads):
            if whole:
                self._upload_loop.last_push()
            self._upload_loop.close()
        if self._archive is not None:
            self._archive.stop()
        if last:
            log.info("daemon.stopped", seconds=round(time.monotonic() - self._began))
        if all(not thread.is_alive() for thread in self._threads):
            self._resources.close(clean=whole)

    def _join(self, thread: threading.Thread) -> None:
        thread.join(ENDING / 2)


def soonest(beat: float | None, edit: float | None, pause_end: float | None) -> float | None:
    """Return the seconds until the first of three times is due; None where none is set.

    Each is given in seconds from now, None where it is not set, negative where it has passed. The end of a pause is
    a time of the wall clock, which may be set, and the machine may sleep: it is compared again after NAP seconds.
    """
    dues = [beat, edit, None if pause_end is None else min(pause_end, CLOCK_CHECK)]
    return min((max(0.0, due) for due in dues if due is not None), default=None)


def _change_log(before: Settings, fresh: Settings, environ: Mapping[str, str]) -> None:
    old, new = before.config.log, fresh.config.log
    if (old.format, old.file) == (new.format, new.file):
        logs.set_level(new.level)
    else:
        open_log(fresh.config, environ)
