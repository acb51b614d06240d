"""Session records in the store: upsert and lookup, and the pages of lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from sessiond.endpoint.origin import Origin
from sessiond.endpoint.server import streams
from sessiond.endpoint.server.database import Database
from sessiond.endpoint.server.keep_rule import active_ms
from sessiond.endpoint.server.pages import (
    PAGE,
    AfterGeneration,
    decode_token,
    encode_token,
)
from sessiond.endpoint.server.state import Record
from sessiond.endpoint.server.stream_state import SessionKey
from sessiond.endpoint.wire import (
    MAX_GENERATION,
    MAX_NUMBER,
    RECORDS,
    Count,
    PushSession,
    StoredSession,
    StoredStream,
    StreamLength,
    StreamsAnswer,
)
from sessiond.session import Session

Row = tuple[Any, ...]
Held = list[list[StreamLength]]
"""The current generation and length of each stream of several sessions."""
T = TypeVar("T")
_NULL = msgspec.Raw(b"null")


class View(msgspec.Struct, frozen=True, kw_only=True):
    """The user whose sessions a request may read, and the device that sends it."""

    user: str
    device: UUID | None = None
    """The only device whose id is shown in answers; the ids of other devices are hidden."""


class _Length(msgspec.Struct, frozen=True, kw_only=True):
    """Like StreamLength, without bounds: a store of version 1 may have any number."""

    name: str
    generation: int
    length: int


class RawSession(msgspec.Struct, kw_only=True, gc=False):
    """What lists answer of a session, encoded like `wire.StoredSession`. Decoded as far as an answer changes it.

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


class _Envelope(msgspec.Struct, frozen=True, kw_only=True):
    record: Session
    device_id: UUID
    parent: UUID | None
    title: str | None
    gone_at: int | None
    streams: list[_Length]
    prompts_only: bool = False
    continues: Origin | None = None


_read_envelope = msgspec.json.Decoder(_Envelope)


_GENERATION_SIZE = 128
"""Bytes of the longest generation in a list of streams, as JSON."""


TOOL, BRANCH, MODEL, PLACE = 64, 100, 64, 150
"""Characters of values in the indexes of lists. Longer ones are cut: PostgreSQL limits the rows of an index."""
BLOCK = 100
"""Sessions whose streams are read with one statement."""


def revision(db: Database, user: str, machine: str, session: str) -> int | None:
    """Return the stored revision of a record; None if there is no record."""
    row = db.execute(
        "SELECT revision FROM sessions WHERE user = ? AND machine = ? AND session = ?", (user, machine, session)
    ).fetchone()
    return None if row is None else int(row[0])


def is_whole(db: Database, user: str, machine: str, session: str) -> bool:
    """Return whether a record of a whole session is stored. A machine that lost its spool may push prompts alone."""
    stored = get_session(db, View(user=user), machine, session)
    return stored is not None and not stored.prompts_only


def envelope(item: PushSession) -> bytes:
    """Return a record as it is stored, in JSON."""
    return msgspec.json.encode(
        _Envelope(
            record=item.record,
            device_id=item.device_id,
            parent=item.parent,
            title=item.title,
            gone_at=item.gone_at,
            streams=[_Length(name=each.name, generation=each.generation, length=each.length) for each in item.streams],
            prompts_only=item.prompts_only,
            continues=item.continues,
        )
    )


def put(db: Database, changed: Mapping[SessionKey, Record], positions: Mapping[SessionKey, int]) -> None:
    """Store records in place of older revisions, at these positions of the users' sequences of changes."""
    db.executemany(
        "INSERT INTO sessions"
        " (user, machine, session, revision, change, tool, directory, branch, model, gone, started_ms, ended_ms,"
        " active_ms, place, envelope) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (user, machine, session) DO UPDATE SET revision = excluded.revision, change = excluded.change,"
        " tool = excluded.tool, directory = excluded.directory, branch = excluded.branch, model = excluded.model,"
        " gone = excluded.gone, started_ms = excluded.started_ms,"
        " ended_ms = excluded.ended_ms, active_ms = excluded.active_ms, place = excluded.place,"
        " envelope = excluded.envelope",
        [(*key, *_columns(each, positions[key])) for key, each in changed.items()],
    )


