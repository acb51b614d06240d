"""A store of an endpoint without sessions, made once: creating its tables takes longer than many tests."""

from __future__ import annotations

import os
import tempfile
import uuid
from functools import cache

from sessiond.endpoint.server.sqlite_schema import FILE
from sessiond.endpoint.server.sqlite_store import SqliteStore


@cache
def _content() -> tuple[bytes, bytes]:
    """Return the file of a store that was opened and closed, and the id in it. Nothing else differs between stores."""
    with tempfile.TemporaryDirectory() as directory:
        store = SqliteStore(directory)
        store.close()
        with open(os.path.join(directory, FILE), "rb") as file:
            return file.read(), str(store.endpoint_id).encode()


def put_store(directory: str) -> None:
    """Make the store of a directory that has none, with an id of its own and the rights that the endpoint gives it."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    try:
        descriptor = os.open(os.path.join(directory, FILE), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    content, endpoint_id = _content()
    with open(descriptor, "wb") as file:
        file.write(content.replace(endpoint_id, str(uuid.uuid4()).encode()))
