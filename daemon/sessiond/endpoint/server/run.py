"""Runs the endpoint in a thread, for a daemon or a test, or as the process `sessiond serve`."""

from __future__ import annotations

import os
import signal
import socket
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from types import FrameType

import msgspec

from sessiond import exit_codes
from sessiond.atomic import atomic_write
from sessiond.endpoint.announcement import Announcement
from sessiond.endpoint.pace import Pace
from sessiond.endpoint.server import tokens
from sessiond.endpoint.server.app import Settings, build
from sessiond.endpoint.server.drain import Drain
from sessiond.endpoint.server.listener import raise_limit
from sessiond.endpoint.server.lock import StoreLock
from sessiond.endpoint.server.opening import serving_store
from sessiond.endpoint.server.server import GRACE, Server, in_thread
from sessiond.endpoint.server.sqlite_store import SqliteStore
from sessiond.endpoint.server.store import Store
from sessiond.endpoint.server.trusted_proxy import USER_HEADER, TrustedProxy
from sessiond.endpoint.wire import Limits
from sessiond.errors import ConfigError, StateError

PARENT_TIMEOUT = 2.0 * GRACE
"""Seconds that a new child process waits for the lock, because the child of a killed daemon may still be ending."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The options of `sessiond serve`; see `sessiond serve --help`."""

    directory: str
    host: str = "127.0.0.1"
    port: int = 8377
    tls_cert: str | None = None
    tls_key: str | None = None
    announce: str | None = None
    """A file to create, the number of a descriptor, or `-` for stdout."""
    token_file: str | None = None
    until_eof: bool = False
    quota: int | None = None
    access_log: bool = False
    store_url: str | None = None
    """A PostgreSQL database that is served instead of the directory."""
    blobs: str | None = None
    """The object store, to which packed transcripts are moved: a directory or an s3:// address."""
    push_interval: float = 0.0
    """Seconds that a device is asked to leave between two pushes; 0: it pushes at once."""
    trust_proxy: tuple[str, ...] = ()
    """Networks of proxies that authenticate people."""
    user_header: str = USER_HEADER
    """The header in which they name the user."""
    drain: float = 0.0
    """Seconds between SIGTERM and the end, in which a load balancer notices it."""


class Running(msgspec.Struct, frozen=True):
    """An endpoint that accepts requests."""

    url: str
    token: str
    store: Store


@contextmanager
def running(
    data_dir: str,
    token: str | None = None,
    port: int = 0,
    *,
    limits: Limits | None = None,
    quota: int | None = None,
    exclusive: bool = True,
) -> Iterator[Running]:
    """Serve on 127.0.0.1 in a thread until the context ends.

    `token` is accepted in addition to those in the store; None generates one. Port 0 chooses a free port. Without
    `exclusive`, the store's lock is not taken: for short reads that must not keep another process from serving it.

    Raises:
        AlreadyRunning: another process serves the store.
        StateError: the store or the port can't be used.
    """
    with ExitStack() as closing:
        if exclusive:
            closing.enter_context(StoreLock(str(data_dir)))
        store = SqliteStore(str(data_dir), quota=quota)
        closing.callback(store.close)
        settings = None if limits is None else Settings(limits=limits)
        yield closing.enter_context(running_store(store, token, port, settings=settings))


@contextmanager
def running_store(
    store: Store, token: str | None = None, port: int = 0, *, settings: Settings | None = None
) -> Iterator[Running]:
    """Serve a store as `running` does. The caller closes it.

    Raises:
        StateError: the port can't be used.
    """
    token = token or tokens.generate()
    with ExitStack() as closing:
        listener = closing.enter_context(_listening("127.0.0.1", port))
        url = _url("http", listener)
        closing.enter_context(in_thread(Server(build(store, secrets=(token,), settings=settings)), listener))
        # The socket is already listening: a request that arrives before the event loop runs waits for it.
        yield Running(url, token, store)


