"""Opens the store that `sessiond serve` is asked for: a directory or a PostgreSQL database, and an object store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from uuid import UUID

from sessiond.endpoint.server import objects
from sessiond.endpoint.server.blobs import BlobMissing, Blobs, BlobsUnavailable, FileBlobs
from sessiond.endpoint.server.lock import StoreLock
from sessiond.endpoint.server.sqlite_store import SqliteStore
from sessiond.endpoint.server.store import Store
from sessiond.errors import ConfigError
from sessiond.logs import log

SCHEMES = ("postgresql://", "postgres://")
S3 = "s3://"
_SAME = "give the --blobs that it was used with"


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


def open_blobs(where: str, endpoint: UUID) -> Blobs:
    """Open the object store that `where` names: a directory, or `s3://BUCKET` with an optional prefix.

    Raises:
        ConfigError: it names none, or its package is not installed.
        StateError: the directory can't be created.
    """
    if not where.startswith(S3):
        if "://" in where:
            raise ConfigError("--blobs is neither a directory nor s3://BUCKET/PREFIX")
        return FileBlobs(where, str(endpoint))
    bucket, _, prefix = where.removeprefix(S3).partition("/")
    if not bucket:
        raise ConfigError("--blobs names no bucket", hint="such as s3://bucket/sessiond")
    try:
        from sessiond.endpoint.server.s3_blobs import S3Blobs
    except ImportError as error:
        raise ConfigError(
            "the package for object stores is not installed", hint="in the checkout: uv tool install '.[server]'"
        ) from error
    return S3Blobs(bucket, prefix, str(endpoint))


def check_blobs(store: Store) -> None:
    """Check that the object store has the objects that the tables name.

    An object store that does not answer passes: pushes don't need it.

    Raises:
        ConfigError: it is another one, or none is given.
    """
    with store.read() as db:
        found = objects.newest(db)
    if found is None:
        return
    if store.blobs is None:
        raise ConfigError(
            "transcripts of this store are in an object store", hint="give the --blobs that it was used with"
        )
    name, size = found
    try:
        store.blobs.get(name, size - 1, size)
    except BlobMissing as error:
        raise ConfigError(
            "the object store does not have the transcripts of this store",
            hint=f"{_SAME}, or restore the objects from a backup",
        ) from error
    except BlobsUnavailable as error:
        log.warning("upkeep.failed", reason=str(error))


@contextmanager
def serving_store(
    directory: str, url: str | None, quota: int | None, timeout: float, blobs: str | None = None
) -> Iterator[Store]:
    """Return a context with the store to serve. `timeout` is that of the lock of a directory, in seconds.

    Raises:
        AlreadyRunning: another process serves the directory.
        ConfigError, StateError: see `open_url`, `open_blobs` and `check_blobs`; or a quota is given for a database.
    """
    if url is not None and quota is not None:
        raise ConfigError("--max-bytes limits a store in a directory", hint="limit the disk of the database instead")
    with ExitStack() as closing:
        if url is None:
            closing.enter_context(StoreLock(directory, timeout=timeout))
            store: Store = SqliteStore(directory, quota=quota)
        else:
            store = open_url(url)
        closing.callback(store.close)
        if blobs is not None:
            store.blobs = open_blobs(blobs, store.endpoint_id)
        check_blobs(store)
        yield store
