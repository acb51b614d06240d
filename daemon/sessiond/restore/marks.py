"""Finds out which messages of a restored session were written on another machine."""

from __future__ import annotations

from uuid import UUID

import msgspec

from sessiond.clock import now_ms
from sessiond.ingest.pipeline import decode
from sessiond.restored import Mark, Origin
from sessiond.session import Fold
from sessiond.sources import find_sources
from sessiond.sources.plan import ArchivedSession


class Here(msgspec.Struct, frozen=True, kw_only=True):
    """This machine, the project's directory on it, and the id of the endpoint that sessions are restored from."""

    machine_id: str
    directory: str
    endpoint: str


def marked(marks: dict[UUID, Mark], session: ArchivedSession, own: ArchivedSession | None, here: Here) -> None:
    """Add the mark of a session, unless all of it was written on this machine.

    `own` is what the endpoint has of the session from this machine. Its messages count here and stay counted.
    """
    origin = session.record.machine_id or ""
    if origin == here.machine_id:
        return
    mine = message_keys(own) if own is not None else {}
    keys = b"".join(key.to_bytes(8, "little") for key in message_keys(session) if key not in mine)
    identity = session.record.id
    marks[identity] = Mark(
        continues=Origin(machine_id=origin, id=identity),
        directory=here.directory,
        endpoint=here.endpoint,
        restored_ms=now_ms(),
        keys=keys,
    )


def message_keys(session: ArchivedSession) -> dict[int, None]:
    """Return the keys of the messages in the main thread, in order."""
    source = next((each for each in find_sources() if each.tool == session.record.tool), None)
    streams = [stream for stream in session.streams if stream.has_records]
    main = [stream for stream in streams if stream.name == "main"] or streams
    found: dict[int, None] = {}
    for stream in main if source is not None else ():
        fold = Fold()
        for line in stream.lines():
            decode(source, line, fold, now_ms())  # type: ignore[arg-type]  # not None here
        found |= dict.fromkeys(fold.messages)
    return found
