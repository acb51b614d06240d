"""Runs one engine after the other: a new one for each change of the configuration that needs it."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import NoReturn

from sessiond import exit_codes
from sessiond.daemon.daemon_run import DaemonRun, Handover, Host
from sessiond.daemon.messages import Message
from sessiond.daemon.settings import Settings
from sessiond.errors import ConfigError, SessiondError, SpoolDamaged, shortage


class Crash(SessiondError):
    """A thread of the daemon ended with an unexpected error: a bug."""

    exit_code = exit_codes.CRASHED


class Supervisor:
    """Starts runs until one is the last: after a signal, or after an error that a new run would not fix."""

    def __init__(self, host: Host, settings: Settings) -> None:
        self._host = host
        self._settings = self._good = settings
        """The settings for the next run, and the last ones that could be used."""
        self._handover = Handover()

    def run(self, ready: Callable[[str], None]) -> None:
        """Run until the end; `ready` is called with the endpoint's address once the first run has started.

        Raises: StateError or ConfigError at the start; SpoolDamaged if a rebuilt spool is damaged; Crash.
        """
        run = self._start()
        ready(run.engine.target.url)
        while not self._end(run, run.run()):
            # Its parts refer to each other. Python would keep several such engines for hours before it collects them.
            del run
            gc.collect()
            run = self._start()

    def _start(self) -> DaemonRun:
        """Start the next run: with the last good settings if the new ones can't be used, or with a rebuilt spool."""
        while True:
            damaged, refused = self._handover.damaged, None
            try:
                run = DaemonRun(self._host, self._settings, self._handover)
            except ConfigError as error:
                if self._settings is self._good:
                    raise
                self._settings, refused = self._good, error
            except SpoolDamaged as error:
                if damaged is not None:
                    raise
                damaged = error  # found only when the spool was read
            else:
                self._good = self._settings
                return run
            refused = refused or self._handover.refused
            self._handover = Handover(config_watch=self._handover.config_watch, damaged=damaged, refused=refused)

    def _end(self, run: DaemonRun, ended: Message | BaseException) -> bool:
        """End a run after the message that ended it; return whether it was the last one. Raises its error."""
        # A damaged spool is rebuilt once for each change: a disk that keeps failing has to be reported.
        damaged = ended if isinstance(ended, SpoolDamaged) and self._handover.damaged is None else None
        error = ended if isinstance(ended, BaseException) and damaged is None else None
        last = error is not None or ended is Message.STOP
        if last:
            self._host.notify(STOPPING="1")  # not before a restart of the threads: systemd expects the process to end
        run.end(last=last, whole=not isinstance(ended, BaseException))
        if error is not None:
            _raise(error)
        self._settings = run.settings
        self._handover = Handover(config_watch=run.config_watch, damaged=damaged)
        return last


def _raise(error: BaseException) -> NoReturn:
    """Raise the error that ended a thread; an unexpected one becomes Shortage or Crash."""
    if isinstance(error, SessiondError):
        raise error
    found = shortage(error)
    raise found or Crash(f"a bug: {type(error).__name__}: {error}", hint="please report it") from error
