"""Session records in the store: upsert, one, list, and what changed since."""

from __future__ import annotations

import base64
import binascii
import sqlite3
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, TypeVar
from uuid import UUID

import msgspec

from sessiond.endpoint.server import streams
from sessiond.endpoint.wire import (
    MAX_GENERATION,
    MAX_NUMBER,
    ChangesAnswer,
    PushSession,
    SessionsAnswer,
    StoredSession,
    StoredStream,
    StreamLength,
    StreamsAnswer,
)
from sessiond.errors import SessiondError
from sessiond.session import Session

PAGE = 2 << 20
"""Bytes of records after which a page ends early: a thousand records may have a megabyte each."""
Place = TypeVar("Place", bound=msgspec.Struct)


class UnknownPageToken(SessiondError):
    """A `since` or `after` that this endpoint did not give out."""


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which sessions to list; what is None does not matter. `since`: still ongoing or ended at that time or later."""

    tool: str | None = None
    machine_id: str | None = None
    since: datetime | None = None
    text: str | None = None
    """Part of the working directory, whatever its case."""


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Whose sessions a request sees, and which device it is from."""

    user: str
    device: UUID | None = None
    """The only device whose id is shown: another one's is nobody's business."""


class _Length(msgspec.Struct, frozen=True, kw_only=True):
    """As StreamLength, without bounds: stores of version 1 may hold any number."""

    name: str
    generation: int
    length: int


class _Envelope(msgspec.Struct, frozen=True, kw_only=True):
    record: Session
    device_id: UUID
    parent: UUID | None
    title: str | None
    gone_at: int | None
    streams: list[_Length]


_read_envelope = msgspec.json.Decoder(_Envelope)


class _AfterSession(msgspec.Struct, frozen=True, array_like=True):
    started_ms: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
    """Bounded to what SQLite holds: clients may send back anything."""
    machine: str
    session: str


class _AfterChange(msgspec.Struct, frozen=True, array_like=True):
    endpoint: UUID
    change: int


def revision(db: sqlite3.Connection, user: str, machine: str, session: str) -> int | None:
    """Tell which revision of a record is stored; None: none."""
    row = db.execute(
        "SELECT revision FROM sessions WHERE user = ? AND machine = ? AND session = ?", (user, machine, session)
    ).fetchone()
    return None if row is None else int(row[0])


def envelope(item: PushSession) -> bytes:
    """Return what is stored of a record as JSON."""
    return msgspec.json.encode(
        _Envelope(
            record=item.record,
            device_id=item.device_id,
            parent=item.parent,
            title=item.title,
            gone_at=item.gone_at,
            streams=[_Length(name=each.name, generation=each.generation, length=each.length) for each in item.streams],
        )
    )


def put(db: sqlite3.Connection, user: str, machine: str, item: PushSession, encoded: bytes) -> None:
    """Store a record in place of an older revision; `encoded` is its envelope."""
    record = item.record
    db.execute(
        "INSERT INTO sessions (user, machine, session, revision, tool, directory, started_ms, ended_ms, envelope)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET revision = excluded.revision, tool = excluded.tool,"
        " directory = excluded.directory, started_ms = excluded.started_ms, ended_ms = excluded.ended_ms,"
        " envelope = excluded.envelope",
        (
            user,
            machine,
            str(record.id),
            item.revision,
            record.tool,
            record.working_directory,
            _ms(record.started_at),
            None if record.ended_at is None else _ms(record.ended_at),
            encoded,
        ),
    )


def touch(db: sqlite3.Connection, user: str, changed: Iterable[tuple[str, str]]) -> None:
    """Put sessions at the end of what /v1/changes tells, each at a place of its own."""
    change = _latest(db, user)
    for machine, session in changed:
        change += 1
        db.execute(
            "UPDATE sessions SET change = ? WHERE user = ? AND machine = ? AND session = ?",
            (change, user, machine, session),
        )
    db.execute("INSERT INTO users VALUES (?, ?) ON CONFLICT DO UPDATE SET change = excluded.change", (user, change))


def _latest(db: sqlite3.Connection, user: str) -> int:
    """Return the last place in the user's own sequence of changes."""
    row = db.execute("SELECT change FROM users WHERE user = ?", (user,)).fetchone()
    return 0 if row is None else int(row[0])


def one(db: sqlite3.Connection, view: View, machine: str, session: str) -> StoredSession | None:
    """Look up a session; None without a record, even if streams of it are held."""
    row = db.execute(
        "SELECT machine, session, revision, envelope FROM sessions WHERE user = ? AND machine = ? AND session = ?",
        (view.user, machine, session),
    ).fetchone()
    return None if row is None else _stored(db, view, *row)


