"""One run of the daemon under one configuration."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from enum import StrEnum

from msgspec.structs import replace

from sessiond import __version__, pause, state
from sessiond.clock import now_ms
from sessiond.daemon.capture_loop import CaptureLoop
from sessiond.daemon.changed_files import SLICE_OF_FILE
from sessiond.daemon.config_watch import ConfigWatch
from sessiond.daemon.endpoint_state import Cause
from sessiond.daemon.heartbeat import PATIENCE, Heartbeat
from sessiond.daemon.notify import ServiceNotifier
from sessiond.daemon.reporting import record_config_health
from sessiond.daemon.resources import Resources, open_resources
from sessiond.daemon.settings import Settings, change_log, log_warnings, reload_settings
from sessiond.daemon.throttle import PUSHING, READING, Override, Throttle
from sessiond.daemon.upload_loop import UploadLoop
from sessiond.errors import ConfigError, SpoolDamaged, StateFull
from sessiond.ingest import Turn
from sessiond.logs import hide, log
from sessiond.sources.base import UserDirs
from sessiond.spool import translated
from sessiond.watch import Watcher

ENDING = 8.0
"""Seconds until the process ends without its threads. That costs a repeated push, and no data."""
CLOCK_CHECK = 60.0
"""Seconds between two checks of the wall clock while something is paused: it may be set, or the machine may sleep."""


class Message(StrEnum):
    """A message to the main thread."""

    STOP = "stop"
    RELOAD = "reload"
    """SIGHUP asks for it."""
    EDITED = "edited"
    """A file of the configuration changed."""
    MOVED = "moved"
    """A tool's list of roots changed."""
    RETRY = "retry"
    NETWORK = "network"
    """A network link or an address appeared."""
    DIED = "died"


