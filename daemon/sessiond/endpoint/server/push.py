"""A push, line by line: each is stored whole or answered with a problem, and never disturbs its neighbours.

Everything is idempotent: a client that lost an answer sends the same lines again and learns that they
are duplicates. A record is known by its revision, an append by its place and its bytes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import sqlite3
import sys
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from sessiond import zstd
from sessiond.endpoint.server import machines, records, streams
from sessiond.endpoint.server.digests import EMPTY
from sessiond.endpoint.server.store import Store
from sessiond.endpoint.wire import (
    MAX_RECORD,
    PROBLEMS,
    Limits,
    Problem,
    Push,
    PushAppend,
    PushGeneration,
    PushSession,
    Result,
)
from sessiond.errors import SessiondError

STORED = Result(status="stored")
DUPLICATE = Result(status="duplicate")
MAX_SAID = 200
_decoder = msgspec.json.Decoder(Push)


class Bad(SessiondError):
    """A line is answered with a problem; `kind` is one of PROBLEMS."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind

    def result(self, where: str) -> Result:
        """Make the answer to the line that is named."""
        return problem(self.kind, f"{where}: {self.message}")


class _Named(msgspec.Struct):
    """As much of a bad line as tells which it was."""

    op: Any = None
    session: Any = None
    stream: Any = None
    record: Any = None


def problem(kind: str, detail: str | None = None, **known: Any) -> Result:
    """Make the answer to a line that was not stored."""
    return Result(status="problem", problem=Problem(type=kind, title=PROBLEMS[kind], detail=detail, **known))


def check_name(name: str, what: str) -> str:
    """Return a machine id or a stream name as it is, if it can be a part of an address.

    Raises:
        Bad: it has a control character, or an empty, `.` or `..` segment.
    """
    if not 1 <= len(name) <= 200:
        raise Bad("invalid", f"{what} has {len(name)} characters, not 1 to 200")
    if any(ord(each) < 32 or 127 <= ord(each) < 160 for each in name):
        raise Bad("invalid", f"{what} has a control character")
    if any(segment in {"", ".", ".."} for segment in name.split("/")):
        raise Bad("invalid", f"{what} has an empty, '.' or '..' segment")
    return name


