"""The bytes that an append carries, decoded and verified."""

from __future__ import annotations

import base64
import binascii
import hashlib

from sessiond import zstd
from sessiond.endpoint.server.results import ItemError
from sessiond.endpoint.wire import PushAppend


class AppendPayload:
    """Bytes of a segment whose length and digest are as the line says."""

    __slots__ = ("_frame", "_plain", "length", "sha256")

    def __init__(self, plain: bytes, frame: bytes | None = None) -> None:
        self.length = len(plain)
        self.sha256 = hashlib.sha256(plain)
        """Of the bytes themselves, which is not what the line carries if that is a frame."""
        self._plain = plain
        self._frame = frame

    def plain(self) -> bytes:
        """Return the bytes themselves."""
        return self._plain

    def carried(self) -> int:
        """Return how many bytes came over the wire."""
        return self.length if self._frame is None else len(self._frame)

    def frame(self) -> bytes:
        """Return the bytes as a zstd frame: the sender's, unless that is longer than the bytes are."""
        if self._frame is None or len(self._frame) > self.length:
            self._frame = zstd.compress(self._plain)
        return self._frame


def unpack(item: PushAppend, limit: int) -> AppendPayload:
    """Decode and verify what an append carries; `limit` is the length of the longest segment in bytes.

    Raises:
        ItemError: it is empty, over the limit, or not what its length and digest say.
    """
    if item.length == 0:
        raise ItemError("invalid", "an append without bytes")
    if item.length > limit:
        raise ItemError("too-large", f"a segment may have {limit} bytes")
    if item.encoding == "text":
        appended = AppendPayload(item.data.encode())
        carried = appended.sha256.hexdigest()
    else:
        try:
            frame = base64.b64decode(item.data, validate=True)
            appended = AppendPayload(zstd.decompress(frame, item.length), frame)
        except (binascii.Error, ValueError, zstd.Undecodable) as error:
            raise ItemError("invalid", f"data: {error}") from error
        carried = hashlib.sha256(frame).hexdigest()
    if appended.length != item.length:
        raise ItemError("invalid", f"length is {item.length}, the data has {appended.length} bytes")
    if carried != item.sha256:
        raise ItemError("invalid", "sha256 is not that of the data")
    return appended
