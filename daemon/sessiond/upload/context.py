"""What uploading works with, and how a batch is named."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from uuid import UUID

import msgspec

from sessiond.clock import Clock
from sessiond.endpoint.read_client import ReadClient
from sessiond.endpoint.retry import RetryingClient
from sessiond.reader import Digest
from sessiond.restored import RestoredSessions
from sessiond.spool import Spool
from sessiond.spool.rows import Segment, SessionState
from sessiond.spool.safety import LAST_BATCH
from sessiond.upload.digests import PushDigests

RUNS = "batch.runs"
"""Meta key: the ids of the last runs of the daemon, the newest first."""
KEPT_RUNS = 8
LOST_ANSWERS = 256
"""Number of consecutive batches whose answers may be lost before both sides compare everything again."""

Item = SessionState | Segment


def session_of(item: Item) -> str:
    """Return the id of an item's session."""
    return str(item.uuid if isinstance(item, SessionState) else item.session)


class BatchResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one batch. `bytes` counts acknowledged bytes of transcripts before compression."""

    sessions: int = 0
    segments: int = 0
    bytes: int = 0
    parked: int = 0
    asked: int = 0
    """Streams whose position at the endpoint was asked for."""
    forgotten: int = 0
    """Items of sessions that the endpoint has erased."""
    expired: int = 0
    """Items of sessions that the endpoint does not keep any more."""
    healed: int = 0
    """Streams whose position differs at the endpoint. The next read of their files reconciles them."""
    more: bool = False
    """Whether the outbox holds more that could be pushed now."""

    def plus(self, other: BatchResult) -> BatchResult:
        """Return the sum of two results; `more` and `asked` are those of the later one."""
        return BatchResult(
            sessions=self.sessions + other.sessions,
            segments=self.segments + other.segments,
            bytes=self.bytes + other.bytes,
            parked=self.parked + other.parked,
            forgotten=self.forgotten + other.forgotten,
            expired=self.expired + other.expired,
            healed=self.healed + other.healed,
            asked=other.asked,
            more=other.more,
        )


class UploadContext(msgspec.Struct, kw_only=True):
    """What the push thread works with."""

    spool: Spool
    client: RetryingClient
    """Pushes to the endpoint."""
    reader: ReadClient
    """Reads from the endpoint and erases there, over the same connection."""
    stream_digests: PushDigests
    """The stream digests of the segments that are pushed."""
    machine_id: str
    device_id: UUID
    digest: Digest
    """Computes the digests of the extents."""
    clock: Clock = msgspec.field(default_factory=Clock)
    settled: Callable[[BatchResult], None] = lambda _: None
    """Called inside the transaction that removes a batch from the outbox."""
    address: str
    """The configured address of the endpoint; "" for the built-in archive, whose address changes at each start."""
    restored: RestoredSessions = msgspec.field(default_factory=RestoredSessions)
    """The sessions that continue one of another machine."""
    installation: int = 0
    """Distinguishes this state directory from a copy of it (device.installation)."""
    runs: tuple[str, ...] = ("",)
    """Random ids of this run of the daemon and of a few before it, this one first; see `begin_run`."""
    disputed: set[int] = msgspec.field(default_factory=set)
    """Streams that the endpoint was asked for because its answer to a push stated another position."""
    attempts: int = 0
    """Batches sent since the last acknowledged one."""
    last_batch: str | msgspec.UnsetType | None = msgspec.UNSET
    """The batch that the present one continues from; unset before the first one is named."""
    compared_ms: int | None = None
    """When a lost batch last caused a comparison of all streams."""


def begin_run(spool: Spool) -> tuple[str, ...]:
    """Store a random id for this run of the daemon; return it with the ids of the last runs (UploadContext.runs).

    The id is part of each batch's name. Otherwise a push after a restart could have the same name as an earlier one
    whose answer was lost. Then an endpoint restored from a backup made between the two would look up to date, although
    it lacks the second push.
    """
    earlier = (spool.meta(RUNS) or "").split()
    runs = (secrets.token_hex(8), *earlier[: KEPT_RUNS - 1])
    spool.set_meta(RUNS, " ".join(runs))
    return runs


def next_batch_name(context: UploadContext) -> str:
    """Return the name of the next batch, and count it as an attempt.

    The name depends on the last acknowledged one, so each side can check that the other continued from it. It also
    depends on the installation: a copy of a state directory has the same last batch, and without the installation it
    would give its next batch the same name. Then neither copy could detect pushes of the other. It depends on the run
    as well, see `begin_run`.
    """
    context.last_batch = context.spool.meta(LAST_BATCH)
    name = _name(context, context.last_batch, context.attempts, context.runs[0])
    # Each attempt has its own name: the answer to an earlier one may be lost although its items were stored.
    context.attempts = (context.attempts + 1) % LOST_ANSWERS
    return name


def expected_batch_names(context: UploadContext) -> set[str | None]:
    """Return the names that the endpoint's last batch may have: the last acknowledged one, or one of the next.

    After a lost answer the endpoint has stored a batch that was never acknowledged here. Without these names, each lost
    answer would cause a comparison of all streams.
    """
    last = context.spool.meta(LAST_BATCH)
    return {last, *(_name(context, last, attempt, run) for run in context.runs for attempt in range(LOST_ANSWERS))}


def _name(context: UploadContext, last: str | None, attempt: int, run: str) -> str:
    text = f"{last or ''}/{attempt}/{context.installation}/{run}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
