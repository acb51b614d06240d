"""Sessions in the answers of lists. Stored JSON is copied into them, without being decoded and encoded again."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from sessiond.decoding import json_decoder
from sessiond.endpoint.erasure import ExpiredSession, ForgottenSession
from sessiond.endpoint.server import records
from sessiond.endpoint.server.records import Row, View
from sessiond.endpoint.wire import Count, SessionsAnswer, StoredSession, StreamLength

_NULL = msgspec.Raw(b"null")


class RawSession(msgspec.Struct, kw_only=True, gc=False):
    """A stored record, decoded as far as an answer changes it, and encoded like `wire.StoredSession`.

    `revision` and `held` are not in what is stored.
    """

    record: msgspec.Raw
    revision: int = 0
    device_id: str | None
    parent: msgspec.Raw
    title: msgspec.Raw
    gone_at: Count | None
    streams: list[StreamLength]
    held: list[StreamLength] = []
    prompts_only: bool = False
    continues: msgspec.Raw = _NULL


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
            return _bounded(records.stored_session(view, held, row))
        session.revision, session.held = row[2], held
        if session.device_id != device:
            session.device_id = None
        return session

    return make


def _bounded(stored: StoredSession) -> RawSession:
    return RawSession(
        record=_raw(stored.record),
        revision=stored.revision,
        device_id=None if stored.device_id is None else str(stored.device_id),
        parent=_raw(stored.parent),
        title=_raw(stored.title),
        gone_at=stored.gone_at,
        streams=stored.streams,
        held=stored.held,
        prompts_only=stored.prompts_only,
        continues=_raw(stored.continues),
    )


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
