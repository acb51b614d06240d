"""Stores of each kind for the tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from object_store import new_prefix
from postgres import new_database

from sessiond.endpoint.server import offloader
from sessiond.endpoint.server.opening import open_blobs, open_url
from sessiond.endpoint.server.packer import pack
from sessiond.endpoint.server.sqlite_store import SqliteStore
from sessiond.endpoint.server.store import Store
from support.empty_store import put_store

KINDS = ["sqlite", "sqlite+files", "postgresql+files", "postgresql+s3"]
"""The database, and where objects are stored."""


@contextmanager
def new_store(kind: str, directory: Path) -> Iterator[Store]:
    """Return a context with an empty store; files are below `directory`."""
    database, _, where = kind.partition("+")
    with ExitStack() as closing:
        if database == "sqlite":
            put_store(str(directory))
            store: Store = SqliteStore(str(directory))
        else:
            store = open_url(closing.enter_context(new_database()))
        closing.callback(store.close)
        if where:
            place = str(directory / "objects") if where == "files" else closing.enter_context(new_prefix())
            store.blobs = open_blobs(place, store.endpoint_id)
        yield store


def move_all(store: Store) -> None:
    """Pack, and move all bytes to objects. `offloader.SMALLEST` must be 1 for that."""
    while pack(store, 1):
        pass
    while offloader.offload(store, 1):
        pass
