"""One session of the archive: what has to be pushed for it, and whether the endpoint has all of it."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from sessiond.endpoint import wire
from sessiond.endpoint.read_client import ReadClient
from sessiond.errors import ArchiveUnreadable, NotFound, Refused, Rejected, SessiondError, TooLarge, WrongEndpoint
from sessiond.privacy import Masking
from sessiond.spool.archived import ArchivedSession
from sessiond.transfer.streams import StreamCopy, StreamReader
from sessiond.upload import UploadContext

UNCOMPARABLE = (NotFound, WrongEndpoint, Refused, Rejected, TooLarge)
"""Errors that may be about one session: the endpoint reports the positions of its streams, but does not show them."""


class SessionCopy(msgspec.Struct):
    """The state of a session that is being copied."""

    session: ArchivedSession
    streams: list[StreamCopy] = []
    asked: bool = False
    """Whether the endpoint has reported the positions of its streams."""
    refused: str | None = None
    """Why it can't be copied now."""
    contradicted: bool = False
    """The endpoint does not have what it reported or acknowledged: it is asked again."""
    forgotten: bool = False
    """The user erased it at the endpoint."""
    postponed: bool = False
    """The endpoint stored the first lines of a push and asks for the others in another one."""

    @property
    def failed(self) -> bool:
        """Whether nothing more of it should be pushed as planned."""
        return self.refused is not None or self.contradicted or self.forgotten or self.postponed


class SessionCopier:
    """Compares sessions of the archive with the endpoint."""

    def __init__(self, context: UploadContext, archive: ReadClient, masking: Masking) -> None:
        self._context = context
        self._archive = archive
        self._masking = masking
        self._reader = StreamReader(archive, context.reader, masking)

    def pushes(self, copy: SessionCopy) -> Iterator[wire.Push]:
        """Iterate over the lines that complete a session at the endpoint: its record, then its streams.

        If the session can't be compared, the reason is stored in `copy`.

        Raises: EndpointError, ArchiveUnreadable: the endpoint or the archive as a whole does not answer.
        """
        try:
            yield from self._lines(copy)
        except (ArchiveUnreadable, *UNCOMPARABLE) as error:
            self._set_aside(copy, error)

    def is_complete(self, copy: SessionCopy) -> bool:
        """Return whether the endpoint has what the archive has of a session, byte for byte.

        Raises: EndpointError, ArchiveUnreadable: as `pushes`.
        """
        if copy.failed:
            return False
        keys = [wire.StreamKey(session=each.session.session, stream=each.name) for each in copy.streams]
        positions = self._context.client.offsets(copy.session.machine_id, keys) if keys else []
        try:
            for stream, remote in zip(copy.streams, positions, strict=True):
                stream.remote = remote or stream.remote
                if remote is None or not self._reader.is_complete(stream):
                    copy.contradicted = True
        except (ArchiveUnreadable, *UNCOMPARABLE) as error:
            self._set_aside(copy, error)
        return not copy.failed

    def is_whole(self, session: ArchivedSession) -> bool:
        """Return whether the endpoint has the record of a session, and every generation that the archive has.

        This is true of a session that the archive does not have.

        Raises: EndpointError, ArchiveUnreadable.
        """
        copy = SessionCopy(session=session)
        stored, streams = self._stored(session)
        try:
            if stored is not None:
                known = self._context.reader.session(session.machine_id, session.session)
                if known.revision < stored.revision:
                    return False
            if not self._ask(copy, [each for each in streams if each.generations]):
                return False
            return all(map(self._reader.is_whole, copy.streams))
        except NotFound:
            return False

    def _lines(self, copy: SessionCopy) -> Iterator[wire.Push]:
        stored, streams = self._stored(copy.session)
        if not self._ask(copy, [each for each in streams if each.generations]):
            copy.refused = "the endpoint's answer about its streams can't be decoded"
            return
        if stored is not None:
            yield self._record(stored)
        for stream in copy.streams:
            yield from self._reader.pushes(stream)

    def _stored(self, session: ArchivedSession) -> tuple[wire.StoredSession | None, list[wire.StoredStream]]:
        """Return what the archive has of a session. It may have streams without a record, or a record without any."""
        try:
            stored = self._archive.session(session.machine_id, session.session)
        except NotFound:
            stored = None
        try:
            return stored, self._archive.streams(session.machine_id, session.session)
        except NotFound:
            return stored, []

    def _set_aside(self, copy: SessionCopy, error: SessiondError) -> None:
        """Store why one session can't be copied now.

        A whole side may be at fault: the token was revoked, a login page answers, the archive's process ended. Then
        all sessions wait and none is set aside.

        Raises: `error`, or the error of the side that does not answer.
        """
        if isinstance(error, ArchiveUnreadable):
            self._archive.about()
        elif copy.asked:
            self._context.reader.about()
        else:
            raise error
        copy.refused = error.message

    def _ask(self, copy: SessionCopy, stored: list[wire.StoredStream]) -> bool:
        """Ask for the endpoint's positions; return whether all of them can be decoded."""
        session = copy.session
        keys = [wire.StreamKey(session=session.session, stream=each.name) for each in stored]
        positions = self._context.client.offsets(session.machine_id, keys) if keys else []
        copy.streams = [
            StreamCopy(
                session=session,
                name=each.name,
                generations=each.generations,
                remote=remote,
                media_type=None if each.media_type == wire.RECORDS else each.media_type,
            )
            for each, remote in zip(stored, positions, strict=True)
            if remote is not None
        ]
        copy.asked = True
        return None not in positions

    def _record(self, stored: wire.StoredSession) -> wire.PushSession:
        return wire.PushSession(
            record=self._masking.record(stored.record),
            revision=stored.revision,
            device_id=self._context.device_id,
            parent=stored.parent,
            title=self._masking.text(stored.title),
            gone_at=stored.gone_at,
            prompts_only=stored.prompts_only,
            continues=stored.continues,
            streams=stored.streams,
        )
