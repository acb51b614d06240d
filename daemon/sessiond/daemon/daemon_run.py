"""One run of the daemon under one configuration: what the main thread does."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Mapping
from contextlib import suppress

import msgspec
from msgspec.structs import replace

from sessiond import __version__, pause
from sessiond.clock import now_ms
from sessiond.daemon.config_watch import ConfigWatch
from sessiond.daemon.engine import SLICE_OF_FILE, Engine, EngineOptions, Throttles
from sessiond.daemon.heartbeat import PATIENCE, Heartbeat
from sessiond.daemon.messages import Cause, ConfigChanged, EraseForgotten, Hold, Message, MoreRoom, Retry, ScanNow
from sessiond.daemon.notify import ServiceNotifier
from sessiond.daemon.reporting import record_config_health
from sessiond.daemon.resources import Opening
from sessiond.daemon.settings import Settings, change_log, log_warnings, reload_settings
from sessiond.errors import ConfigError, SpoolDamaged, StateFull
from sessiond.logs import log
from sessiond.state import Lock

CLOCK_CHECK = 60.0
"""Seconds between two checks of the wall clock while something is paused: it may be set, or the machine may sleep."""


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """What all runs of one process share."""

    environ: Mapping[str, str]
    file: str | None
    """The argument of `--config`."""
    lock: Lock
    messages: queue.SimpleQueue[Message | BaseException]
    notify: ServiceNotifier


class Handover(msgspec.Struct, frozen=True, kw_only=True):
    """State that a run takes over from the run before."""

    config_watch: ConfigWatch | None = None
    """The configuration that the run before watched; None in the first run of the process."""
    damaged: SpoolDamaged | None = None
    """Damage that the run before found in the spool."""
    refused: ConfigError | None = None
    """The error of a newer configuration that could not be used."""


class DaemonRun:
    """Handles the messages to the main thread, for one engine."""

    def __init__(self, host: Host, settings: Settings, handover: Handover | None = None) -> None:
        """Open the engine and start its threads.

        Raises: StateError, ConfigError. Nothing stays open then.
        """
        handover = handover or Handover()
        before = handover.config_watch
        self.settings, self.host = settings, host
        self._started = time.monotonic()
        self._heartbeat = Heartbeat()
        self._next_heartbeat = self._started
        self.config_watch = ConfigWatch(settings.loaded, host.environ, host.file, before)
        options = EngineOptions(
            throttles=Throttles.of(settings.config.backlog),
            slice=SLICE_OF_FILE,
            config_files=self.config_watch,
            opening=Opening(damaged=handover.damaged),
            main=host.messages,
        )
        self.engine = Engine(settings, host.environ, host.lock, options)
        if before:
            self.engine.inboxes.upload.put(Retry(Cause.SETUP))  # the new configuration may fix the failure
        if handover.refused is None:
            self._note_refusal(None)
        else:
            self._refuse(handover.refused)
        self.config_watch.note_change()  # no event reports an edit made before the files were watched
        self.engine.start()
        self._log_start(first=before is None)

    def _log_start(self, *, first: bool) -> None:
        resources, url = self.engine.resources, self.engine.target.url
        if first:
            log.info(
                "daemon.started",
                version=__version__,
                pid=os.getpid(),
                machine=resources.machine_id,
                state_dir=resources.directory,
                endpoint=url,
                tools=len({source.tool for source, _ in resources.roots}),
            )
            log_warnings(self.settings.loaded)
        self.host.notify(READY="1", STATUS=f"pushing to {url}")

    def run(self) -> Message | BaseException:
        """Handle messages until one ends this run; `settings` then holds those of the next run."""
        while True:
            try:
                message = self.host.messages.get(timeout=self._timeout())
            except queue.Empty:
                message = Message.EDITED  # a timeout: the edit or pause that is due is handled below
            if self.host.notify.watchdog is not None and time.monotonic() >= self._next_heartbeat:
                self._next_heartbeat = time.monotonic() + self.host.notify.watchdog
                self.send_heartbeat()
            if self._ends_run(message):
                return message

    def _ends_run(self, message: Message | BaseException) -> bool:
        """Handle a message; return whether it ends this run."""
        upload, capture = self.engine.inboxes.upload, self.engine.inboxes.capture
        if message is Message.RETRY:
            with self.engine.resources.spool.reading():
                self.engine.resources.spool.outbox.invalidate_size()  # `queue drop` may have removed items
            capture.put(EraseForgotten())  # `forget` may have stored tombstones
            upload.put(Retry(Cause.USER))
            capture.put(MoreRoom())
            capture.put(ScanNow())
        elif message is Message.NETWORK:
            upload.put(Retry(Cause.NETWORK))
        elif message is Message.EDITED:
            self.config_watch.note_change()
            if self.config_watch.finished() and self._take_over(asked=False):
                return True
            return self._pause_ends() and self._repause()
        elif message is Message.MOVED:
            return self.engine.resources.roots_changed()
        elif message is Message.RELOAD:
            return self._take_over(asked=True)
        else:
            return True  # STOP, DIED, or the error of a thread
        return False

    def _timeout(self) -> float | None:
        """Return the seconds until an edit, a heartbeat or the end of a pause is due; None if none is."""
        beat = None if self.host.notify.watchdog is None else self._next_heartbeat - time.monotonic()
        end = self.settings.paused.next_end_ms()
        return soonest(beat, self.config_watch.due(), None if end is None else (end - now_ms()) / 1000)

    def _pause_ends(self) -> bool:
        end = self.settings.paused.next_end_ms()
        return end is not None and end <= now_ms()

    def _repause(self) -> bool:
        """Apply the pauses in force now; return whether a restart of the threads is needed: a source came or went."""
        before = self.settings
        self.settings = replace(before, paused=pause.read(self.engine.resources.directory, now_ms()))
        self._hold()
        return before.requires_restart(self.settings)

    def _hold(self) -> None:
        self.engine.inboxes.upload.put(Hold(self.settings.paused.pushing is not None))

    def send_heartbeat(self) -> None:
        """Send the service manager a sign of life if both threads made progress lately. A hung disk stops that."""
        # A failing push makes several requests, each with a full timeout. That is not a hang.
        patience = max(PATIENCE, 6 * self.settings.config.endpoint.timeout)
        loops = self.engine.capture_loop, self.engine.upload_loop
        if self._heartbeat.alive(loops, time.monotonic(), patience):
            self.host.notify(WATCHDOG="1")
        self.engine.ping()

    def _take_over(self, *, asked: bool) -> bool:
        """Reload the settings; return whether the threads have to restart. Invalid ones are only logged."""
        try:
            if not asked:
                _refuse_emptied(self.config_watch.emptied())
            fresh = reload_settings(self.host.file, self.host.environ, self.engine.resources.directory)
            if not asked:
                _refuse_emptied(self.config_watch.emptied_in(fresh.loaded))  # it may have changed before it was read
        except ConfigError as error:
            # An edit that began after the last one was finished is half written. It is read when it is finished.
            if asked or not self.config_watch.note_change():
                self._refuse(error)
            return self._repause()
        before, self.settings = self.settings, fresh
        self._note_refusal(None)
        restart = before.requires_restart(fresh)
        if asked or fresh != before:
            log_warnings(fresh.loaded)
            log.info("config.reloaded", files=len(fresh.loaded.files), restart=restart)
        if fresh.config.log != before.config.log:
            change_log(before.config, fresh.config, self.host.environ)
        if not restart:
            self._apply(retry=asked or fresh != before)
        return restart

    def _apply(self, *, retry: bool) -> None:
        """Apply new settings that need no restart."""
        fresh = self.settings
        self.config_watch = ConfigWatch(fresh.loaded, self.host.environ, self.host.file, self.config_watch)
        self.config_watch.note_change()  # the events of an edit since the files were read may have come already
        self._hold()
        if retry:
            self.engine.inboxes.upload.put(Retry(Cause.SETUP))
        changed = ConfigChanged(fresh.config.backlog, self.config_watch)
        self.engine.inboxes.upload.put(changed)
        self.engine.inboxes.capture.put(changed)

    def _refuse(self, error: ConfigError) -> None:
        log.error("config.refused", file=error.file, line=error.line, key=error.key, reason=str(error), hint=error.hint)
        self._note_refusal(str(error))

    def _note_refusal(self, reason: str | None) -> None:
        # On a full disk only the log has it; `status` doesn't show it.
        with suppress(StateFull):
            record_config_health(self.engine.resources.spool, self.settings.loaded, reason)

    def end(self, *, last: bool, whole: bool) -> None:
        """Stop the engine. `last` is true if the process ends; `whole` is false after an error (see Engine.stop)."""
        self.engine.stop(whole=whole)
        if last:
            log.info("daemon.stopped", seconds=round(time.monotonic() - self._started))


def soonest(beat: float | None, edit: float | None, pause_end: float | None) -> float | None:
    """Return the seconds until the first of three times is due; None if none is set.

    Each is given in seconds from now: None if it is not set, negative if it has passed. The end of a pause is a time
    of the wall clock, which may be set, and the machine may sleep. It is checked again after CLOCK_CHECK seconds.
    """
    dues = [beat, edit, None if pause_end is None else min(pause_end, CLOCK_CHECK)]
    return min((max(0.0, due) for due in dues if due is not None), default=None)


def _refuse_emptied(path: str | None) -> None:
    """Raise ConfigError if a file was emptied or removed. Only the user can say that it is meant."""
    if path is not None:
        hint = "the last good configuration stays in force; run `sessiond reload` if the file is meant to be empty"
        raise ConfigError("is empty or was removed", file=path, hint=hint)
