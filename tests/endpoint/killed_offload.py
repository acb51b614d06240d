"""A process that moves chunks to objects and is killed on the way: killed_offload.py STORE BLOBS before|after.

`before` and `after` are the moments around the writing of the object.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence

from sessiond.endpoint.server import offloader
from sessiond.endpoint.server.blobs import Blobs, Listed
from sessiond.endpoint.server.opening import open_blobs, open_url
from sessiond.endpoint.server.sqlite_store import SqliteStore
from sessiond.endpoint.server.store import Store


class KilledBlobs:
    """Kills the process before or after it has written an object."""

    def __init__(self, inner: Blobs, moment: str) -> None:
        self._inner, self._moment = inner, moment

    def put(self, name: str, data: bytes) -> None:
        if self._moment == "after":
            self._inner.put(name, data)
        os.kill(os.getpid(), signal.SIGKILL)

    def get(self, name: str, start: int, end: int) -> bytes:
        return self._inner.get(name, start, end)

    def delete(self, names: Sequence[str]) -> None:
        self._inner.delete(names)

    def list(self) -> Iterator[Listed]:
        return self._inner.list()


def main(where: str, blobs: str, moment: str) -> None:
    store: Store = open_url(where) if "://" in where else SqliteStore(where)
    store.blobs = KilledBlobs(open_blobs(blobs, store.endpoint_id), moment)
    offloader.SMALLEST = 1
    offloader.offload(store, 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