class Pushing:
    """One push on its way into the store."""

    def __init__(self, store: Store, limits: Limits, device: UUID | None = None, batch: str = "") -> None:
        self.store = store
        self.limits = limits
        self.device = device
        self.batch = batch
        self._changed: dict[tuple[str, str], None] = {}

    def run(self, lines: list[bytes]) -> list[Result]:
        """Store the lines in one transaction and answer each, in order.

        Raises:
            StateError: the store can't take anything now; nothing of the push is stored.
        """
        with self.store.write() as db:
            results = [self._line(db, number, line) for number, line in enumerate(lines, 1)]
            if self._changed:
                records.touch(db, self._changed)
            if self.device is not None and self.batch:
                machines.note_batch(db, str(self.device), self.batch)
        return results

    def _line(self, db: sqlite3.Connection, number: int, line: bytes) -> Result:
        try:
            item = self._decode(line)
        except Bad as bad:
            return bad.result(_name(number, line))
        db.execute("SAVEPOINT item")
        try:
            result = self._item(db, item)
        except Bad as bad:
            db.execute("ROLLBACK TO item")
            result = bad.result(_name(number, line))
        except (sqlite3.IntegrityError, sqlite3.DataError, OverflowError) as error:
            # This line is at fault; any other error of SQLite is the whole push's.
            db.execute("ROLLBACK TO item")
            self.store.digests.clear()
            result = problem("invalid", f"{_name(number, line)}: {error}")
        db.execute("RELEASE item")
        return result

    def _decode(self, line: bytes) -> Push:
        try:
            item: Push = _decoder.decode(line)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise Bad("invalid", str(error)) from error
        if isinstance(item, PushSession) and len(line) > MAX_RECORD:
            raise Bad("too-large", f"a session line may have {MAX_RECORD} bytes")
        return item

    def _item(self, db: sqlite3.Connection, item: Push) -> Result:
        if isinstance(item, PushSession):
            return self._session(db, item)
        check_name(item.machine_id, "machine_id")
        check_name(item.stream, "stream")
        if self.device is not None and not machines.claim(db, item.machine_id, str(self.device)):
            return _taken(item.machine_id)
        result = self._append(db, item) if isinstance(item, PushAppend) else self._generation(db, item)
        if result is STORED:
            self._changed[item.machine_id, str(item.session)] = None
        if result.problem is not None:
            return result
        # An append tells how long its stream is only up to itself: of its own generation, more is no news.
        return _told(result, db, item.machine_id, str(item.session), [(item.stream, item.generation, sys.maxsize)])

    def _session(self, db: sqlite3.Connection, item: PushSession) -> Result:
        record = item.record
        if record.machine_id is None:
            raise Bad("invalid", "record.machine_id is null")
        machine = check_name(record.machine_id, "record.machine_id")
        for stream in item.streams:
            check_name(stream.name, "the name of a stream")
        if not record.tool:
            raise Bad("invalid", "record.tool is empty")
        if not 0 <= record.message_count < 2**31:
            raise Bad("invalid", f"record.message_count is {record.message_count}, not a 32-bit count")
        for moment in (record.started_at, record.ended_at):
            if moment is not None and moment.tzinfo is None:
                raise Bad("invalid", f"{moment.isoformat()} has no time zone")
        if not machines.claim(db, machine, str(item.device_id)):
            return _taken(machine)
        stored = records.revision(db, machine, str(record.id))
        if stored is not None and stored >= item.revision:
            if stored == item.revision:
                return DUPLICATE
            return problem("stale", f"session {record.id}: revision {item.revision} is not above", revision=stored)
        records.put(db, machine, item)
        self._changed[machine, str(record.id)] = None
        said = [(stream.name, stream.generation, stream.length) for stream in item.streams]
        return _told(STORED, db, machine, str(record.id), said)

    def _append(self, db: sqlite3.Connection, item: PushAppend) -> Result:
        appended, own, frame = self._bytes(item)
        stream = streams.find(db, item.machine_id, str(item.session), item.stream)
        to = None if stream is None else streams.life(db, stream, item.generation)
        if stream is None or to is None:
            if item.generation > 0:
                return self._mismatch(db, stream, item, "no-generation")
            if item.offset > 0:
                return self._mismatch(db, stream, item, "offset-mismatch")
        elif item.offset != to.length:
            end = item.offset + item.length
            if end <= to.length and streams.read(db, stream, to.generation, item.offset, end) == appended:
                return DUPLICATE
            return self._mismatch(db, stream, item, "offset-mismatch")
        room = self.store.room(db)
        if room is not None and room < len(frame or appended):
            raise Bad("quota", "the endpoint's quota is used up")
        if stream is None or to is None:
            stream = streams.find_or_make(db, item.machine_id, str(item.session), item.stream)
            streams.begin(db, stream, 0, None, 0)
            to = streams.life(db, stream, 0)
            assert to is not None
        streams.append(db, self.store.digests, stream, to, appended=appended, own=own, frame=frame)
        return STORED

    def _bytes(self, item: PushAppend) -> tuple[bytes, hashlib._Hash, bytes | None]:
        if item.length == 0:
            raise Bad("invalid", "an append without bytes")
        if item.length > self.limits.segment:
            raise Bad("too-large", f"a segment may have {self.limits.segment} bytes")
        frame = None
        if item.encoding == "zstd":
            try:
                frame = base64.b64decode(item.data, validate=True)
                appended = zstd.decompress(frame, item.length)
            except (binascii.Error, ValueError, zstd.Undecodable) as error:
                raise Bad("invalid", f"data: {error}") from error
        else:
            appended = item.data.encode()
        if len(appended) != item.length:
            raise Bad("invalid", f"length is {item.length}, the data has {len(appended)} bytes")
        own = hashlib.sha256(appended)
        carried = own if frame is None else hashlib.sha256(frame)
        if carried.hexdigest() != item.sha256:
            raise Bad("invalid", "sha256 is not that of the data")
        return appended, own, frame

    def _generation(self, db: sqlite3.Connection, item: PushGeneration) -> Result:
        if item.generation == 0:
            raise Bad("invalid", "generation 0 is made by its first append")
        if item.previous is None and item.keep:
            raise Bad("invalid", "keep without a previous generation")
        if item.previous is not None and item.previous >= item.generation:
            raise Bad("invalid", "previous is not below generation")
        stream = streams.find(db, item.machine_id, str(item.session), item.stream)
        existing = None if stream is None else streams.life(db, stream, item.generation)
        if existing is not None:
            if (existing.previous, existing.keep) == (item.previous, item.keep):
                return DUPLICATE
            return self._mismatch(db, stream, item, "offset-mismatch")
        current = None if stream is None else streams.life(db, stream)
        if current is not None and current.generation > item.generation:
            return self._mismatch(db, stream, item, "offset-mismatch")
        if item.keep:
            source = None if stream is None or item.previous is None else streams.life(db, stream, item.previous)
            if source is None:
                return self._mismatch(db, stream, item, "no-generation")
            if source.length < item.keep:
                return self._mismatch(db, stream, item, "offset-mismatch")
        stream = streams.find_or_make(db, item.machine_id, str(item.session), item.stream)
        streams.begin(db, stream, item.generation, item.previous, item.keep)
        if item.previous is not None:
            self.store.digests.branch(stream, item.generation, item.previous, item.keep)
        return STORED

    def _mismatch(
        self, db: sqlite3.Connection, stream: int | None, item: PushAppend | PushGeneration, kind: str
    ) -> Result:
        """Answer with where the stream stands, so that the client goes on from there without another call."""
        detail = f"stream {item.stream} of session {item.session}"
        current = None if stream is None else streams.life(db, stream)
        if stream is None or current is None:
            return problem(kind, f"{detail}: nothing of it is held", generation=0, offset=0, sha256=EMPTY)
        return problem(
            kind,
            f"{detail}: generation {current.generation} is held up to {current.length}",
            generation=current.generation,
            offset=current.length,
            sha256=streams.digest(db, self.store.digests, stream, current),
        )


def _told(
    result: Result, db: sqlite3.Connection, machine: str, session: str, said: Sequence[tuple[str, int, int]]
) -> Result:
    ahead = streams.ahead(db, machine, session, said)
    return msgspec.structs.replace(result, ahead=ahead) if ahead else result


def _taken(machine: str) -> Result:
    return problem(
        "machine-taken",
        f"another device pushes as {machine}: set machine_id in the config of one of them,"
        f" or let this one take it over on the endpoint: sessiond serve adopt {machine}",
    )


def _name(number: int, line: bytes) -> str:
    """Name a line for people: its number, and what it seems to be about."""
    try:
        named = msgspec.json.decode(line, type=_Named)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return f"line {number}"
    session = named.session or (named.record.get("id") if isinstance(named.record, dict) else None)
    about = [named.op, "of session" if session else None, session, "stream" if named.stream else None, named.stream]
    said = " ".join(str(each)[:MAX_SAID] for each in about if each)
    return f"line {number} ({said})" if said else f"line {number}"
