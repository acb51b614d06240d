"""The store of an endpoint, as the rest of the server sees it. `SqliteStore` and `PostgresStore` implement it.

A push uses `load` and `save`, which do not depend on SQL. Reads, tokens, invitations, erasing and the packer are
functions of a `Database`, with statements that both databases understand. The methods here are what differs.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from sessiond.endpoint.server.database import Database
from sessiond.endpoint.server.digests import KnownDigests
from sessiond.endpoint.server.state import Changes, State, Touched
from sessiond.errors import StateError

if TYPE_CHECKING:
    from sessiond.endpoint.server.blobs import Blobs


class StoreBusy(StateError):
    """Another process locks the store for longer than a request can wait."""


class StoreLost(StateError):
    """The store's files were deleted or replaced while the endpoint was running. It must be restarted."""


class Store(Protocol):
    """The data of an endpoint. Threads may share a store."""

    @property
    def endpoint_id(self) -> UUID:
        """The endpoint's id, which is made with the store and never changes."""

    @property
    def digests(self) -> KnownDigests:
        """The running hashes of streams."""

    @property
    def lost(self) -> bool:
        """Whether the store's files were deleted or replaced."""

    @property
    def blocking(self) -> bool:
        """Whether even a short read waits for the network, so that it must not run in the event loop."""

    blobs: Blobs | None
    """The objects that the packer moves chunks to; None: all bytes are in the store itself."""

    on_lost: Callable[[], None]
    """Called when that is found."""

    def write(self) -> AbstractContextManager[Database]:
        """Return a context with a write transaction. When it ends, either all of it is on the disk or nothing.

        Raises:
            StateFull: the disk is full.
            StoreBusy: another transaction locks the store for too long.
            StateError: the store can't be written for another reason.
        """

    def without_waiting(self) -> AbstractContextManager[bool]:
        """Return a context in which this thread may write at once: `write` raises StoreBusy instead of waiting.

        It is False if somebody else writes now, or if each transaction waits for the network.
        """

    def read(self) -> AbstractContextManager[Database]:
        """Return a context with a read transaction, which sees one consistent state while others write.

        Raises:
            StateError: the store can't be read.
        """

    def load(self, db: Database, touched: Touched, /) -> State:
        """Return the stored state of everything that a batch of pushes names, in its write transaction.

        Until that ends, no other transaction changes the named machines and their sessions.
        """

    def save(self, db: Database, changes: Changes, /) -> None:
        """Save the changes of a batch of pushes, in the transaction that loaded the state."""

    def lock_user(self, db: Database, user: str, /) -> None:
        """Keep pushes of a user from being stored until the transaction ends."""

    def lock_chunks(self, db: Database, /) -> None:
        """Keep others from replacing or erasing chunks until the transaction ends."""

    def retire_streams(self, db: Database, numbers: list[int], /) -> None:
        """Never use the numbers of erased streams again."""

    def remaining_quota(self, db: Database, /) -> int | None:
        """Return the bytes that are left of the quota; None without a quota."""

    def expect_scrub(self, db: Database, /) -> None:
        """Store, in the transaction that erases data, that `scrub` has to follow."""

    def scrub(self) -> None:
        """Remove erased data from the store's files. Raises: StoreBusy, a reader still uses it."""

    def size(self) -> int:
        """Return the bytes that the store takes."""

    def close(self) -> None:
        """Close the store, which can't be used afterwards."""
