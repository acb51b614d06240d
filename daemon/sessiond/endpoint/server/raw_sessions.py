"""Sessions as `GET /v1/changes` answers them: what is stored as JSON is copied, and not decoded and encoded again."""

from __future__ import annotations

from typing import Any

import msgspec

from sessiond.endpoint.erasure import ExpiredSession, ForgottenSession
from sessiond.endpoint.server import records
from sessiond.endpoint.server.records import View
from sessiond.endpoint.wire import Count, StoredSession, StreamLength

_NULL = msgspec.Raw(b"null")


class _RawEnvelope(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A stored record. Only what an answer changes is decoded."""

    record: msgspec.Raw
    device_id: str
    parent: msgspec.Raw
    title: msgspec.Raw
    gone_at: Count | None
    streams: list[StreamLength]
    prompts_only: bool = False
    continues: msgspec.Raw = _NULL


class RawSession(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Encoded like `wire.StoredSession`."""

    record: msgspec.Raw
    revision: int
    device_id: str | None
    parent: msgspec.Raw
    title: msgspec.Raw
    gone_at: int | None
    streams: list[StreamLength]
    held: list[StreamLength]
    prompts_only: bool
    continues: msgspec.Raw


class RawChanges(msgspec.Struct, frozen=True, kw_only=True):
    """Encoded like `wire.ChangesAnswer`."""

    sessions: list[RawSession]
    next: str
    more: bool
    forgotten: list[ForgottenSession]
    expired: list[ExpiredSession]


_read_envelope = msgspec.json.Decoder(_RawEnvelope)


def raw_session(view: View, held: list[StreamLength], row: tuple[Any, ...]) -> RawSession:
    """Return the session of a row (machine, session, revision, envelope, ...), which has these streams."""
    try:
        stored = _read_envelope.decode(row[3])
    except msgspec.ValidationError:  # a store of version 1 may have numbers that are out of bounds now
        return _bounded(records.stored_session(view, held, row))
    return RawSession(
        record=stored.record,
        revision=row[2],
        device_id=stored.device_id if stored.device_id == str(view.device) else None,
        parent=stored.parent,
        title=stored.title,
        gone_at=stored.gone_at,
        streams=stored.streams,
        held=held,
        prompts_only=stored.prompts_only,
        continues=stored.continues,
    )


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