def _columns(stored: Record, position: int) -> tuple[object, ...]:
    record = stored.item.record
    started = unix_ms(record.started_at)
    ended = None if record.ended_at is None else unix_ms(record.ended_at)
    return (
        stored.item.revision,
        position,
        record.tool[:TOOL],
        record.working_directory,
        None if record.git_branch is None else record.git_branch[:BRANCH],
        None if record.model is None else record.model[:MODEL],
        0 if stored.item.gone_at is None else 1,
        started,
        ended,
        active_ms(stored.item),
        ascii_lower(record.working_directory)[:PLACE],
        stored.envelope,
    )


def ascii_lower(text: str) -> str:
    """Return a text with ASCII letters in lower case, as SQLite's `lower` does it."""
    return text.encode().lower().decode()


def get_session(db: Database, view: View, machine: str, session: str) -> StoredSession | None:
    """Return a session; None if it has no record, even if it has streams."""
    row = db.execute(
        "SELECT machine, session, revision, envelope FROM sessions WHERE user = ? AND machine = ? AND session = ?",
        (view.user, machine, session),
    ).fetchone()
    return None if row is None else stored_session(view, streams.current(db, view.user, machine, session), row)


def page(
    found: Iterable[Row],
    limit: int,
    held_of: Callable[[Sequence[Row]], Held],
    make: Callable[[list[StreamLength], Row], T],
) -> tuple[list[T], Row | None]:
    """Return the sessions of a page, and the row of the last one if more follow.

    A row begins with machine, session, revision and envelope. `held_of` returns the streams of each of some rows, and
    `make` a session from its streams and its row. A page ends after `limit` sessions or PAGE bytes, but has at least
    one session.
    """
    sessions: list[T] = []
    last, size = None, 0
    rows = iter(found)
    while block := list(islice(rows, BLOCK)):
        for row, held in zip(block, held_of(block), strict=True):
            if len(sessions) == limit:
                return sessions, last
            size += len(row[3]) + sum([len(each.name.encode()) + _GENERATION_SIZE for each in held])
            if sessions and size > PAGE:
                return sessions, last
            sessions.append(make(held, row))
            last = row
    return sessions, None


def list_streams(db: Database, user: str, machine: str, session: str, after: str | None = None) -> StreamsAnswer:
    """Return a page of the streams of a session and their generations, by name and generation.

    Raises:
        UnknownPageToken: this endpoint did not issue `after`.
    """
    position = AfterGeneration("", -1) if after is None else decode_token(after, AfterGeneration)
    found: dict[str, StoredStream] = {}
    size = 0
    following: AfterGeneration | None = None
    for name, kind, generation in streams.generations(db, user, machine, session, (position.name, position.generation)):
        size += _GENERATION_SIZE + (0 if name in found else len(name.encode()))
        if found and size > PAGE:
            break
        stream = found.setdefault(name, StoredStream(name=name, generations=[], media_type=kind or RECORDS))
        stream.generations.append(generation)
        following = AfterGeneration(name, generation.generation)
    else:
        following = None
    return StreamsAnswer(streams=list(found.values()), next=None if following is None else encode_token(following))


def stored_session(view: View, held: list[StreamLength], row: Row) -> StoredSession:
    """Return the session of a row, which begins as those of `page`, and has these streams."""
    fields = _read_envelope.decode(row[3])
    return StoredSession(
        record=fields.record,
        revision=row[2],
        device_id=fields.device_id if fields.device_id == view.device else None,
        parent=fields.parent,
        title=fields.title,
        gone_at=None if fields.gone_at is None else min(fields.gone_at, MAX_NUMBER),
        streams=[
            StreamLength(
                name=each.name,
                generation=min(each.generation, MAX_GENERATION),
                length=min(each.length, MAX_NUMBER),
            )
            for each in fields.streams
        ],
        held=held,
        prompts_only=fields.prompts_only,
        continues=fields.continues,
    )


def raw_session(stored: StoredSession) -> RawSession:
    """Return a session as lists answer it, from one that was decoded as a whole."""
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


def unix_ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
