"""The digest of a stream, which can be continued from a small state (docs/protocol.md).

    chain = 32 zero bytes; for each whole block of 1,024 bytes: chain = SHA-256(chain, block)
    digest = SHA-256(chain, the bytes behind the last whole block)

It depends on the bytes alone, and not on how they were appended.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from sessiond.endpoint.wire import RemotePosition

FEATURE = "after"
"""The feature of an endpoint that returns stream digests."""
BLOCK = 1024
"""Bytes of a block."""
START = bytes(32)
"""The chain of a stream without a whole block."""
EMPTY = sha256(START).hexdigest()
"""The digest of a stream without bytes."""


class StreamDigest:
    """The digest of the first `length` bytes of a stream. Its state is `chain` and `rest`, at most 1,055 bytes."""

    __slots__ = ("chain", "length", "rest")

    def __init__(self, length: int = 0, chain: bytes = START, rest: bytes = b"") -> None:
        """Continue from a state; `rest` has the bytes behind the last whole block."""
        self.length, self.chain, self.rest = length, chain, rest

    def update(self, data: bytes) -> None:
        """Append bytes."""
        self.length += len(data)
        joined = self.rest + data if self.rest else data
        view, chain = memoryview(joined), self.chain
        whole = len(joined) - len(joined) % BLOCK
        for at in range(0, whole, BLOCK):
            step = sha256(chain)
            step.update(view[at : at + BLOCK])
            chain = step.digest()
        self.chain, self.rest = chain, bytes(view[whole:])

    def hexdigest(self) -> str:
        """Return the digest of all bytes so far, in hex."""
        return sha256(self.chain + self.rest).hexdigest()

    def copy(self) -> StreamDigest:
        """Return a digest that can be continued separately."""
        return StreamDigest(self.length, self.chain, self.rest)


def known_digest(remote: RemotePosition) -> str | None:
    """Return the digest that an endpoint sent: a stream digest, or the SHA-256 of one that knows none."""
    return remote.sha256 if remote.after is None else remote.after


def digest_like(remote: RemotePosition, parts: Iterable[bytes]) -> str:
    """Return the digest of bytes, of the same kind as `known_digest`."""
    running = sha256() if remote.after is None else StreamDigest()
    for part in parts:
        running.update(part)
    return running.hexdigest()
