"""The daemon: its threads, its signals, and the order in which it ends.

One thread captures, one pushes; watchdog has its own. Main waits for a message: a signal, a reload, a crash.
A crash in any thread ends the process; the service manager starts it again, and nothing is lost by that.
"""

from __future__ import annotations

import os
import queue
import resource
import signal
import threading
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from types import FrameType

from sessiond import __version__, state
from sessiond.config import Loaded, Token, config_file, load, read_token, state_dir
from sessiond.daemon.archive import Archive
from sessiond.daemon.capturing import Capturing
from sessiond.daemon.notify import Notify, service
from sessiond.daemon.pushing import Pushing
from sessiond.daemon.rooms import Rooms, open_rooms
from sessiond.errors import ConfigError, SessiondError
from sessiond.logs import hide, log
from sessiond.sources import find_sources
from sessiond.sources.base import Places, Root, Watch
from sessiond.spool import health
from sessiond.watch import WatchedRoot, Watcher

CONFIG = "config"
"""Owner of the watched directories that hold the configuration and the token."""
ENDING = 8.0
"""Seconds that the threads have to end in; then the process goes without them, which costs a repeated push."""
PATIENCE = 120.0
"""Seconds in which a thread has to turn once, or it hangs."""
CRASHED = 70
SAME_WISH = 0.3
"""Seconds within which a second signal is the first one again: timeout(1) signals a process and then its group."""


class Message(StrEnum):
    """What main may be told."""

    STOP = "stop"
    RELOAD = "reload"
    RETRY = "retry"
    DIED = "died"


class Crash(SessiondError):
    """A thread of the daemon ended by an error that nobody expected: a bug."""

    exit_code = CRASHED


def run(loaded: Loaded, environ: Mapping[str, str], file: str | None, *, ready: Callable[[str], None]) -> int:
    """Run until a signal; return the exit code. `ready` is called with the endpoint's address.

    An edit of the configuration restarts the threads with it, in this process; an invalid one is refused
    and the last good one stays.

    Raises: AlreadyRunning, StateError, ConfigError at the start; Crash.
    """
    directory = state_dir(loaded.config)
    state.prepare(directory)
    _no_core()
    messages: queue.SimpleQueue[Message | BaseException] = queue.SimpleQueue()
    notify = Notify(environ)
    _handle_signals(messages)  # before the lock: whoever holds that may be sent SIGUSR1 by `sync`
    lock = state.Lock(directory, service(environ))
    try:
        while True:
            life = Life(loaded, environ, file, lock, messages, notify)
            ready(life.url)
            ended = life.live()
            if ended is Message.STOP:
                notify(STOPPING="1")  # not for a life that another one follows: systemd would take us for gone
            life.end()
            if isinstance(ended, BaseException):
                raise Crash(f"a bug: {type(ended).__name__}: {ended}", hint="please report it") from ended
            if ended is Message.STOP:
                return 0
            loaded = life.reloaded or loaded
    finally:
        lock.release()


