"""The pushes that `decide` takes, and its decisions."""

from __future__ import annotations

from uuid import UUID

import msgspec

from sessiond.endpoint.server.push_lines import PushLine
from sessiond.endpoint.server.state import StreamState
from sessiond.endpoint.server.tokens import Access
from sessiond.endpoint.wire import Result


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
    """The first `length` bytes of a generation, and their digest if it is known."""

    stream: StreamState
    generation: int
    length: int
    sha256: str | None


class Decision(msgspec.Struct, frozen=True):
    """The results of a push in order. Those in `pending` still need the digest of a position."""

    results: list[Result]
    pending: dict[int, Position]
    previous: str | None = None
    """The id of the device's push before this one; None: there is none, or the push has no id."""
    uncompared: tuple[int, ...] = ()
    """The lines that could not be compared in the transaction. They are answered `push-full`."""