def serve(options: Options, *, listening: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT. With `until_eof`, also until stdin ends because the parent process has exited.

    `listening` is called with the URL once requests are accepted.

    Raises:
        AlreadyRunning: another process serves the store.
        StateError: the store or the address can't be used.
        ConfigError: the TLS files or the token file can't be used, or other users can read the key or the token.
    """
    if (options.tls_cert is None) != (options.tls_key is None):
        raise ConfigError("--tls-cert and --tls-key belong together", hint="give both or neither")
    for path in (options.tls_cert, options.tls_key):
        if path is not None and not os.access(path, os.R_OK):
            raise ConfigError("can't read the file", file=path, hint="check --tls-cert and --tls-key")
    if options.tls_key is not None:
        _check_private(options.tls_key, "the key")
    proxy = TrustedProxy(options.trust_proxy, options.user_header) if options.trust_proxy else None
    if proxy is None and options.user_header != USER_HEADER:
        raise ConfigError("--user-header without --trust-proxy has no effect", hint="name the proxy's address as well")
    token = token_from(options.token_file) if options.token_file else None
    with ExitStack() as closing:
        timeout = PARENT_TIMEOUT if options.until_eof else 0.0
        opening = serving_store(options.directory, options.store_url, options.quota, timeout, options.blobs)
        store = closing.enter_context(opening)
        listener = closing.enter_context(_listening(options.host, options.port))
        url = _url("https" if options.tls_cert else "http", listener)
        raise_limit()
        interval = round(options.push_interval * 1000)
        pace = Pace(push_interval_ms=interval) if interval else None
        drain = Drain(options.drain)
        settings = Settings(access_log=options.access_log, pace=pace, proxy=proxy, drain=drain)
        app = build(store, secrets=(token,) if token else (), settings=settings)
        server = Server(app, tls_cert=options.tls_cert, tls_key=options.tls_key, drain=drain)
        _end_at_signals(server)
        if options.until_eof:
            threading.Thread(target=_end_at_eof, args=(server,), name="parent", daemon=True).start()
        if options.announce:
            announce(options.announce, Announcement(url=url, endpoint_id=store.endpoint_id, pid=os.getpid()))
        if listening is not None:
            listening(url)
        store.on_lost = partial(server.end, at_once=True)
        server.run(sockets=[listener])
        if store.lost:
            # Exit without closing SQLite's connections, not even at interpreter shutdown: closing them would unlink
            # the write-ahead log by its name, which may belong to another process's new store (see Store.lost).
            sys.stderr.write(f"the store in {options.directory} was deleted or replaced: restart the endpoint\n")
            sys.stderr.flush()
            os._exit(exit_codes.FAILED)


def token_from(path: str) -> str:
    """Return the token in a file. A missing file is created with a new token and mode 0600.

    Raises:
        ConfigError: the file can't be read or created, others can read it, or its token is too short.
    """
    try:
        atomic_write(path, f"{tokens.generate()}\n".encode(), exclusive=True)
    except FileExistsError:
        pass
    except OSError as error:
        raise ConfigError(f"can't create it: {error.strerror}", file=path, hint="check --token-file") from error
    _check_private(path, "the token")
    try:
        with open(path) as file:
            token = file.read(1024).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"can't read it: {getattr(error, 'strerror', None) or error}", file=path, hint="check --token-file"
        ) from error
    if len(token) < 16:
        raise ConfigError(
            "it has no token of 16 characters or more", file=path, hint="remove the file; a new one is created"
        )
    return token


def _check_private(path: str, what: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise ConfigError(f"can't read it: {error.strerror}", file=path) from error
    if mode & 0o077:
        raise ConfigError(
            f"other users may read {what} (mode {stat.S_IMODE(mode):04o})", file=path, hint=f"run: chmod 600 {path}"
        )


def announce(to: str, announcement: Announcement) -> None:
    """Write where the endpoint listens as one JSON line, to a descriptor or, by an atomic rename, to a file.

    Raises:
        StateError: it can't be written.
    """
    line = msgspec.json.encode(announcement) + b"\n"
    try:
        if to == "-" or to.isdigit():
            descriptor = 1 if to == "-" else int(to)
            os.write(descriptor, line)
            if descriptor > 2:
                os.close(descriptor)  # a parent that reads to the end of the pipe gets the line now
            return
        atomic_write(to, line)
    except OSError as error:
        raise StateError(f"can't announce to {to}: {error.strerror}", hint="check --announce") from error


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        family, kind, _, _, address = found
        # The protocol is given: asyncio turns off Nagle's algorithm, which costs 40 ms an answer, only if it is TCP.
        listener = socket.socket(family, kind, socket.IPPROTO_TCP)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StateError(f"can't listen on {host}:{port}: {reason}", hint="choose another --host or --port") from error
    with listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(512)
        except OSError as error:
            hint = "choose another --host or --port"
            raise StateError(f"can't listen on {host}:{port}: {error.strerror}", hint=hint) from error
        yield listener


def _url(scheme: str, listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _end_at_signals(server: Server) -> None:
    # uvicorn shuts down at these signals and then raises them again for the handler that was set before. That is this
    # one, so the process ends with exit code 0 and a closed store. It also handles signals before uvicorn runs.
    def end(number: int, frame: FrameType | None) -> None:
        server.end()

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, end)


def _end_at_eof(server: Server) -> None:
    # The parent holds the other end of the pipe and writes nothing. However it dies, the kernel closes the pipe.
    with suppress(OSError):  # stdin is closed: there is no parent to wait for
        while os.read(0, 4096):
            pass
    server.end(at_once=True)
