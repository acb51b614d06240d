"""The compression dictionaries of the devices that push.

They are kept in memory only: a device whose dictionary is lost repeats one request without it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from hashlib import sha256
from uuid import UUID

from sessiond import zstd
from sessiond.endpoint import dictionary
from sessiond.endpoint.server.problems import HttpError

CAPACITY = 4096
"""Devices, the ones that pushed last. Their dictionaries take up to 64 MiB."""
Pusher = tuple[str, UUID]
"""A user and a device. The same device id sent by another user has a dictionary of its own."""


class Dictionaries:
    """The dictionary of each device. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[Pusher, tuple[bytes, bytes]] = OrderedDict()

    def split(self, sent: bytes, pusher: Pusher) -> tuple[bytes, bytes]:
        """Split a body with the encoding `dcz` into the dictionary that it refers to and the zstd frames.

        Raises:
            HttpError: 400, the body has another encoding; 415, it refers to another dictionary than the device's.
        """
        try:
            digest, frames = dictionary.unpack(sent)
        except zstd.Undecodable as error:
            raise HttpError(400, "malformed", f"the body is not {dictionary.ENCODING}: {error}") from error
        with self._lock:
            known, found = self._known.get(pusher, (None, b""))
        if known != digest:
            raise HttpError(
                415, "unknown-dictionary", "this dictionary is not the device's current one; send the push without"
            )
        return found, frames

    def keep(self, pusher: Pusher, new: bytes) -> None:
        """Replace a device's dictionary; b"" removes it."""
        digest = sha256(new).digest()
        with self._lock:
            self._known.pop(pusher, None)
            if new:
                self._known[pusher] = digest, new
            while len(self._known) > CAPACITY:
                self._known.popitem(last=False)

    def clear(self, user: str) -> None:
        """Remove the dictionaries of a user's devices."""
        with self._lock:
            for pusher in [pusher for pusher in self._known if pusher[0] == user]:
                del self._known[pusher]


def copy_head(parts: Iterable[bytes], head: bytearray) -> Iterator[bytes]:
    """Iterate over the parts of a body, and copy its first bytes into `head`."""
    for part in parts:
        head += part[: dictionary.HEAD - len(head)]
        yield part
