"""The messages of sync protocol v1, shared by the client and the reference endpoint (docs/protocol.md)."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

import msgspec

from sessiond.endpoint.erasure import ExpiredSession, ForgottenSession
from sessiond.endpoint.origin import Origin
from sessiond.endpoint.pace import Pace
from sessiond.session import Session

PROTOCOL = 1
SERVICE = "sessiond"
"""The `service` in the answer to `GET /v1`. Any other server is not an endpoint."""
BATCH_HEADER = "Sessiond-Batch"
"""Request header of a push: a random id, which the answer repeats in `batch`. A captive portal does not repeat it."""
DEVICE_HEADER = "Sessiond-Device"
"""Request header with the device id, required for a push. A token pushes as one device only."""
GENERATION_HEADER = "Sessiond-Generation"
"""Response header of a stream's bytes: their generation."""
MAX_NAME = 200
"""Characters of a machine id or a stream name."""
MAX_RECORD = 1 << 20
"""Bytes of a `session` line."""

MAX_NUMBER = 2**53 - 1
"""The highest revision, offset, length and time in both directions: every JSON library reads it exactly."""
MAX_GENERATION = 2**31 - 1
"""The highest generation in both directions."""
FREE_REVISION = 1 << 52
FREE_GENERATION = 1 << 30
"""Up to these numbers, any revision or generation may be pushed."""
STEP = 1 << 20
"""Beyond them, a new number may exceed the stored one by this much. So no item can use the highest number, after which
nothing could follow."""
Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)]  # bytes, revisions, milliseconds
Ordinal = Annotated[int, msgspec.Meta(ge=0, le=MAX_GENERATION)]  # the number of a generation
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]
Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]  # a SHA-256
MediaType = Annotated[
    str, msgspec.Meta(max_length=100, pattern=r"^[a-z0-9][a-z0-9!#$&^_.+-]*/[a-z0-9][a-z0-9!#$&^_.+-]*$(?!\n)")
]
"""A media type in lower case, without parameters. In Python, `$` also matches before a final newline."""
RECORDS = "application/x-ndjson"  # the media type of a stream of records, which need not be sent


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a request: bytes as sent and decoded, lines, bytes of a segment, decoded bytes of all appends."""

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
    """A random id, made at the endpoint's first start. Another id means another store, even at the same address."""
    version: str
    limits: Limits
    encodings: list[str]
    features: list[str] = []
    last_batch: str | None = None
    """The id of the last stored push of the requesting device, shown to the device's own token only. If the device
    remembers another id, one of the two was restored from a backup; it requests the offsets of all its streams."""
    pace: Pace | None = None
    keep_days: Count | None = None  # of the token's user: older sessions are let go; None: no session is


