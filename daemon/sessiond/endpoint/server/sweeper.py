"""Deletes objects that nothing refers to: those of erased sessions, and what a killed process has left behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from sessiond.endpoint.server import objects
from sessiond.endpoint.server.blobs import Listed
from sessiond.endpoint.server.objects import Dead
from sessiond.endpoint.server.store import Store

DAY_MS = 86_400_000
GRACE = 86_400.0
"""Seconds for which an object that has no row is kept."""
AT_ONCE = 100
"""Objects that are deleted, or looked up, together."""
_LISTED = "objects_listed"
"""The fact with the time of the last listing, in unix milliseconds."""


def delete(store: Store, dead: Sequence[Dead]) -> None:
    """Delete DEAD objects.

    Raises:
        BlobsUnavailable: the object store does not answer. The next sweep deletes them.
    """
    assert store.blobs is not None
    for at in range(0, len(dead), AT_ONCE):
        some = dead[at : at + AT_ONCE]
        store.blobs.delete([each.name for each in some])
        with store.write() as db:
            objects.remove(db, [each.number for each in some])


def sweep(store: Store, now_ms: int) -> None:
    """Delete the objects whose sessions were erased, and those whose writers have ended.

    Raises:
        BlobsUnavailable: the object store does not answer.
        StateError: the store can't be read or written.
    """
    with store.read() as db:
        if not objects.any_unfinished(db):
            return
    with store.write() as db:
        objects.end_leases(db, now_ms)
    while True:
        with store.read() as db:
            dead = objects.dead(db, AT_ONCE)
        if not dead:
            return
        delete(store, dead)


def sweep_unknown(store: Store, now_ms: int) -> int:
    """Delete objects that have no row, once a day; return how many.

    Only a database that was restored from a backup has such objects: those that are newer than the backup. So if the
    last listing is more than two days old, the first one is a day later. Until then, a newer backup can be restored.

    Raises:
        BlobsUnavailable: the object store does not answer.
        StateError: the store can't be read or written.
    """
    blobs = store.blobs
    if blobs is None or not _listing_is_due(store, now_ms):
        return 0
    count = 0
    for page in _pages(each for each in blobs.list() if each.age > GRACE):
        with store.read() as db:
            known = objects.known(db, page)
        # Names are never used again, and the row is older than its object. So no transaction can name these any more.
        unknown = [name for name in page if name not in known]
        blobs.delete(unknown)
        count += len(unknown)
    return count


def _listing_is_due(store: Store, now_ms: int) -> bool:
    with store.write() as db:
        row = db.execute(f"SELECT value FROM facts WHERE name = '{_LISTED}'{db.for_update}").fetchone()
        last = 0 if row is None else int(row[0])
        if 0 <= now_ms - last < DAY_MS:
            return False
        db.execute(
            f"INSERT INTO facts (name, value) VALUES ('{_LISTED}', ?)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (str(now_ms),),
        )
    return 0 <= now_ms - last < 2 * DAY_MS


def _pages(found: Iterator[Listed]) -> Iterator[list[str]]:
    while page := [each.name for each in islice(found, AT_ONCE)]:
        yield page
