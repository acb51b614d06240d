"""Objects in an S3-compatible object store. Credentials and the address come from the AWS_* environment variables.

Only the calls that every such store has are used: PUT, GET with a range, DELETE, and LIST for the sweep.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import S3Store

from sessiond.clock import now_ms
from sessiond.endpoint.server.blobs import BlobMissing, BlobsUnavailable, Listed
from sessiond.errors import StateError

TIMEOUT = timedelta(seconds=20)
CONNECT_TIMEOUT = timedelta(seconds=5)
RETRY_TIMEOUT = timedelta(seconds=10)
RETRIES = 1
"""A read is answered 503 after that, and the packer tries again later."""
PAUSE = 5.0
"""Seconds after a read that failed until the next one tries. Until then, all fail at once and keep no thread."""
SHOWN = 200
"""Characters of an error's text that are shown."""


class S3Blobs:
    """The objects of an endpoint below a prefix of a bucket."""

    def __init__(self, bucket: str, prefix: str, endpoint: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._next_try: float | None = None
        """When the next read may try, after one that failed; infinite while one tries."""
        address = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        self._store = S3Store(
            bucket,
            prefix="/".join(part for part in (prefix.strip("/"), endpoint) if part),
            client_options={
                "timeout": TIMEOUT,
                "connect_timeout": CONNECT_TIMEOUT,
                # The operator chose the address: TLS is refused only to one that has none.
                "allow_http": address.startswith("http://"),
            },
            retry_config={"max_retries": RETRIES, "retry_timeout": RETRY_TIMEOUT},
        )

    def put(self, name: str, data: bytes) -> None:
        """Write a new object; see `Blobs.put`."""
        with _translated():
            obstore.put(self._store, name, data, use_multipart=False)

    def get(self, name: str, start: int, end: int) -> bytes:
        """Return a part of an object; see `Blobs.get`."""
        with self._guarded(), _translated(name):
            data = bytes(obstore.get_range(self._store, name, start=start, end=end))
        if len(data) != end - start:
            raise _short(name)
        return data

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Allow one read at a time to try while the object store does not answer."""
        with self._lock:
            if self._next_try is not None:
                if self._clock() < self._next_try:
                    raise BlobsUnavailable("the object store did not answer a moment ago")
                self._next_try = math.inf
        next_try = None
        try:
            yield
        except BlobsUnavailable:
            next_try = self._clock() + PAUSE
            raise
        finally:
            with self._lock:
                self._next_try = next_try

    def delete(self, names: Sequence[str]) -> None:
        """Delete objects; see `Blobs.delete`."""
        for name in names:
            with suppress(BlobMissing), _translated(name):  # some stores answer 404
                obstore.delete(self._store, name)

    def list(self) -> Iterator[Listed]:
        """Iterate over all objects; see `Blobs.list`."""
        with _translated():
            for page in obstore.list(self._store):
                now = now_ms() / 1000
                for each in page:
                    yield Listed(each["path"], now - each["last_modified"].timestamp())


@contextmanager
def _translated(name: str | None = None) -> Iterator[None]:
    """Translate the library's errors. `name`: an object that may be missing."""
    try:
        yield
    except (NotFoundError, FileNotFoundError) as error:
        # A missing bucket is also "not found". That must not look like a lost object.
        if name is None or "NoSuchBucket" in str(error):
            raise _unavailable(error) from error
        raise BlobMissing(f"the object {name} is missing", hint="restore it from a backup") from error
    except (BaseError, OSError) as error:
        if name is not None and "status code: 416" in str(error):  # the range begins behind the end
            raise _short(name) from error
        raise _unavailable(error) from error


def _short(name: str) -> StateError:
    return StateError(f"the object {name} is too short", hint="restore it from a backup")


def _unavailable(error: Exception) -> BlobsUnavailable:
    text = str(error).partition("\n")[0][:SHOWN]
    return BlobsUnavailable(f"the object store failed: {text}", hint="check --blobs and the AWS_* variables")
