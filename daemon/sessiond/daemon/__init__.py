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

from sessiond import exit_codes, state
from sessiond.config import Loaded, state_dir
from sessiond.daemon.messages import Message
from sessiond.daemon.notify import ServiceNotifier, service
from sessiond.daemon.settings import open_log, resolve_settings

REPEATED_SIGNAL = 0.3
"""Seconds within which a second signal counts as the first one: timeout(1) signals a process and then its group."""

PR_SET_DUMPABLE = 4


def run(loaded: Loaded, environ: Mapping[str, str], file: str | None, *, ready: Callable[[str], None]) -> int:
    """Run until a signal; return the exit code. `ready` is called with the endpoint's address.

    An edit of the configuration is applied in this process. An invalid one is refused, and the last good one stays
    in force.

    Raises: AlreadyRunning, StateError or ConfigError at the start; SpoolDamaged if a rebuilt spool is damaged; Crash.
    """
    from sessiond.daemon.daemon_run import Host  # late: `sync` imports this package, and needs no HTTP client
    from sessiond.daemon.network import NetworkMonitor
    from sessiond.daemon.supervisor import Supervisor

    directory = state_dir(loaded.config)
    state.prepare(directory)
    open_log(loaded.config, environ)
    _no_core()
    messages: queue.SimpleQueue[Message | BaseException] = queue.SimpleQueue()
    notify = ServiceNotifier(environ)
    _handle_signals(messages)  # before the lock: `sync` sends SIGUSR1 to its holder
    lock = state.Lock(directory, service(environ))
    network = None
    try:
        host = Host(environ=environ, file=file, lock=lock, messages=messages, notify=notify)
        supervisor = Supervisor(host, resolve_settings(loaded, environ))
        network = NetworkMonitor(lambda: messages.put(Message.NETWORK))
        supervisor.run(ready)
    finally:
        if network is not None:
            network.close()
        lock.release()
    return 0


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
