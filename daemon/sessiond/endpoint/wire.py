"""The words of sync protocol v1, shared by the client and the reference endpoint (docs/protocol.md)."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

import msgspec

from sessiond.session import Session

PROTOCOL = 1
SERVICE = "sessiond"
"""What `GET /v1` calls itself; anything else at that address is not an endpoint."""
BATCH_HEADER = "Sessiond-Batch"
"""Request header of a push, a random id; the answer repeats it in `batch`. A captive portal does not."""
MAX_NAME = 200
"""Characters of a machine id and of a stream name."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What an endpoint takes at once: bytes of a body as sent and decoded, lines of a push, bytes of a segment."""

    body: int = 8 << 20
    decoded: int = 32 << 20
    items: int = 1000
    segment: int = 4 << 20


class About(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `GET /v1`."""

    service: str
    protocol: int
    endpoint_id: UUID
    """Made at the endpoint's first start: another one means another store, whatever the address."""
    version: str
    limits: Limits
    encodings: list[str]
    features: list[str] = []


class StreamLength(msgspec.Struct, frozen=True, kw_only=True):
    """How long a stream is at the source: what the endpoint has when all is pushed."""

    name: str
    generation: int
    length: int


class PushSession(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="session"):
    """Upsert a record: a higher revision wins, an equal one is a duplicate, a lower one is answered `stale`."""

    record: Session
    revision: int
    device_id: UUID
    parent: UUID | None = None
    title: str | None = None
    gone_at: int | None = None
    """Unix milliseconds when the tool's file was first seen missing."""
    streams: list[StreamLength] = []


class PushAppend(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="append"):
    """Append bytes to a stream if it is exactly `offset` long (compare and set)."""

    machine_id: str
    session: UUID
    stream: str
    generation: int
    offset: int
    length: int
    """Bytes of the decoded data."""
    sha256: str
    """Of the decoded data, in hex."""
    data: str
    encoding: Literal["text", "zstd"] = "text"
    """`text`: the bytes as UTF-8. `zstd`: Base64 of a zstd frame of them."""


class PushGeneration(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="generation"):
    """Start a new generation of a stream, whose first `keep` bytes are those of `previous`.

    Generation 0 needs no start: an append at offset 0 makes it. `previous` may be None with `keep` 0.
    """

    machine_id: str
    session: UUID
    stream: str
    generation: int
    previous: int | None
    keep: int


Push = PushSession | PushAppend | PushGeneration


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why an item was not stored (RFC 9457), with what the client needs to go on.

    `type` is one of PROBLEMS. For `offset-mismatch`: the current `generation` and `offset` of the stream
    and the `sha256` of what is held of it, so that the client can rewind or skip without another call.
    """

    type: str
    title: str
    detail: str | None = None
    generation: int | None = None
    offset: int | None = None
    sha256: str | None = None
    revision: int | None = None
    """For `stale`: the revision that is stored."""


PROBLEMS = {
    "offset-mismatch": "the stream has another length",
    "no-generation": "the generation is not known here",
    "stale": "a higher revision is stored",
    "too-large": "the item is larger than the limits allow",
    "invalid": "the item is not valid",
    "quota": "there is no room for the item",
    "machine-taken": "another device brought this machine id first",
}


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one line of a push."""

    status: Literal["stored", "duplicate", "problem"]
    problem: Problem | None = None


class PushAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a push: a result for each line, in order, under the id of the request."""

    batch: str
    results: list[Result]


class StreamKey(msgspec.Struct, frozen=True, kw_only=True):
    """A stream's name at the endpoint."""

    session: UUID
    stream: str


class OffsetsQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /v1/offsets`."""

    machine_id: str
    streams: list[StreamKey]


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What the endpoint holds of a stream; `generation` None: nothing."""

    session: UUID
    stream: str
    generation: int | None
    length: int
    sha256: str | None


class OffsetsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `POST /v1/offsets`, in the order of the question."""

    streams: list[Held]