class DaemonRun:
    """The threads and resources of one configuration."""

    def __init__(  # noqa: PLR0913 - everything that a run depends on
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
        """Open the resources and start the threads.

        `before` and `damaged` come from the previous run: its watched configuration, and damage found in the spool.
        `refused` is the error of a newer configuration that could not be used.
        Raises: StateError, ConfigError; nothing stays open then.
        """
        self.settings, self._environ, self._file = settings, environ, file
        self._messages, self._notify = messages, notify
        self._started = time.monotonic()
        self._heartbeat = Heartbeat()
        self._next_heartbeat = self._started
        with ExitStack() as undo:
            self._open(lock, before, damaged, undo)
            undo.pop_all()
        self._upload_loop.set_paused(settings.paused.pushing is not None)
        if before:
            self._upload_loop.retry_sooner(Cause.SETUP)  # the new configuration may fix the failure
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
        """Open the resources and create the watcher and the loops; `undo` closes what was opened."""
        settings, config = self.settings, self.settings.config
        self._resources: Resources = open_resources(config, self._environ, damaged)
        undo.callback(self._resources.close, clean=False)
        self._archive: Archive | None = None
        self.url, token = config.endpoint.url, settings.token
        if not self.url:
            from sessiond.daemon.archive import Archive  # late: with an endpoint no subprocess is needed

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
            lambda: self._capture_loop.read_waiting_streams(),  # noqa: PLW0108 - the two loops refer to each other
            Throttle(PUSHING, config.backlog, override=override),
        )
        undo.callback(self._upload_loop.close)
        self._capture_loop = CaptureLoop(
            self._resources,
            self._watcher,
            lock,
            on_captured=self._upload_loop.wake,
            handle_other=self._aside,
            user_dirs=UserDirs.current(self._environ),
            throttle=Throttle(READING, config.backlog, override=override),
        )
        self._capture_loop.turn = Turn(slice=SLICE_OF_FILE)  # only here: `sync` reads each file to its end
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
        except Exception as error:  # noqa: BLE001 - the only one: main ends the process with it
            self._messages.put(error)

    def run(self) -> Message | BaseException:
        """Handle messages until one ends this run; `settings` then holds those of the next run."""
        while True:
            try:
                message = self._messages.get(timeout=self._timeout())
            except queue.Empty:
                message = Message.EDITED  # a timeout: the edit or pause that is due is handled below
            if self._notify.watchdog is not None and time.monotonic() >= self._next_heartbeat:
                self._next_heartbeat = time.monotonic() + self._notify.watchdog
                self._send_heartbeat()
            if message is Message.RETRY:
                with self._resources.spool.reading():
                    self._resources.spool.outbox.invalidate_size()  # `queue drop` may have removed items
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
        """Return the seconds until an edit, a heartbeat or the end of a pause is due; None if none is."""
        beat = None if self._notify.watchdog is None else self._next_heartbeat - time.monotonic()
        end = self.settings.paused.next_end_ms()
        return soonest(beat, self.config_watch.due(), None if end is None else (end - now_ms()) / 1000)

    def _pause_ends(self) -> bool:
        end = self.settings.paused.next_end_ms()
        return end is not None and end <= now_ms()

    def _repause(self) -> bool:
        """Apply the pauses in force now; return whether a restart of the threads is needed: a source came or went."""
        before = self.settings
        self.settings = replace(before, paused=pause.read(self._resources.directory, now_ms()))
        self._upload_loop.set_paused(self.settings.paused.pushing is not None)
        return before.requires_restart(self.settings)

    def _send_heartbeat(self) -> None:
        """Send the service manager a sign of life if both threads made progress lately. A hung disk stops that."""
        # A failing push makes several requests, each with a full timeout. That is not a hang.
        patience = max(PATIENCE, 6 * self.settings.config.endpoint.timeout)
        if self._heartbeat.alive((self._capture_loop, self._upload_loop), time.monotonic(), patience):
            self._notify(WATCHDOG="1")
        self._watcher.wake()
        self._upload_loop.wake()

    def _take_over(self, *, asked: bool) -> bool:
        """Reload the settings; return whether the threads have to restart. Invalid ones are only logged."""
        try:
            if not asked and (path := self.config_watch.emptied()):
                hint = (
                    "the last good configuration stays in force; run `sessiond reload` if the file is meant to be empty"
                )
                raise ConfigError("is empty or was removed", file=path, hint=hint)
            fresh = reload_settings(self._file, self._environ, self._resources.directory)
        except ConfigError as error:
            self._refuse(error)
            return self._repause()
        before, self.settings = self.settings, fresh
        self._note_refusal(None)
        restart = before.requires_restart(fresh)
        if asked or fresh != before:
            log_warnings(fresh.loaded)
            log.info("config.reloaded", files=len(fresh.loaded.files), anew=restart)
        if fresh.config.log != before.config.log:
            change_log(before.config, fresh.config, self._environ)
        if not restart:
            self.config_watch = ConfigWatch(fresh.loaded, self._environ, self._file, self.config_watch)
            self._upload_loop.set_paused(fresh.paused.pushing is not None)
            if asked or fresh != before:
                self._upload_loop.retry_sooner(Cause.SETUP)
            self._upload_loop.apply_limits(fresh.config.backlog)
            self._capture_loop.apply_limits(fresh.config.backlog)
        return restart

    def _refuse(self, error: ConfigError) -> None:
        log.error("config.refused", file=error.file, line=error.line, key=error.key, reason=str(error), hint=error.hint)
        self._note_refusal(str(error))

    def _note_refusal(self, reason: str | None) -> None:
        # On a full disk only the log has it; `status` doesn't show it.
        with suppress(StateFull):
            record_config_health(self._resources.spool, self.settings.loaded, reason)

    def end(self, *, last: bool, whole: bool) -> None:
        """End in the order of the data: stop watching, commit what was read, push once, leave the rest in the outbox.

        `whole` is false after an error: then nothing more is pushed, and the next start checks the spool.
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
            log.info("daemon.stopped", seconds=round(time.monotonic() - self._started))
        if all(not thread.is_alive() for thread in self._threads):
            self._resources.close(clean=whole)

    def _join(self, thread: threading.Thread) -> None:
        thread.join(ENDING / 2)


def soonest(beat: float | None, edit: float | None, pause_end: float | None) -> float | None:
    """Return the seconds until the first of three times is due; None if none is set.

    Each is given in seconds from now: None if it is not set, negative if it has passed. The end of a pause is a time
    of the wall clock, which may be set, and the machine may sleep. It is checked again after CLOCK_CHECK seconds.
    """
    dues = [beat, edit, None if pause_end is None else min(pause_end, CLOCK_CHECK)]
    return min((max(0.0, due) for due in dues if due is not None), default=None)
