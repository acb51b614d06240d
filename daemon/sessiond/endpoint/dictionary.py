"""Compression of pushes with a dictionary of the previous pushes (docs/protocol.md, feature `dictionary`).

A line of a live session repeats most of the previous one: the record, the names, and the paths and keys of the tool.
Both sides keep the first bytes of the last pushes in memory, and a push names its dictionary by a SHA-256. If the two
sides differ, or one has no dictionary, the body is sent in the usual encoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from sessiond import zstd

FEATURE = "dictionary"
ENCODING = "dcz"
"""The content encoding, Dictionary-Compressed Zstandard of RFC 9842."""
HEAD = 8 << 10
"""Bytes of each push that are added to the dictionary. A long line must not displace everything else in it."""
SIZE = 16 << 10
"""Bytes of a dictionary. Twice the size saves 2 % of a body and takes twice the time to load for each push."""
MIN_SIZE = 64
"""Bytes of the smallest dictionary; a smaller one is not used."""
MAX_MISSES = 3
"""Failed pushes in a row with a dictionary. After that, none is used until the next request for `/v1`."""
_MAGIC = bytes.fromhex("5e2a4d1820000000")
_OVERHEAD = len(_MAGIC) + 32


def extended(dictionary: bytes, head: bytes) -> bytes:
    """Return the next dictionary: the one of a push (none: b"") and the first HEAD bytes of the push's body."""
    added = (dictionary + head[:HEAD])[-SIZE:]
    return added if len(added) >= MIN_SIZE else b""


def pack(body: bytes, dictionary: bytes, level: int) -> bytes:
    """Return a body encoded as `dcz`."""
    return _MAGIC + sha256(dictionary).digest() + zstd.compress(body, level, dictionary)


def unpack(sent: bytes) -> tuple[bytes, bytes]:
    """Split a body encoded as `dcz` into the SHA-256 of its dictionary and the Zstandard frames.

    Raises: zstd.Undecodable, the body has another encoding.
    """
    if len(sent) < _OVERHEAD or not sent.startswith(_MAGIC):
        raise zstd.Undecodable("not a dictionary-compressed Zstandard body")
    return sent[len(_MAGIC) : _OVERHEAD], sent[_OVERHEAD:]


class PushDictionary:
    """The client's dictionary. It is kept only while the endpoint is known to have the same."""

    def __init__(self) -> None:
        self._offered = False
        self._dictionary = b""
        self._misses = 0

    def offer(self, features: Sequence[str]) -> None:
        """Enable the dictionary if the endpoint's `features` include it."""
        self._offered, self._misses = FEATURE in features, 0

    def take(self) -> bytes:
        """Remove and return the dictionary for a push; b"" for none.

        It stays removed until the push is answered: if the answer is lost, the endpoint may or may not have stored the
        push, so its dictionary is not known.
        """
        taken, self._dictionary = self._dictionary, b""
        if not taken or not self._offered or self._misses >= MAX_MISSES:
            return b""
        self._misses += 1
        return taken

    def keep(self, taken: bytes, body: bytes) -> None:
        """Set the dictionary after the answer to a push that was encoded with `taken` (b"": without one)."""
        self._dictionary = extended(taken, body)
        if taken:
            self._misses = 0
