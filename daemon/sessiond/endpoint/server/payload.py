"""The bytes of an append, decoded and verified."""

from __future__ import annotations

import base64
import binascii
import hashlib

from sessiond import zstd
from sessiond.endpoint.server.results import ItemError
from sessiond.endpoint.wire import PushAppend


class AppendPayload:
    """The bytes of a segment. Their length and digest match those of the line."""

    __slots__ = ("_frame", "_plain", "length")

    def __init__(self, plain: bytes, frame: bytes | None = None) -> None:
        self.length = len(plain)
        self._plain = plain
        self._frame = frame

    def plain(self) -> bytes:
        """Return the decoded bytes."""
        return self._plain

    def sha256(self) -> hashlib._Hash:
        """Return the hash of the decoded bytes. Where the line carries a frame, it is not the digest in the line."""
        return hashlib.sha256(self._plain)

    def wire_size(self) -> int:
        """Return the number of bytes as sent, before Base64."""
        return self.length if self._frame is None else len(self._frame)

    def frame(self) -> bytes:
        """Return the bytes as a zstd frame: the sender's frame, unless it is longer than the bytes."""
        if self._frame is None or len(self._frame) > self.length:
            self._frame = zstd.compress(self._plain)
        return self._frame


def unpack(item: PushAppend, limit: int) -> AppendPayload:
    """Return the decoded and verified bytes of an append; `limit` bounds a segment in bytes.

    Raises:
        ItemError: the segment is empty, over the limit, or does not match its length and digest.
    """
    if item.length == 0:
        raise ItemError("invalid", "the append has no bytes")
    if item.length > limit:
        raise ItemError("too-large", f"a segment may have {limit} bytes")
    if item.encoding == "text":
        payload = AppendPayload(item.data.encode())
        digest = payload.sha256().hexdigest()
    else:
        try:
            frame = base64.b64decode(item.data, validate=True)
            payload = AppendPayload(zstd.decompress(frame, item.length), frame)
        except (binascii.Error, ValueError, zstd.Undecodable) as error:
            raise ItemError("invalid", f"data: {error}") from error
        digest = hashlib.sha256(frame).hexdigest()
    if payload.length != item.length:
        raise ItemError("invalid", f"length is {item.length}, the data has {payload.length} bytes")
    if digest != item.sha256:
        raise ItemError("invalid", "sha256 is not that of the data")
    return payload
