"""What uploading works with, and how a batch is named."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from sessiond.endpoint.backoff import make_retrying
from sessiond.endpoint.client import Client
from sessiond.spool import Spool
from sessiond.spool.rows import Segment, SessionState

if TYPE_CHECKING:
    import tenacity

TRIES = 3
"""Attempts within one push. Longer waits are stored in the spool, so that they survive a restart."""
BOUND_ENDPOINT = "endpoint"
"""Meta key: the id of the endpoint that sent the acknowledgements."""
LAST_BATCH = "batch"
"""Meta key: the name of the last acknowledged batch."""
LOST_ANSWERS = 256
"""Number of consecutive batches whose answers may be lost before both sides compare everything again."""

Item = SessionState | Segment


class BatchResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one batch. `bytes` counts acknowledged bytes of transcripts before compression."""

    sessions: int = 0
    segments: int = 0
    bytes: int = 0
    parked: int = 0
    asked: int = 0
    """Streams whose position at the endpoint was asked for."""
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
            healed=self.healed + other.healed,
            asked=other.asked,
            more=other.more,
        )


class UploadContext(msgspec.Struct, kw_only=True, dict=True):
    """What uploading works with."""

    spool: Spool
    client: Client
    machine_id: str
    device_id: UUID
    now_ms: Callable[[], int]
    sleep: Callable[[float], None]
    """Waits between two attempts; returns early when the daemon stops."""
    settled: Callable[[BatchResult], None] = lambda _: None
    """Called inside the transaction that removes a batch from the outbox."""
    address: str
    """The configured address of the endpoint; "" for the built-in archive, whose address changes at each start."""
    installation: int = 0
    """Distinguishes this state directory from a copy of it (device.installation)."""
    attempts: int = 0
    """Batches sent since the last acknowledged one."""

    @cached_property
    def retrying(self) -> tenacity.Retrying:
        """The retry policy of one push. It is cached because building it takes longer than using it."""
        return make_retrying(TRIES, self.sleep)


def make_batch_name(last: str | None, attempt: int, installation: int) -> str:
    """Return the name of a batch that follows the batch `last`.

    The name depends on the last acknowledged one, so each side can check that the other continued from it. It also
    depends on the installation: a copy of a state directory has the same last batch, and without the installation it
    would give its next batch the same name. Then neither copy could detect pushes of the other.
    """
    salt = f"/{installation}" if installation else ""
    return hashlib.blake2b(f"{last or ''}/{attempt}{salt}".encode(), digest_size=16).hexdigest()
