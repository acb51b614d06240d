"""Lists the sessions of the archive in the spool: all of them at first, then those that changed."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from sessiond.endpoint import wire
from sessiond.endpoint.read_client import ReadClient
from sessiond.errors import NotFound
from sessiond.spool import Spool
from sessiond.spool.archive_counts import ARCHIVE_LISTED, ARCHIVE_POSITION
from sessiond.spool.archived import ArchivedSession
from sessiond.spool.safety import BOUND_ENDPOINT


def list_archive(spool: Spool, archive: ReadClient, archive_id: str) -> None:
    """Add the sessions of the archive that are new or changed since they were listed for the bound endpoint.

    A session that changed in the archive has to be copied again. A list that was interrupted is begun again.

    Raises: EndpointError.
    """
    listed = f"{archive_id} {spool.meta(BOUND_ENDPOINT)}"
    if spool.meta(ARCHIVE_LISTED) != listed:
        # Another archive, another endpoint, or one that lost data: what was copied before says nothing about it.
        _clear(spool)
    _list_changes(spool, archive)
    _list_unlisted(spool, archive)
    spool.set_meta(ARCHIVE_LISTED, listed)


def _list_changes(spool: Spool, archive: ReadClient) -> None:
    since, more = spool.meta(ARCHIVE_POSITION), True
    while more:
        try:
            page = archive.changes(since)
        except NotFound:
            if since is None:
                raise
            _clear(spool)  # the archive was restored from an older copy
            since = None
            continue
        with spool.transaction():
            # A tombstone that is still to be sent to the archive also keeps the session from being copied.
            spool.archived.add(_of_record(each) for each in page.sessions if not _is_forgotten(spool, each.record.id))
            spool.set_meta(ARCHIVE_POSITION, page.next)
        since, more = page.next, page.more


def _list_unlisted(spool: Spool, archive: ReadClient) -> None:
    """Add sessions whose streams the archive has without a record: their bytes may exist nowhere else."""
    after: str | None = None
    while True:
        page = archive.unlisted(after)
        with spool.transaction():
            spool.archived.add_unlisted(
                _of_streams(each) for each in page.sessions if not _is_forgotten(spool, each.session)
            )
        if page.next is None:
            return
        after = page.next


def _is_forgotten(spool: Spool, session: UUID) -> bool:
    return spool.forgotten.has(str(session))


def _clear(spool: Spool) -> None:
    with spool.transaction():
        spool.archived.clear()


def _of_record(stored: wire.StoredSession) -> ArchivedSession:
    record = stored.record
    active = record.ended_at or record.started_at
    return ArchivedSession(
        session=record.id,
        machine_id=record.machine_id or "",
        bytes=_bytes(stored.held),
        active_ms=int(active.timestamp() * 1000),
    )


def _of_streams(stored: wire.UnlistedSession) -> ArchivedSession:
    # Only a record says when a session was active; one without it is copied last.
    return ArchivedSession(session=stored.session, machine_id=stored.machine_id, bytes=_bytes(stored.held), active_ms=0)


def _bytes(held: Iterable[wire.StreamLength]) -> int:
    return sum(each.length for each in held)
