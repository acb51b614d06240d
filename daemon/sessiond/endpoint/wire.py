"""The words of sync protocol v1, shared by the client and the reference endpoint (docs/protocol.md)."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

import msgspec

from sessiond.session import Session

PROTOCOL = 1
SERVICE = "sessiond"
"""What `GET /v1` calls itself; anything else at that address is not an endpoint."""
BATCH_HEADER = "Sessiond-Batch"
"""Request header of a push, a random id; the answer repeats it in `batch`. A captive portal does not."""
DEVICE_HEADER = "Sessiond-Device"
"""Request header with the device id: required for a push. A token pushes as one device only."""
GENERATION_HEADER = "Sessiond-Generation"
"""Answer header of a stream's bytes: the generation that they are of."""
MAX_NAME = 200
"""Characters of a machine id and of a stream name."""
MAX_RECORD = 1 << 20
"""Bytes of a `session` line."""

MAX_NUMBER = 2**53 - 1
"""The largest revision, offset, length and time, in both directions: what any JSON library reads exactly."""
MAX_GENERATION = 2**31 - 1
"""The largest number of a generation, in both directions."""
FREE_REVISION = 1 << 52
FREE_GENERATION = 1 << 30
"""Up to these, any revision and any generation may be pushed."""
STEP = 1 << 20
"""Above them, one may be this much above what is held: no item can take the last number and leave none after it."""
Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)]
"""Bytes, revisions, milliseconds."""
Ordinal = Annotated[int, msgspec.Meta(ge=0, le=MAX_GENERATION)]
"""The number of a generation."""
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]
Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
"""A SHA-256 in lower-case hex."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What an endpoint takes at once: bytes of a body as sent and decoded, lines of a push, bytes of a segment, and
    decoded bytes of all appends of one push."""

    body: int = 8 << 20
    decoded: int = 32 << 20
    items: int = 1000
    segment: int = 4 << 20
    appended: int = 32 << 20


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
    last_batch: str | None = None
    """The last push that was stored of the device which asks (DEVICE_HEADER) with its own token. Another one than the
    device remembers means that one of the two was restored from a backup: it asks for the offsets of all its
    streams."""


class StreamLength(msgspec.Struct, frozen=True, kw_only=True):
    """How long a stream is at the source: what the endpoint has when all is pushed."""

    name: Name
    generation: Ordinal
    length: Count


class PushSession(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="session"):
    """Upsert a record: a higher revision wins, an equal one is a duplicate, a lower one is answered `stale`."""

    record: Session
    revision: Count
    device_id: UUID
    parent: UUID | None = None
    title: str | None = None
    gone_at: Count | None = None
    """Unix milliseconds when the tool's file was first seen missing."""
    streams: list[StreamLength] = []


class PushAppend(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="append"):
    """Append bytes to a stream if it is exactly `offset` long (compare and set)."""

    machine_id: Name
    session: UUID
    stream: Name
    generation: Ordinal
    offset: Count
    length: Count
    """Bytes of the decoded data."""
    sha256: Digest
    """Of what `data` carries, in hex: of the text's bytes, or of the zstd frames."""
    data: str
    encoding: Literal["text", "zstd"] = "text"
    """`text`: the bytes as UTF-8. `zstd`: Base64 of a zstd frame of them."""


class PushGeneration(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="generation"):
    """Start a new generation of a stream, whose first `keep` bytes are those of `previous`.

    Generation 0 needs no start: an append at offset 0 makes it. `previous` may be None with `keep` 0.
    """

    machine_id: Name
    session: UUID
    stream: Name
    generation: Ordinal
    previous: Ordinal | None
    keep: Count


Push = PushSession | PushAppend | PushGeneration


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why an item was not stored (RFC 9457), with what the client needs to go on.

    `type` is one of PROBLEMS. For `offset-mismatch`: the current `generation` and `offset` of the stream
    and the `sha256` of what is held of it, so that the client can rewind or skip without another call.
    """

    type: str
    title: str
    detail: str | None = None
    generation: Ordinal | None = None
    offset: Count | None = None
    sha256: str | None = None
    revision: Count | None = None
    """For `stale`: the revision that is stored."""


PROBLEMS = {
    "offset-mismatch": "the stream has another length",
    "no-generation": "the generation is not known here",
    "stale": "a higher revision is stored",
    "too-large": "the item is larger than the limits allow",
    "invalid": "the item is not valid",
    "quota": "there is no room for the item",
    "push-full": "the push has more in it than is stored at once",
    "machine-taken": "another device brought this machine id first",
}


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one line of a push."""

    status: Literal["stored", "duplicate", "problem"]
    problem: Problem | None = None
    ahead: list[StreamLength] = []
    """Streams of the line's session of which the endpoint has a later generation, or more bytes, than the line says:
    the client's state is older than the endpoint's (a restored backup), and it should ask for the offsets."""


class PushAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a push: a result for each line, in order, under the id of the request."""

    batch: str
    results: list[Result]


class StreamKey(msgspec.Struct, frozen=True, kw_only=True):
    """A stream's name at the endpoint."""

    session: UUID
    stream: Name


class OffsetsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /v1/offsets`."""

    machine_id: Name
    streams: list[StreamKey]


class RemotePosition(msgspec.Struct, frozen=True, kw_only=True):
    """What the endpoint holds of a stream; `generation` None: nothing."""

    session: UUID
    stream: str
    generation: Ordinal | None
    length: Count
    sha256: str | None


class OffsetsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `POST /v1/offsets`, in the order of the question."""

    streams: list[RemotePosition]


class StoredSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session as the endpoint holds it: the last record that was pushed and what lies beside it."""

    record: Session
    revision: Count
    device_id: UUID | None
    """None to all but the token of that device."""
    parent: UUID | None
    title: str | None
    gone_at: Count | None
    streams: list[StreamLength]
    """How long the streams were at the source when this revision was made."""
    held: list[StreamLength]
    """How much of them is here: the current generation of each stream and its length."""


class SessionsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `GET /v1/sessions`, newest start first; `next` goes on from here, None at the end."""

    sessions: list[StoredSession]
    next: str | None


class ChangesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `GET /v1/changes`: every session changed after `since`, once, oldest change first.

    `next` is the `since` of the next request, also when nothing changed; `more` says that it won't be empty.
    """

    sessions: list[StoredSession]
    next: str
    more: bool


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """One life of a stream: its first `keep` bytes are those of `previous`."""

    generation: Ordinal
    previous: Ordinal | None
    keep: Count
    length: Count


class StoredStream(msgspec.Struct, frozen=True, kw_only=True):
    """A stream as the endpoint holds it; the last of `generations` is the current one."""

    name: str
    generations: list[Generation]


class StreamsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `GET /v1/sessions/{machine_id}/{id}/streams`, by name."""

    streams: list[StoredStream]


class HttpProblem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a request as a whole was not answered (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str | None = None


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """What `sessiond serve --announce` writes as one JSON line once it takes requests."""

    url: str
    endpoint_id: UUID
    pid: int
