"""The dictionaries of the devices that push: in memory only, for losing one costs a client a second request."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from hashlib import sha256
from uuid import UUID

from sessiond import zstd
from sessiond.endpoint import dictionary
from sessiond.endpoint.server.problems import HttpError

CAPACITY = 512
"""Devices, those that pushed last; 8 MiB of dictionaries at most."""
Pusher = tuple[str, UUID]
"""A user and a device: a device id that another user sends means another dictionary."""


class Dictionaries:
    """What each device pushed last. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[Pusher, tuple[bytes, bytes]] = OrderedDict()

    def split(self, sent: bytes, pusher: Pusher) -> tuple[bytes, bytes]:
        """Split a body that is encoded as `dcz`: the dictionary that it means, and the frames.

        Raises:
            HttpError: 400 for what is not so encoded, 415 for another dictionary than the one of this device.
        """
        try:
            digest, frames = dictionary.unpack(sent)
        except zstd.Undecodable as error:
            raise HttpError(400, "malformed", f"the body is not {dictionary.ENCODING}: {error}") from error
        with self._lock:
            known, found = self._known.get(pusher, (None, b""))
        if known != digest:
            raise HttpError(415, "unknown-dictionary", "this is not what the device pushed last; send it without")
        return found, frames

    def keep(self, pusher: Pusher, grown: bytes) -> None:
        """Keep a device's dictionary instead of the one before; b"" for none."""
        digest = sha256(grown).digest()
        with self._lock:
            self._known.pop(pusher, None)
            if grown:
                self._known[pusher] = digest, grown
            while len(self._known) > CAPACITY:
                self._known.popitem(last=False)


def noting(parts: Iterable[bytes], head: bytearray) -> Iterator[bytes]:
    """Pass the parts of a body on, and note the head of it."""
    for part in parts:
        head += part[: dictionary.HEAD - len(head)]
        yield part