def listed(db: sqlite3.Connection, view: View, wanted: Filter, after: str | None, limit: int) -> SessionsAnswer:
    """List sessions, the newest start first.

    Raises:
        UnknownPageToken: `after` is none of ours.
    """
    where: list[str] = ["user = ?"]
    values: list[str | int] = [view.user]
    if wanted.tool is not None:
        where.append("tool = ?")
        values.append(wanted.tool)
    if wanted.machine_id is not None:
        where.append("machine = ?")
        values.append(wanted.machine_id)
    if wanted.since is not None:
        where.append("(ended_ms IS NULL OR ended_ms >= ?)")
        values.append(_ms(wanted.since))
    if wanted.text is not None:
        where.append("instr(lower(directory), lower(?)) > 0")
        values.append(wanted.text)
    if after is not None:
        place = _unseal(after, _AfterSession)
        where.append("(started_ms, machine, session) < (?, ?, ?)")
        values += [place.started_ms, place.machine, place.session]
    # Only fixed text is joined; every value is a parameter.
    found = db.execute(
        f"SELECT machine, session, revision, envelope, started_ms FROM sessions WHERE {' AND '.join(where)}"  # noqa: S608
        " ORDER BY started_ms DESC, machine DESC, session DESC LIMIT ?",
        (*values, limit + 1),
    )
    rows, more = _page(found, limit)
    follow = None
    if more:
        machine, session, _, _, started = rows[-1]
        follow = _seal(_AfterSession(started, machine, session))
    return SessionsAnswer(sessions=[_stored(db, view, *row[:4]) for row in rows], next=follow)


def changes(db: sqlite3.Connection, view: View, endpoint: UUID, since: str | None, limit: int) -> ChangesAnswer:
    """List the sessions that changed after `since`, each once, in the order of their last change.

    Raises:
        UnknownPageToken: `since` is from another endpoint, or from a later life of this one (a backup was restored).
    """
    latest = _latest(db, view.user)
    place = _AfterChange(endpoint, 0) if since is None else _unseal(since, _AfterChange)
    if place.endpoint != endpoint or not 0 <= place.change <= latest:
        raise UnknownPageToken("this endpoint did not give out that place", hint="start again without it")
    found = db.execute(
        "SELECT machine, session, revision, envelope, change FROM sessions WHERE user = ? AND change > ?"
        " ORDER BY change LIMIT ?",
        (view.user, place.change, limit + 1),
    )
    rows, more = _page(found, limit)
    seen = rows[-1][4] if more else latest
    return ChangesAnswer(
        sessions=[_stored(db, view, *row[:4]) for row in rows],
        next=_seal(_AfterChange(endpoint, seen)),
        more=more,
    )


def _page(found: sqlite3.Cursor, limit: int) -> tuple[list[tuple[Any, ...]], bool]:
    """Return the rows of a page, `limit` or PAGE bytes of them and one at least, and whether more follow."""
    rows: list[tuple[Any, ...]] = []
    size = 0
    for row in found:
        size += len(row[3])
        if len(rows) == limit or (rows and size > PAGE):
            return rows, True
        rows.append(row)
    return rows, False


def held(db: sqlite3.Connection, user: str, machine: str, session: str) -> StreamsAnswer:
    """List the streams of a session with all their generations."""
    return StreamsAnswer(
        streams=[
            StoredStream(name=name, generations=[each.public() for each in streams.list_generations(db, stream)])
            for stream, name in streams.names(db, user, machine, session)
        ]
    )


def _stored(
    db: sqlite3.Connection, view: View, machine: str, session: str, number: int, envelope: bytes
) -> StoredSession:
    beside = _read_envelope.decode(envelope)
    return StoredSession(
        record=beside.record,
        revision=number,
        device_id=beside.device_id if beside.device_id == view.device else None,
        parent=beside.parent,
        title=beside.title,
        gone_at=None if beside.gone_at is None else min(beside.gone_at, MAX_NUMBER),
        streams=[
            StreamLength(
                name=each.name,
                generation=min(each.generation, MAX_GENERATION),
                length=min(each.length, MAX_NUMBER),
            )
            for each in beside.streams
        ],
        held=streams.current(db, view.user, machine, session),
    )


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _seal(place: msgspec.Struct) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).rstrip(b"=").decode()


def _unseal(sealed: str, kind: type[Place]) -> Place:
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4)), type=kind)
    except (ValueError, binascii.Error, msgspec.MsgspecError, RecursionError) as error:
        raise UnknownPageToken("this endpoint did not give out that place", hint="start again without it") from error
