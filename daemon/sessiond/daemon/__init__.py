"""The daemon: its threads, its signals, and the order of its shutdown.

One thread captures, one uploads, and watchdog has its own. The main thread waits for a message: a signal, a reload,
a crash. A crash in any thread ends the process. The service manager restarts it, and nothing is lost.
"""

from __future__ import annotations

import ctypes
import os
import queue
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping
from types import FrameType
from typing import NoReturn

from sessiond import exit_codes, state
from sessiond.config import Loaded, state_dir
from sessiond.daemon.daemon_run import DaemonRun, Message
from sessiond.daemon.network import NetworkMonitor
from sessiond.daemon.notify import ServiceNotifier, service
from sessiond.daemon.settings import open_log, resolve_settings
from sessiond.errors import ConfigError, SessiondError, SpoolDamaged, shortage

REPEATED_SIGNAL = 0.3
"""Seconds within which a second signal counts as the first one: timeout(1) signals a process and then its group."""

PR_SET_DUMPABLE = 4


class Crash(SessiondError):
    """A thread of the daemon ended with an unexpected error: a bug."""

    exit_code = exit_codes.CRASHED


def run(loaded: Loaded, environ: Mapping[str, str], file: str | None, *, ready: Callable[[str], None]) -> int:
    """Run until a signal; return the exit code. `ready` is called with the endpoint's address.

    An edit of the configuration is applied in this process. An invalid one is refused, and the last good one stays
    in force.

    Raises: AlreadyRunning, StateError or ConfigError at the start; SpoolDamaged if a rebuilt spool is damaged; Crash.
    """
    directory = state_dir(loaded.config)
    state.prepare(directory)
    open_log(loaded.config, environ)
    _no_core()
    messages: queue.SimpleQueue[Message | BaseException] = queue.SimpleQueue()
    notify = ServiceNotifier(environ)
    _handle_signals(messages)  # before the lock: `sync` sends SIGUSR1 to its holder
    lock = state.Lock(directory, service(environ))
    settings, config_watch = resolve_settings(loaded, environ), None
    good, refused = settings, None
    network = NetworkMonitor(lambda: messages.put(Message.NETWORK))
    damaged: SpoolDamaged | None = None
    try:
        while True:
            try:
                daemon_run = DaemonRun(
                    settings,
                    environ,
                    file,
                    lock,
                    messages,
                    notify,
                    before=config_watch,
                    damaged=damaged,
                    refused=refused,
                )
            except ConfigError as error:
                if settings is good:
                    raise
                settings, refused = good, error  # the last good ones stay in force
                continue
            except SpoolDamaged as error:
                if damaged is not None:
                    raise
                damaged = error  # found only when the spool is read; it is rebuilt in the next pass
                continue
            good, refused = settings, None
            if config_watch is None:
                ready(daemon_run.url)
            ended = daemon_run.run()
            again = isinstance(ended, SpoolDamaged) and damaged is None
            last = ended is Message.STOP or (isinstance(ended, BaseException) and not again)
            if last:
                notify(STOPPING="1")  # not before a restart of the threads: systemd would expect the process to end
            daemon_run.end(last=last, whole=not isinstance(ended, BaseException))
            if isinstance(ended, SpoolDamaged) and again:
                damaged = ended  # only once: a disk that keeps failing has to be reported
                continue
            if isinstance(ended, BaseException):
                _raise(ended)
            if last:
                return 0
            settings, config_watch, damaged = daemon_run.settings, daemon_run.config_watch, None
    finally:
        network.close()
        lock.release()


def _raise(error: BaseException) -> NoReturn:
    """Raise the error that ended a thread; an unexpected one becomes Shortage or Crash."""
    if isinstance(error, SessiondError):
        raise error
    found = shortage(error)
    raise found or Crash(f"a bug: {type(error).__name__}: {error}", hint="please report it") from error


def _handle_signals(messages: queue.SimpleQueue[Message | BaseException]) -> None:
    asked: float | None = None

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal asked
        if asked is not None and time.monotonic() - asked > REPEATED_SIGNAL:
            # The second request ends the process at once; the outbox is on the disk.
            os._exit(exit_codes.SIGNALLED + number)
        asked = asked or time.monotonic()
        messages.put(Message.STOP)  # SimpleQueue.put is safe here; Event.set could deadlock

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    signal.signal(signal.SIGHUP, lambda *_: messages.put(Message.RELOAD))
    signal.signal(signal.SIGUSR1, lambda *_: messages.put(Message.RETRY))


def _no_core() -> None:
    """Disable core dumps: memory holds the token, and secrets of transcripts before they are masked."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if sys.platform == "linux":
        # The limit has no effect on a core_pattern that pipes into a program. This has, and it also keeps other
        # programs of the user from reading our memory and environment.
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
