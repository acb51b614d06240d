"""Sessions in the answers of lists. Stored JSON is copied into them, without being decoded and encoded again."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from sessiond.decoding import json_decoder
from sessiond.endpoint.erasure import ExpiredSession, ForgottenSession
from sessiond.endpoint.server import records
from sessiond.endpoint.server.records import RawSession, Row, View
from sessiond.endpoint.wire import SessionsAnswer, StreamLength


class RawSessions(msgspec.Struct, frozen=True, kw_only=True):
    """Encoded like `wire.SessionsAnswer`."""

    sessions: list[RawSession]
    next: str | None

    def decoded(self) -> SessionsAnswer:
        """Return what a client reads from the answer."""
        return json_decoder(SessionsAnswer).decode(msgspec.json.encode(self))


class RawChanges(msgspec.Struct, frozen=True, kw_only=True):
    """Encoded like `wire.ChangesAnswer`."""

    sessions: list[RawSession]
    next: str
    more: bool
    forgotten: list[ForgottenSession]
    expired: list[ExpiredSession]


_read_session = msgspec.json.Decoder(RawSession)


def raw_sessions(view: View) -> Callable[[list[StreamLength], Row], RawSession]:
    """Return a function that makes a session from its streams and a row (machine, session, revision, envelope, ...)."""
    device = None if view.device is None else str(view.device)

    def make(held: list[StreamLength], row: Row) -> RawSession:
        try:
            session = _read_session.decode(row[3])
        except msgspec.ValidationError:  # a store of version 1 may have numbers that are out of bounds now
            return records.raw_session(records.stored_session(view, held, row))
        session.revision, session.held = row[2], held
        if session.device_id != device:
            session.device_id = None
        return session

    return make
