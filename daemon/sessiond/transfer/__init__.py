"""Copies what the built-in archive holds to the endpoint that is configured now.

The archive is an endpoint like any other, so this copies from endpoint to endpoint by the protocol: the same sessions,
streams and generations, under the same numbers where those are free. A session counts as copied when the digests of
all its streams agree on both sides. Until then `status` says that the archive alone has it, and the streams that the
spool has of it wait. A kill costs nothing: the next try asks where each stream stands.

What is copied is masked again: the archive may have been filled under other rules, or none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from sessiond.endpoint import wire
from sessiond.endpoint.read_client import ReadClient
from sessiond.errors import ArchiveUnreadable, NotFound, Refused, Rejected, SessiondError, TooLarge, WrongEndpoint
from sessiond.logs import log
from sessiond.privacy import Masking
from sessiond.spool.archived import ArchivedSession
from sessiond.spool.safety import ARCHIVE_LISTED
from sessiond.transfer.batch import SessionCopy, push_batch
from sessiond.transfer.streams import StreamCopy, StreamReader
from sessiond.upload import BATCH_BYTES, BATCH_ITEMS, BOUND_ENDPOINT, BatchResult, UploadContext

TRIES = 3
"""How often a session is tried again where the endpoint contradicts itself, before it counts as refused."""
UNCOMPARABLE = (NotFound, WrongEndpoint, Refused, Rejected, TooLarge)
"""Errors of one session: the endpoint has just answered where its streams stand, and does not let us read them."""


class Transfer:
    """Copies in batches, on the thread that pushes.

    `open_archive` serves the archive and returns a client for it: it is called once there is work. `close` ends both.
    `endpoint` is a client that may read what the configured endpoint holds.
    """

    def __init__(
        self,
        setting: UploadContext,
        endpoint: ReadClient,
        open_archive: Callable[[], ReadClient],
        masking: Callable[[], Masking],
    ) -> None:
        self._setting = setting
        self._endpoint = endpoint
        self._open = open_archive
        self._make_masking = masking
        self._archive: ReadClient | None = None
        self._masking: Masking | None = None
        self._archive_id = ""
        self._work: Iterator[tuple[SessionCopy, wire.Push | None]] | None = None
        self._tries: dict[ArchivedSession, int] = {}

    def prepare(self) -> None:
        """List the archive's sessions unless that was done for this endpoint.

        Raises: EndpointError, StateError where the archive can't be read.
        """
        spool = self._setting.spool
        endpoint = spool.meta(BOUND_ENDPOINT)
        if (spool.meta(ARCHIVE_LISTED) or " ").split(" ")[1] == endpoint:
            return
        archive, after, first = self._reader(), None, True
        while first or after is not None:
            page = archive.sessions(after)
            with spool.transaction():
                if first:
                    spool.archived.clear()
                spool.archived.add(_archived(each) for each in page.sessions)
                if page.next is None:
                    spool.set_meta(ARCHIVE_LISTED, f"{self._archive_id} {endpoint}")
            after, first = page.next, False
        self._work = None

    def pending(self, since_ms: int = 0) -> bool:
        """Return whether a session is to be copied; of those only one that was active since then."""
        with self._setting.spool.reading():
            return bool(self._setting.spool.archived.pending(1, since_ms))

    def step(self, *, since_ms: int = 0, size: int = BATCH_BYTES) -> BatchResult:
        """Copy one batch, of about `size` compressed bytes; of sessions that were active since `since_ms`.

        Raises: EndpointError when one of the sides does not answer; then the next call goes on from there.
        """
        if self._work is None:
            self._work = self._plan(since_ms)
        taken, batch = 0, list[tuple[SessionCopy, wire.Push | None]]()
        try:
            for item in islice(self._work, BATCH_ITEMS):
                batch.append(item)
                taken += len(item[1].data) if isinstance(item[1], wire.PushAppend) else 0
                if taken >= size:
                    break
            if not batch:
                self._work = None
            return self._send(batch)
        except BaseException:
            self._work = None  # it is planned again, from where both sides stand
            raise

    def close(self) -> None:
        """Stop serving the archive."""
        self._work = None
        if self._archive is not None:
            self._archive.close()
            self._archive = None

    def _reader(self) -> ReadClient:
        if self._archive is None:
            self._archive = self._open()
            self._archive_id = str(self._archive.about().endpoint_id)
        return self._archive

    # What is to be pushed

    def _plan(self, since_ms: int) -> Iterator[tuple[SessionCopy, wire.Push | None]]:
        """Iterate over the pushes of one session after another; None ends a session."""
        archive = self._reader()
        if self._masking is None:
            self._masking = self._make_masking()
        reader = StreamReader(archive, self._endpoint, self._masking)
        spool = self._setting.spool
        with spool.reading():
            sessions = spool.archived.pending(BATCH_ITEMS, since_ms)
        for session in sessions:
            copy = SessionCopy(session=session)
            try:
                for push in self._pushes(archive, reader, copy):
                    if copy.refused is not None or copy.contradicted:
                        break
                    yield copy, push
            except (ArchiveUnreadable, *UNCOMPARABLE) as error:
                self._set_aside(copy, error)
            yield copy, None

    def _pushes(self, archive: ReadClient, reader: StreamReader, copy: SessionCopy) -> Iterator[wire.Push]:
        session = copy.session
        try:
            stored = archive.session(session.machine_id, session.session)
            streams = archive.streams(session.machine_id, session.session)
        except NotFound:  # it went from the archive since it was listed
            return
        if not self._ask(copy, [each for each in streams if each.generations]):
            copy.refused = "what the endpoint answers about it can't be read"
            return
        yield self._record(stored)
        for stream in copy.streams:
            yield from reader.pushes(stream)

    def _set_aside(self, copy: SessionCopy, error: SessiondError) -> None:
        """Store why one session can't be copied now. Raises: `error` where it is the endpoint or the archive itself."""
        if copy.unasked and not isinstance(error, ArchiveUnreadable):
            raise error
        if isinstance(error, ArchiveUnreadable):
            self._reader().about()  # raises where the archive does not answer at all
        copy.refused = error.message

    def _ask(self, copy: SessionCopy, stored: list[wire.StoredStream]) -> bool:
        """Find what the endpoint has of the streams of a session; False where it gives no sensible answer."""
        session = copy.session
        keys = [wire.StreamKey(session=session.session, stream=each.name) for each in stored]
        there = self._setting.client.offsets(session.machine_id, keys) if keys else []
        copy.streams = [
            StreamCopy(session=session, name=each.name, generations=each.generations, there=held)
            for each, held in zip(stored, there, strict=True)
            if held is not None
        ]
        copy.unasked = False
        return None not in there

    def _record(self, stored: wire.StoredSession) -> wire.PushSession:
        assert self._masking is not None
        return wire.PushSession(
            record=self._masking.record(stored.record),
            revision=stored.revision,
            device_id=self._setting.device_id,
            parent=stored.parent,
            title=self._masking.text(stored.title),
            gone_at=stored.gone_at,
            streams=stored.streams,
        )

    # What comes of it

    def _send(self, batch: Sequence[tuple[SessionCopy, wire.Push | None]]) -> BatchResult:
        setting, spool = self._setting, self._setting.spool
        pushes = [(copy, push) for copy, push in batch if push is not None]
        try:
            push_batch(setting, pushes)
        except (TooLarge, Rejected) as error:
            # It may be the endpoint, and it may be this one session: others and the outbox must not wait for it.
            session = pushes[0][0].session
            self._tries[session] = self._tries.get(session, 0) + 1
            if self._tries[session] < TRIES:
                raise
            pushes[0][0].refused = error.message
        whole = [copy for copy, push in batch if push is None and self._whole(copy)]
        with spool.transaction():
            for copy in {id(copy): copy for copy, _ in batch}.values():
                self._store(copy, done=copy in whole)
            more = spool.archived.has_pending()
        if whole and not more:
            log.info("archive.copied", endpoint=setting.client.url)
        size = sum(push.length for _, push in pushes if isinstance(push, wire.PushAppend))
        return BatchResult(segments=len(pushes), bytes=size, more=more)

    def _whole(self, copy: SessionCopy) -> bool:
        """Return whether the endpoint holds what the archive holds of a session, byte for byte."""
        if copy.refused is not None or copy.contradicted:
            return False
        assert self._masking is not None
        reader = StreamReader(self._reader(), self._endpoint, self._masking)
        keys = [wire.StreamKey(session=each.session.session, stream=each.name) for each in copy.streams]
        there = self._setting.client.offsets(copy.session.machine_id, keys) if keys else []
        try:
            for stream, held in zip(copy.streams, there, strict=True):
                stream.there = held or stream.there
                if held is None or not reader.complete(stream):
                    copy.contradicted = True
        except (ArchiveUnreadable, *UNCOMPARABLE) as error:
            self._set_aside(copy, error)
        return not copy.contradicted and copy.refused is None

    def _store(self, copy: SessionCopy, *, done: bool) -> None:
        archived = self._setting.spool.archived
        if done:
            archived.mark_copied(copy.session, self._archive_id, [each.copied() for each in copy.streams])
            self._tries.pop(copy.session, None)
        elif copy.refused is not None:
            archived.refuse(copy.session, copy.refused)
        elif copy.contradicted:
            self._work = None
            tries = self._tries[copy.session] = self._tries.get(copy.session, 0) + 1
            if tries >= TRIES:
                archived.refuse(copy.session, "the endpoint does not hold what it acknowledged")


def _archived(stored: wire.StoredSession) -> ArchivedSession:
    record = stored.record
    active = record.ended_at or record.started_at
    return ArchivedSession(
        session=record.id,
        machine_id=record.machine_id or "",
        bytes=sum(each.length for each in stored.held),
        active_ms=int(active.timestamp() * 1000),
    )
