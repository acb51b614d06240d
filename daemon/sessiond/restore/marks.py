"""Finds out which messages of a restored session were written on another machine."""

from __future__ import annotations

from uuid import UUID

import msgspec

from sessiond.clock import now_ms
from sessiond.ingest.pipeline import decode
from sessiond.restored import Mark, Origin
from sessiond.session import Fold, Session, session_id
from sessiond.sources import find_sources
from sessiond.sources.base import Source
from sessiond.sources.plan import ArchivedSession, Plan
from sessiond.sources.recipes import find_recipe


class Here(msgspec.Struct, frozen=True, kw_only=True):
    """This machine, the project's directory on it, and the id of the endpoint that sessions are restored from."""

    machine_id: str
    directory: str
    endpoint: str


def identity_here(session: Session, plan: Plan, machine_id: str) -> UUID:
    """Return the id that a restored session gets on this machine: another one if its tool has local ids."""
    source = _source(session.tool)
    if source is None or not source.local_ids or plan.native_id is None:
        return session.id
    return session_id(session.tool, plan.native_id, machine_id)


def marked(
    marks: dict[UUID, Mark], session: ArchivedSession, own: ArchivedSession | None, here: Here, identity: UUID
) -> None:
    """Add the mark of a session with its id on this machine.

    `own` is what the endpoint has of that id from this machine. Its messages count here and stay counted.
    """
    mine = message_keys(own) if own is not None else {}
    keys = b"".join(key.to_bytes(8, "little") for key in message_keys(session) if key not in mine)
    marks[identity] = Mark(
        continues=Origin(machine_id=session.record.machine_id or "", id=session.record.id),
        directory=here.directory,
        endpoint=here.endpoint,
        restored_ms=now_ms(),
        keys=keys,
    )


def message_keys(session: ArchivedSession) -> dict[int, None]:
    """Return the keys of the messages in the main thread, in order."""
    source, recipe = _source(session.record.tool), find_recipe(session.record.tool)
    streams = [stream for stream in session.streams if stream.has_records]
    # Without the subagents: where messages have no ids, their positions are their keys, and all threads share them.
    main = [stream for stream in streams if recipe is not None and stream.name in recipe.threads] or streams
    found: dict[int, None] = {}
    for stream in main if source is not None else ():
        fold = Fold()
        for line in stream.lines():
            decode(source, line, fold, now_ms())  # type: ignore[arg-type]  # not None here
        found |= dict.fromkeys(fold.messages)
    return found


def _source(tool: str) -> Source | None:
    return next((each for each in find_sources() if each.tool == tool), None)
