"""The rows of the spool: streams, files, sessions, segments and frames."""

from __future__ import annotations

from uuid import UUID

import msgspec

from sessiond.endpoint.wire import RemotePosition
from sessiond.reader import Checkpoint
from sessiond.session import Fold, Session

UNSTORED = 0
"""The number of a stream, and of its session, that no row has yet."""


class StreamState(msgspec.Struct, kw_only=True):
    """A stream with its fold: a working copy that the capture writes back in one transaction."""

    id: int
    session: int
    name: str
    thread: bool
    generation: int = 0
    folded: int = 0
    """Bytes that were captured and folded into the record."""
    queued: int = 0
    """Bytes whose transcript has entered the outbox; less than `folded` if it was full."""
    acked: int = 0
    """Bytes of the current generation that the endpoint acknowledged."""
    known: bool = True
    """False: ask the endpoint how much it has before anything is pushed."""
    gap: tuple[int, int] | None = None
    """Bytes that the endpoint acknowledged and then lost, as (start, end): they are read again."""
    remote_position: RemotePosition | None = None
    """The position that the endpoint reported, until it is reconciled."""
    rank: int = 0
    """When its file was last written, in unix ms: newer streams go first."""
    lost: int = 0
    """Bytes for which the endpoint got a placeholder, because they existed nowhere any more."""
    unproven: bool = False
    """Whether the endpoint may have bytes of this stream that this spool never pushed there."""
    skipped: int | None = None
    """Offset at which its transcript stopped being kept; from there on only the record is (transcripts = false)."""
    fold: Fold = msgspec.field(default_factory=Fold)
    media_type: str | None = None
    """The media type of a side file; None for records."""
    stored: tuple[bytes, bytes, bytes] = (b"", b"", b"")
    """The parts of the fold as they are stored; see Folds."""

    @property
    def caught_up(self) -> bool:
        """Whether nothing of it has to be read again."""
        return self.queued == self.folded and self.gap is None and self.remote_position is None

    @property
    def given_up(self) -> bool:
        """Whether bytes of it were given up because they existed nowhere. A file that comes back may have them."""
        return self.caught_up and self.known and self.skipped is None and (self.lost > 0 or self.acked < self.folded)


class FileState(msgspec.Struct, frozen=True, kw_only=True):
    """The stored state of a path: its stream and checkpoint, or why it has none."""

    path: str
    tool: str
    stream: int | None = None
    checkpoint: Checkpoint | None = None
    pin: str | None = None
    gone_ms: int | None = None
    trouble: str | None = None


class SessionState(msgspec.Struct, frozen=True, kw_only=True):
    """A session with its record and its envelope."""

    id: int
    uuid: UUID
    tool: str
    native_id: str
    record: Session | None
    parent: UUID | None
    title: str | None
    active_ms: int
    ongoing: bool
    gone_ms: int | None
    revision: int
    pushed: int
    parked: str | None
    prompts_only: bool = False
    """Whether only its prompts are known, from the tool's history of prompts."""
    opening: int | None = None
    """The key of its first answer, by which copies are found."""


class SessionFilter(msgspec.Struct, frozen=True, kw_only=True):
    """The sessions to list; None and False match all."""

    tool: str | None = None
    machine: str | None = None
    branch: str | None = None
    since_ms: int | None = None
    """Sessions that were active at that time or later."""
    gone: bool = False
    """Sessions whose tool has deleted their files."""
    ongoing: bool = False


class BuiltRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A session's record, built from the folds of its streams and masked, with the other columns of its row."""

    record: Session
    parent: UUID | None
    title: str | None
    opening: int | None
    """The key of the first answer, by which copies are found; None if the tool's keys show no copies."""
    active_ms: int
    prompts_only: bool = False
    """Whether it was made from prompts alone."""


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """An item of the outbox: a run of a stream's bytes as a zstd frame, or the start of a generation."""

    id: int
    session: UUID
    stream_id: int
    stream: str
    media_type: str | None
    generation: int
    offset: int
    length: int
    data: bytes | None
    previous: int | None
    keep: int | None
    parked: str | None = None


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """The position of a queued run of a stream's bytes, without the bytes."""

    id: int
    stream: int
    generation: int
    offset: int
    length: int
