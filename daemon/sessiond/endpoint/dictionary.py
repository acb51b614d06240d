"""What a device pushed last, as the dictionary of what it pushes next (docs/protocol.md, feature `dictionary`).

A live line repeats most of the one before it: the record, the names around it, the paths and keys of the tool.
Both sides keep the heads of the last pushes in memory, and a push says with a SHA-256 which dictionary it means.
Nothing else depends on it: without one, or with two that differ, a body travels as it always did.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from sessiond import zstd

FEATURE = "dictionary"
ENCODING = "dcz"
"""The content encoding, Dictionary-Compressed Zstandard of RFC 9842."""
HEAD = 8 << 10
"""Bytes of each push that enter the dictionary: a long line must not drive everything else out of it."""
SIZE = 16 << 10
"""Bytes of a dictionary. Twice as many gain 2 % of a body, and cost as much again to load for each push."""
LEAST = 64
"""A shorter one is none."""
MISSES = 3
"""Pushes with a dictionary in a row that were not answered; then it is left until the endpoint is asked what it is."""
_MAGIC = bytes.fromhex("5e2a4d1820000000")
_OVERHEAD = len(_MAGIC) + 32


def grown(dictionary: bytes, head: bytes) -> bytes:
    """Make the next dictionary from the one of a push (none: b"") and the first HEAD bytes of what was pushed."""
    added = (dictionary + head[:HEAD])[-SIZE:]
    return added if len(added) >= LEAST else b""


def pack(body: bytes, dictionary: bytes, level: int) -> bytes:
    """Encode a body as `dcz`."""
    return _MAGIC + sha256(dictionary).digest() + zstd.compress(body, level, dictionary)


def unpack(sent: bytes) -> tuple[bytes, bytes]:
    """Split a body that is encoded as `dcz`: the SHA-256 of its dictionary, and the Zstandard frames.

    Raises: zstd.Undecodable where it is not so encoded.
    """
    if len(sent) < _OVERHEAD or not sent.startswith(_MAGIC):
        raise zstd.Undecodable("not a dictionary-compressed Zstandard body")
    return sent[len(_MAGIC) : _OVERHEAD], sent[_OVERHEAD:]


class PushDictionary:
    """The client's side: the dictionary, as long as it is sure that the endpoint has the same."""

    def __init__(self) -> None:
        self._offered = False
        self._dictionary = b""
        self._misses = 0

    def offer(self, features: Sequence[str]) -> None:
        """Hear what the endpoint is able to do."""
        self._offered, self._misses = FEATURE in features, 0

    def take(self) -> bytes:
        """Take the dictionary for a push, b"" for none.

        It is gone until that push is answered: if the answer is lost, what the endpoint has is not known.
        """
        taken, self._dictionary = self._dictionary, b""
        if not taken or not self._offered or self._misses >= MISSES:
            return b""
        self._misses += 1
        return taken

    def keep(self, taken: bytes, body: bytes) -> None:
        """Note that a push was answered which was encoded with the dictionary that was taken."""
        self._dictionary = grown(taken, body)
        if taken:
            self._misses = 0