class StreamLength(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The generation and length of a stream."""

    name: Name
    generation: Ordinal
    length: Count


class PushSession(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="session"):
    """Store a record: a higher revision replaces it, an equal one is a duplicate, a lower one is answered `stale`."""

    record: Session
    revision: Count
    device_id: UUID
    parent: UUID | None = None
    title: str | None = None
    gone_at: Count | None = None
    """Unix milliseconds when the tool's file was first seen missing."""
    prompts_only: bool = False
    """Whether only the prompts of the session are known. It never replaces a record of a whole session."""
    continues: Origin | None = None
    streams: list[StreamLength] = []


class PushAppend(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="append"):
    """Append bytes to a stream if its length is exactly `offset` (compare and set)."""

    machine_id: Name
    session: UUID
    stream: Name
    generation: Ordinal
    offset: Count
    length: Count
    """Bytes of the decoded data."""
    sha256: Digest
    """The digest of the bytes in `data`, in hex: of the text in UTF-8, or of the zstd frames."""
    data: str
    encoding: Literal["text", "zstd"] = "text"
    """`text`: the bytes as UTF-8. `zstd`: Base64 of a zstd frame of them."""
    media_type: MediaType | None = None  # of the stream from now on; None leaves it
    after: Digest | msgspec.UnsetType | None = msgspec.UNSET
    """The stream digest up to the end of this append; None: the client does not know it. Unset: it knows no stream
    digests, so a problem has `sha256` instead of `after`."""


class PushGeneration(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="generation"):
    """Begin a new generation of a stream, whose first `keep` bytes are those of `previous`.

    Generation 0 begins with an append at offset 0. With `keep` 0, `previous` may be None.
    """

    machine_id: Name
    session: UUID
    stream: Name
    generation: Ordinal
    previous: Ordinal | None
    keep: Count
    after: Digest | msgspec.UnsetType | None = msgspec.UNSET
    """The stream digest of the kept bytes; None and unset as in an append."""


Push = PushSession | PushAppend | PushGeneration


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reason why an item was not stored (RFC 9457), with the data that the client needs to go on.

    For `offset-mismatch` and `no-generation`: the current `generation` of the stream, its
    length as `offset` and the digest of its bytes, so that the client needs no other request to rewind or skip: `after`
    if the line has that field, else `sha256`.
    """

    type: str
    title: str
    detail: str | None = None
    generation: Ordinal | None = None
    offset: Count | None = None
    sha256: str | None = None
    after: str | None = None
    revision: Count | None = None
    """For `stale`: the stored revision."""


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The result of one line of a push."""

    status: Literal["stored", "duplicate", "problem"]
    problem: Problem | None = None
    ahead: list[StreamLength] = []
    """Streams of the line's session for which the endpoint has a later generation or more bytes than the line. The
    client's state is older than the endpoint's (a restored backup), and it should request the offsets."""


class PushAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a push: the id of the request and a result for each line, in order."""

    batch: str
    results: list[Result]
    previous: str | msgspec.UnsetType | None = msgspec.UNSET
    """The name of the push before this one that was stored of the device; None: there was none."""


class StreamKey(msgspec.Struct, frozen=True, kw_only=True):
    """Identifies a stream of a machine."""

    session: UUID
    stream: Name


class OffsetsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /v1/offsets`."""

    machine_id: Name
    streams: list[StreamKey]
    after: bool = False
    """Whether to answer with `after` instead of `sha256`."""


class RemotePosition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The endpoint's position in a stream: its current generation, length and digest. `generation` None: no stream."""

    session: UUID
    stream: str
    generation: Ordinal | None
    length: Count
    sha256: str | None
    after: str | None = None
    """The stream digest, if the request asks for it. Then `sha256` is None."""


class OffsetsAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer to `POST /v1/offsets`, in the order of the request."""

    streams: list[RemotePosition]
    taken: bool = False
    """Whether a push of the requesting device under this machine id would be answered `machine-taken`."""


class StoredSession(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A stored session: the last record that was pushed, with its other fields."""

    record: Session
    revision: Count
    device_id: UUID | None
    """Shown to the token of that device only; otherwise None."""
    parent: UUID | None
    title: str | None
    gone_at: Count | None
    streams: list[StreamLength]
    """The lengths of the streams at the source when this revision was made."""
    held: list[StreamLength]
    """The current generation and length of each stream at the endpoint."""
    prompts_only: bool = False
    """Whether only the prompts of the session are known."""
    continues: Origin | None = None


class SessionsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `GET /v1/sessions`, newest start first. `next` is `after` of the next page, or None."""

    sessions: list[StoredSession]
    next: str | None


class UnlistedSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session that has streams but no record."""

    machine_id: Name
    session: UUID
    held: list[StreamLength]
    """The current generation and length of each stream at the endpoint."""


class UnlistedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `GET /v1/unlisted`, by machine and id. `next` is `after` of the next page; None at the end."""

    sessions: list[UnlistedSession]
    next: str | None


class ChangesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `GET /v1/changes`: each session that changed after `since`, once, oldest change first.
    `next` is the `since` of the next request, also if nothing changed. `more`: the next answer will not be empty."""

    sessions: list[StoredSession]
    next: str
    more: bool
    forgotten: list[ForgottenSession] = []  # the sessions that were erased after `since`
    expired: list[ExpiredSession] = []  # the sessions that were let go after `since` because of their age


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """A generation of a stream. Its first `keep` bytes are those of `previous`."""

    generation: Ordinal
    previous: Ordinal | None
    keep: Count
    length: Count


class StoredStream(msgspec.Struct, frozen=True, kw_only=True):
    """A stored stream. The last of `generations` is the current one."""

    name: str
    generations: list[Generation]
    media_type: MediaType = RECORDS


class StreamsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `GET /v1/sessions/{machine_id}/{id}/streams`, by name. A page may end within a stream."""

    streams: list[StoredStream]
    next: str | None = None


class HttpProblem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The reason why a whole request failed (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str | None = None
