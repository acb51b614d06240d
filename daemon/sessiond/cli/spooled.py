"""The sessions in the spool, read as those of an endpoint: to restore one while no endpoint answers.

Their bytes come from the tools' own files, else from the outbox.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from uuid import UUID

from sessiond.cli.masked import mask_pieces, open_redactor
from sessiond.cli.streams import LocalSession, outbox_bytes, tool_file_bytes
from sessiond.config import Config
from sessiond.endpoint import wire
from sessiond.errors import EndpointError, NotFound
from sessiond.spool import Spool
from sessiond.spool.rows import SessionState, StreamState
from sessiond.spool.safety import BOUND_ENDPOINT


class SpooledSessions:
    """Reads sessions of this machine. Its methods are those of `ReadClient` that restoring needs."""

    def __init__(self, spool: Spool, config: Config, environ: Mapping[str, str]) -> None:
        self._spool, self._config, self._environ = spool, config, environ
        self._redactor = open_redactor(config, environ)

    def endpoint_id(self) -> str:
        """Return the id of the endpoint that this machine pushed to last; "" if there was none."""
        return self._spool.meta(BOUND_ENDPOINT) or ""

    def sessions(self, after: str | None = None, limit: int = 0) -> wire.SessionsAnswer:
        """Return all sessions, in one page."""
        every = [self._stored(each) for each in self._spool.catalog.sessions() if each.record is not None]
        return wire.SessionsAnswer(sessions=every, next=None)

    def session(self, machine_id: str, session: UUID) -> wire.StoredSession:
        """Return one session. Raises: NotFound."""
        return self._stored(self._state(machine_id, session))

    def streams(self, machine_id: str, session: UUID) -> list[wire.StoredStream]:
        """Return the streams of a session, with their current generations. Raises: NotFound."""
        return [
            wire.StoredStream(
                name=each.name,
                generations=[wire.Generation(generation=each.generation, previous=None, keep=0, length=each.folded)],
                media_type=each.media_type or wire.RECORDS,
            )
            for each in self._streams(self._state(machine_id, session))
        ]

    def stream(
        self,
        machine_id: str,
        session: UUID,
        name: str,
        *,
        generation: int | None = None,
        start: int = 0,
        end: int | None = None,
    ) -> Iterator[bytes]:
        """Iterate the captured bytes of a stream, masked. Raises: NotFound, EndpointError if they are not here."""
        state = self._state(machine_id, session)
        found = next((each for each in self._streams(state) if each.name == name), None)
        if found is None:
            raise NotFound(f"session {session} has no stream {name!a}")
        pieces = tool_file_bytes(LocalSession(self._spool, self._config, self._environ, state), found)
        if pieces is None:
            pieces = outbox_bytes(self._spool, found)
        if pieces is None:
            raise EndpointError(
                f"only the endpoint has all of stream {name!a}, and it can't be read now", hint="sessiond status"
            )
        yield from mask_pieces(self._redactor, pieces)

    def _state(self, machine_id: str, session: UUID) -> SessionState:
        found = self._spool.catalog.session(session)
        if found is None or found.record is None or found.record.machine_id != machine_id:
            raise NotFound(f"no session {session}")
        return found

    def _streams(self, session: SessionState) -> list[StreamState]:
        catalog = self._spool.catalog
        return [*catalog.streams(session.id), *catalog.side_streams(session.id)]

    def _stored(self, session: SessionState) -> wire.StoredSession:
        assert session.record is not None
        return wire.StoredSession(
            record=session.record,
            revision=session.revision,
            device_id=None,
            parent=session.parent,
            title=session.title,
            gone_at=session.gone_ms,
            streams=[],
            held=[],
            prompts_only=session.prompts_only,
        )
