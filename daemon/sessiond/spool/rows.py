"""What goes into the spool and comes out of it."""

from __future__ import annotations

from uuid import UUID

import msgspec

from sessiond.endpoint.wire import RemotePosition
from sessiond.reader import Checkpoint
from sessiond.session import Fold, Session


class StreamState(msgspec.Struct, kw_only=True):
    """A stream with its fold: the working copy of whoever captures it, written back in one transaction."""

    id: int
    session: int
    name: str
    thread: bool
    generation: int = 0
    folded: int = 0
    queued: int = 0
    acked: int = 0
    known: bool = True
    gap: tuple[int, int] | None = None
    remote_position: RemotePosition | None = None
    rank: int = 0
    lost: int = 0
    """Bytes for which the endpoint got a placeholder, because no place had them any more."""
    unproven: bool = False
    """Whether this endpoint may hold bytes of it that this spool never pushed there."""
    skipped: int | None = None
    """Where its transcript stopped being kept: from there on only the record is (transcripts = false)."""
    fold: Fold = msgspec.field(default_factory=Fold)
    stored: tuple[bytes, bytes, bytes] = (b"", b"", b"")
    """The parts of the fold as they are stored; see Folds."""

    @property
    def caught_up(self) -> bool:
        """Tell whether nothing of it waits to be read again."""
        return self.queued == self.folded and self.gap is None and self.remote_position is None

    @property
    def given_up(self) -> bool:
        """Return whether bytes of it were given up, since no place had them; a file that comes back may have them."""
        return self.caught_up and self.known and self.skipped is None and (self.lost > 0 or self.acked < self.folded)


class FileState(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a path: its stream and checkpoint, or why there is none."""

    path: str
    tool: str
    stream: int | None = None
    checkpoint: Checkpoint | None = None
    pin: str | None = None
    gone_ms: int | None = None
    trouble: str | None = None


class SessionState(msgspec.Struct, frozen=True, kw_only=True):
    """A session with its record and what goes beside it (the envelope)."""

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


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """An item of the outbox: a run of a stream's bytes as a zstd frame, or the start of a generation."""

    id: int
    session: UUID
    stream_id: int
    stream: str
    generation: int
    offset: int
    length: int
    data: bytes | None
    previous: int | None
    keep: int | None
    parked: str | None = None


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """Where a queued run of a stream's bytes lies, without the bytes."""

    id: int
    stream: int
    generation: int
    offset: int
    length: int
