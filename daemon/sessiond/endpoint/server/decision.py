"""The pushes that `decide` takes, and its decisions."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

import msgspec

from sessiond.endpoint.server.push_lines import PushLine
from sessiond.endpoint.server.stream_state import StreamState
from sessiond.endpoint.server.tokens import Access
from sessiond.endpoint.wire import Result


class Budget(Protocol):
    """The work that a batch may cost. The first line of the first push is always decided, so that there is progress."""

    def begin_push(self) -> bool:
        """Return whether another push may begin."""

    def begin_line(self) -> bool:
        """Return whether another line of this push may be decided."""


class Sender(msgspec.Struct, frozen=True, kw_only=True):
    """The sender of a push: the access that its token gives, the device, and the id of the push."""

    access: Access
    device: UUID
    batch: str = ""


class DecodedPush(msgspec.Struct, frozen=True):
    """A push with its lines, or the results of those that are not valid."""

    sender: Sender
    lines: list[PushLine | Result]


class Position(msgspec.Struct, frozen=True):
    """The first `length` bytes of a generation, and their digest if it is known.

    `follows_sha256`: that is the SHA-256. Otherwise it is the stream digest.
    """

    stream: StreamState
    generation: int
    length: int
    digest: str | None
    follows_sha256: bool


class Decision(msgspec.Struct, frozen=True):
    """The results of a push in order. Those in `pending` still need the digest of a position."""

    results: list[Result]
    pending: dict[int, Position]
    previous: str | None = None
    """The id of the device's push before this one; None: there is none, or the push has no id."""
    uncompared: tuple[int, ...] = ()
    """The lines that could not be compared in the transaction. They are answered `push-full`."""
