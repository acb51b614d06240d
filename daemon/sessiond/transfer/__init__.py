"""Copies the built-in archive to the endpoint that is configured now.

The archive is an endpoint like any other, so this copies from endpoint to endpoint by the protocol: the same sessions,
streams and generations, under the same numbers where these are free. A session counts as copied once the digests of all
its streams are equal on both sides. Until then `status` reports that only the archive has the session, and the spool's
streams of it wait. A kill costs nothing: the next attempt asks for the position of each stream.

Copied data is masked again: other rules, or none, may have been in force when the archive got it.

    listing.py   which sessions the archive has
    session.py   one session: what has to be pushed, and whether the endpoint has all of it
    streams.py   one stream: its masked bytes, and what the endpoint lacks of it
    batch.py     one push, and its result for each session
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from uuid import UUID

from sessiond.endpoint import wire
from sessiond.endpoint.erasure import Receipt
from sessiond.endpoint.read_client import ReadClient
from sessiond.errors import Rejected, TooLarge
from sessiond.logs import log
from sessiond.privacy import Masking
from sessiond.spool.archive_counts import ARCHIVE_LISTED
from sessiond.spool.archived import ArchivedSession
from sessiond.spool.safety import BOUND_ENDPOINT
from sessiond.transfer.batch import Line, push_batch
from sessiond.transfer.listing import list_archive
from sessiond.transfer.session import SessionCopier, SessionCopy
from sessiond.upload import BATCH_BYTES, BATCH_ITEMS, BatchResult, UploadContext

TRIES = 3
"""Attempts for a session whose copy the endpoint contradicts or rejects, before it counts as refused."""
MAX_DECODED = 16 << 20
"""Bytes of a batch before compression. An endpoint stores twice as much of one push (docs/protocol.md, `appended`)."""

Step = tuple[SessionCopy, wire.Push | None]
"""A line to push for a session; None at the end of the session."""


class Transfer:
    """Copies in batches, on the upload thread.

    `open_archive` serves the archive and returns a client for it; it is called once there is work. `close` ends both.
    """

    def __init__(
        self,
        context: UploadContext,
        open_archive: Callable[[], ReadClient],
        make_masking: Callable[[], Masking],
    ) -> None:
        self._context = context
        self._open_archive = open_archive
        self._make_masking = make_masking
        self._archive: ReadClient | None = None
        self._archive_id = ""
        self._copier: SessionCopier | None = None
        self._listed_for: str | None = None
        """The id of the endpoint for which the archive was listed since it was opened."""
        self._steps: Iterator[Step] | None = None
        self._tries: dict[ArchivedSession, int] = {}

    def prepare(self) -> None:
        """List the sessions of the archive that are new or changed since they were listed for this endpoint.

        Raises: EndpointError, ArchiveUnreadable.
        """
        spool = self._context.spool
        endpoint = spool.meta(BOUND_ENDPOINT)
        if self._listed_for == endpoint and spool.meta(ARCHIVE_LISTED) is not None:
            return
        self._list()
        self._listed_for = endpoint
        self._steps = None

    def pending(self, since_ms: int = 0) -> bool:
        """Return whether there is a session to copy that was active at or after `since_ms`."""
        with self._context.spool.reading():
            return bool(self._context.spool.archived.pending(1, since_ms))

    def step(self, *, since_ms: int = 0, size: int = BATCH_BYTES) -> BatchResult:
        """Copy one batch of about `size` compressed bytes, of sessions that were active at or after `since_ms`.

        Raises: EndpointError or ArchiveUnreadable if one of the sides does not answer. The next call continues from
        there.
        """
        if self._steps is None:
            self._steps = self._plan(since_ms)
        taken, decoded, batch = 0, 0, list[Step]()
        try:
            for step in islice(self._steps, BATCH_ITEMS):
                batch.append(step)
                if isinstance(step[1], wire.PushAppend):
                    taken += len(step[1].data)
                    decoded += step[1].length
                if taken >= size or decoded >= MAX_DECODED:
                    break
            if not batch:
                self._steps = None
            return self._send(batch)
        except BaseException:
            self._steps = None  # it is planned again, from the positions of both sides
            raise

    def forget(self, session: UUID) -> Receipt:
        """Erase a session in the archive. What was planned of it is not pushed. Raises: ArchiveUnreadable."""
        self._steps = None
        return self._reader().forget(session)

    def is_whole(self, session: ArchivedSession) -> bool:
        """Return whether the endpoint has everything that the archive has of a session, in all its generations.

        Raises: EndpointError, ArchiveUnreadable.
        """
        return self._session_copier().is_whole(session)

    @property
    def archive_id(self) -> str:
        """The id of the archive as an endpoint, once it was opened."""
        return self._archive_id

    def close(self) -> None:
        """Stop serving the archive."""
        self._steps = self._copier = self._listed_for = None
        if self._archive is not None:
            self._archive.close()
            self._archive = None

    def _reader(self) -> ReadClient:
        if self._archive is None:
            self._archive = self._open_archive()
            self._archive_id = str(self._archive.about().endpoint_id)
        return self._archive

    def _session_copier(self) -> SessionCopier:
        if self._copier is None:
            self._copier = SessionCopier(self._context, self._reader(), self._make_masking())
        return self._copier

    def _list(self) -> None:
        list_archive(self._context.spool, self._reader(), self._archive_id)

    def _plan(self, since_ms: int) -> Iterator[Step]:
        """Iterate over the lines to push, session by session."""
        copier, spool = self._session_copier(), self._context.spool
        with spool.reading():
            sessions = spool.archived.pending(BATCH_ITEMS, since_ms)
        for session in sessions:
            copy = SessionCopy(session=session)
            for push in copier.pushes(copy):
                if copy.failed:  # the result of an earlier batch
                    break
                yield copy, push
            yield copy, None

    def _send(self, batch: Sequence[Step]) -> BatchResult:
        context, spool = self._context, self._context.spool
        lines: list[Line] = [(copy, push) for copy, push in batch if push is not None]
        try:
            push_batch(context, lines)
        except (TooLarge, Rejected) as error:
            # Either the endpoint or this session is at fault. The outbox and other sessions must not wait for it.
            session = lines[0][0].session
            self._tries[session] = self._tries.get(session, 0) + 1
            if self._tries[session] < TRIES:
                raise
            lines[0][0].refused = error.message
        copier = self._session_copier()
        complete = [copy for copy, push in batch if push is None and copier.is_complete(copy)]
        with spool.transaction():
            for copy in {id(copy): copy for copy, _ in batch}.values():
                self._store(copy, complete=copy in complete)
            more = spool.archived.has_pending()
        if not more:
            # Another process may have written to the archive meanwhile, which must not be missed.
            self._list()
            with spool.reading():
                more = spool.archived.has_pending()
            self._steps = None
        if complete and not more:
            log.info("archive.copied", endpoint=context.client.url)
        size = sum(push.length for _, push in lines if isinstance(push, wire.PushAppend))
        forgotten = len({copy.session for copy, _ in batch if copy.forgotten})
        return BatchResult(segments=len(lines), bytes=size, forgotten=forgotten, more=more)

    def _store(self, copy: SessionCopy, *, complete: bool) -> None:
        """Store the state of a session in the caller's transaction."""
        archived = self._context.spool.archived
        if complete:
            archived.mark_copied(copy.session, self._archive_id, [each.copied() for each in copy.streams])
            self._tries.pop(copy.session, None)
        elif copy.forgotten:
            # The user erased it at the endpoint. The archive erases it next; until then it is not copied again.
            self._context.spool.forgotten.learn(str(copy.session.session), self._context.clock.now_ms())
            archived.remove(copy.session)
        elif copy.refused is not None:
            archived.refuse(copy.session, copy.refused)
        elif copy.postponed:
            self._steps = None
        elif copy.contradicted:
            self._steps = None
            tries = self._tries[copy.session] = self._tries.get(copy.session, 0) + 1
            if tries >= TRIES:
                archived.refuse(copy.session, "the endpoint does not have what it acknowledged")