class Life:
    """The daemon between two configurations."""

    def __init__(
        self,
        loaded: Loaded,
        environ: Mapping[str, str],
        file: str | None,
        lock: state.Lock,
        messages: queue.SimpleQueue[Message | BaseException],
        notify: Notify,
    ) -> None:
        """Open the rooms and start the threads. Raises: StateError, ConfigError."""
        self._loaded, self._environ, self._file = loaded, environ, file
        self._messages, self._notify = messages, notify
        self._began = time.monotonic()
        self._beats: dict[Capturing | Pushing, tuple[int, float]] = {}
        self.reloaded: Loaded | None = None
        config = loaded.config
        self._rooms: Rooms = open_rooms(config, environ)
        self._archive: Archive | None = None
        token: Token | None = None
        if config.endpoint.url:
            self.url, token = config.endpoint.url, read_token(config, environ)
        else:
            self._archive = Archive(self._rooms.directory, lambda: messages.put(Message.DIED))
            self.url, token = self._archive.url, self._archive.token
        if token is not None:
            hide(token.reveal())
        self._config_files = ConfigFiles(loaded, environ, file)
        self._watcher = Watcher([*self._rooms.watched, *self._config_files.roots()], rescan=config.rescan)
        self._pushing = Pushing(
            self._rooms,
            self.url,
            token,
            lambda: self._capturing.more_room(),  # noqa: PLW0108 - each of the two knows the other
        )
        self._capturing = Capturing(
            self._rooms,
            self._watcher,
            lock,
            captured=self._pushing.captured,
            aside=self._aside,
            places=Places.here(environ),
        )
        self._watcher.start()
        self._threads = [
            threading.Thread(target=self._guard, args=(work.run,), name=name, daemon=True)
            for name, work in (("capture", self._capturing), ("push", self._pushing))
        ]
        for thread in self._threads:
            thread.start()
        log.info(
            "daemon.started",
            version=__version__,
            pid=os.getpid(),
            machine=self._rooms.machine_id,
            state_dir=self._rooms.directory,
            endpoint=self.url,
            tools=len({source.tool for source, _ in self._rooms.places}),
        )
        notify(READY="1", STATUS=f"pushing to {self.url}")

    def _aside(self, path: str) -> bool:
        mine = self._config_files.has(path)
        if mine:
            self._messages.put(Message.RELOAD)
        return mine

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the one guard: main ends the process with it
            self._messages.put(error)

    def live(self) -> Message | BaseException:
        """Wait for what ends this life."""
        while True:
            try:
                message = self._messages.get(timeout=self._notify.watchdog)
            except queue.Empty:
                self._show_life()
                continue
            if message is Message.RETRY:
                with self._rooms.spool.reading():
                    self._rooms.spool.outbox.forget_count()  # `queue drop` may have made room in it
                self._pushing.try_now()
                self._capturing.more_room()
                self._capturing.look_now()
            elif message is not Message.RELOAD or self._reload():
                return message

    def _show_life(self) -> None:
        """Tell the service manager that we live, if both threads turned lately: a hung disk is no life."""
        now = time.monotonic()
        for work in (self._capturing, self._pushing):
            if self._beats.get(work, (-1, 0.0))[0] != work.beats:
                self._beats[work] = (work.beats, now)
        # A push that fails takes several requests of a full time-out each, and that is no reason to die.
        patience = max(PATIENCE, 6 * self._loaded.config.endpoint.timeout)
        if all(now - turned < patience for _, turned in self._beats.values()):
            self._notify(WATCHDOG="1")
        self._watcher.poke()
        self._pushing.captured()

    def _reload(self) -> bool:
        """Read the configuration again; an invalid one changes nothing and is said."""
        try:
            fresh = load(self._file, self._environ, tools=[source.tool for source in find_sources()])
            if state_dir(fresh.config) != self._rooms.directory:
                raise ConfigError("state_dir can't change while the daemon runs", hint="restart it")
            if fresh.config.endpoint.url:
                read_token(fresh.config, self._environ)
        except ConfigError as error:
            log.error(
                "config.refused",
                file=error.file,
                line=error.line,
                key=error.key,
                reason=str(error),
                hint=error.hint,
            )
            self._rooms.spool.set_meta(health.CONFIG, str(error))
            return False
        self._rooms.spool.set_meta(health.CONFIG, None)
        self.reloaded = fresh
        log.info("config.reloaded", files=len(fresh.files))
        return True

    def end(self) -> None:
        """End in the data's order: watch no more, commit what came in, push once, leave the rest in the outbox."""
        self._capturing.stop()
        self._join(self._threads[0])
        self._watcher.close()
        self._pushing.stop()
        self._join(self._threads[1])
        if all(not thread.is_alive() for thread in self._threads):
            self._pushing.last_push()
            self._pushing.close()
        if self._archive is not None:
            self._archive.stop()
        log.info("daemon.stopped", seconds=round(time.monotonic() - self._began))
        if all(not thread.is_alive() for thread in self._threads):
            self._rooms.close()

    def _join(self, thread: threading.Thread) -> None:
        thread.join(ENDING / 2)


class ConfigFiles:
    """The files whose edit is taken over at once: the configuration and the token."""

    def __init__(self, loaded: Loaded, environ: Mapping[str, str], file: str | None) -> None:
        main = os.path.abspath(file or environ.get("SESSIOND_CONFIG") or config_file())
        self._files = {main, *loaded.files}
        if loaded.config.endpoint.token_file:
            self._files.add(loaded.config.endpoint.token_file)
        self._folder = os.path.join(os.path.dirname(main), "config.d")

    def has(self, path: str) -> bool:
        """Tell whether a path is one of them."""
        return path in self._files or (os.path.dirname(path) == self._folder and path.endswith(".toml"))

    def roots(self) -> list[WatchedRoot]:
        """Name the directories to watch."""
        directories = {self._folder, *(os.path.dirname(path) for path in self._files)}
        return [
            WatchedRoot(root=Root(path=directory, watch=Watch.FLAT, depth=0), owner=CONFIG)
            for directory in sorted(directories)
        ]


def _handle_signals(messages: queue.SimpleQueue[Message | BaseException]) -> None:
    asked: float | None = None

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal asked
        if asked is not None and time.monotonic() - asked > SAME_WISH:
            os._exit(128 + number)  # asked twice: at once; what is in the outbox stays there
        asked = asked or time.monotonic()
        messages.put(Message.STOP)  # SimpleQueue.put is safe here; Event.set could deadlock

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    signal.signal(signal.SIGHUP, lambda *_: messages.put(Message.RELOAD))
    signal.signal(signal.SIGUSR1, lambda *_: messages.put(Message.RETRY))


def _no_core() -> None:
    """Never leave a core dump: our memory has the token and other people's secrets in it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
