"""Opens the store that `sessiond serve` is asked for: a directory, or a PostgreSQL database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sessiond.endpoint.server.lock import StoreLock
from sessiond.endpoint.server.sqlite_store import SqliteStore
from sessiond.endpoint.server.store import Store
from sessiond.errors import ConfigError

SCHEMES = ("postgresql://", "postgres://")


def check_url(url: str) -> None:
    """Raise ConfigError unless a URL names a PostgreSQL database, and its packages are installed."""
    if not url.startswith(SCHEMES):
        raise ConfigError(
            "--store is not the address of a PostgreSQL database", hint="such as postgresql://user@host/sessiond"
        )
    try:
        import psycopg  # noqa: F401
        import psycopg_pool  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "the packages for PostgreSQL are not installed", hint="in the checkout: uv tool install '.[server]'"
        ) from error


def open_url(url: str) -> Store:
    """Open the store in a PostgreSQL database.

    Raises:
        ConfigError: the URL names none, or its packages are not installed.
        StateError: it can't be reached, or its tables are not of this version.
    """
    check_url(url)
    from sessiond.endpoint.server.postgres_store import PostgresStore

    return PostgresStore(url)


@contextmanager
def serving_store(directory: str, url: str | None, quota: int | None, timeout: float) -> Iterator[Store]:
    """Return a context with the store to serve. `timeout` is that of the lock of a directory, in seconds.

    Raises:
        AlreadyRunning: another process serves the directory.
        ConfigError, StateError: see `open_url`; or a quota is given for a database.
    """
    if url is None:
        with StoreLock(directory, timeout=timeout):
            store: Store = SqliteStore(directory, quota=quota)
            try:
                yield store
            finally:
                store.close()
        return
    if quota is not None:
        raise ConfigError("--max-bytes limits a store in a directory", hint="limit the disk of the database instead")
    store = open_url(url)
    try:
        yield store
    finally:
        store.close()
