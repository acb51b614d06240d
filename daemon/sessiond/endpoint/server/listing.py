"""The list of a user's sessions, filtered and a page at a time."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec

from sessiond.endpoint.server.database import Database
from sessiond.endpoint.server.pages import AfterSession, UnknownPageToken, decode_token, encode_token
from sessiond.endpoint.server.records import View, page, unix_ms
from sessiond.endpoint.wire import SessionsAnswer


class Order(StrEnum):
    """The order of a list, newest first. Its values are those of the parameter `sort`."""

    STARTED = "started"
    ACTIVE = "active"
    """Orders sessions by their end, and an ongoing one by its last record."""


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """The filters of a list of sessions; None matches all."""

    tool: str | None = None
    machine_id: str | None = None
    id: str | None = None
    """The beginning of the session's id."""
    since: datetime | None = None
    """Sessions that are ongoing, or ended at that time or later."""
    until: datetime | None = None
    """Sessions that started before that time."""
    text: str | None = None
    """Part of the working directory; case is ignored."""
    branch: str | None = None
    model: str | None = None
    """Part of the model's name; case is ignored."""
    gone: bool = False
    """Lists only sessions whose tool deleted their files."""


# A client that numbers its revisions by the clock, as ours does, raises them with each change of an ongoing session.
# Without that, a session whose machine died would be the most recently active one forever.
_ACTIVE = "coalesce(ended_ms, CASE WHEN started_ms > revision THEN started_ms ELSE revision END)"
_MOMENTS = {Order.STARTED: "started_ms", Order.ACTIVE: _ACTIVE}


def list_sessions(
    db: Database, view: View, wanted: Filter, after: str | None, limit: int, order: Order = Order.STARTED
) -> SessionsAnswer:
    """Return a page of sessions, newest first.

    Raises:
        UnknownPageToken: this endpoint did not issue `after` for this order.
    """
    where, values = _conditions(view, wanted)
    moment = _MOMENTS[order]
    if after is not None:
        position = decode_token(after, AfterSession)
        if position.order != order:
            raise UnknownPageToken("that position belongs to another order", hint="start again without it")
        where.append(f"({moment}, machine, session) < (?, ?, ?)")
        values += [position.moment_ms, position.machine, position.session]
    # Only constant text is joined; every value is a parameter.
    found = db.execute(
        f"SELECT machine, session, revision, envelope, {moment} AS moment FROM sessions"
        f" WHERE {' AND '.join(where)} ORDER BY moment DESC, machine DESC, session DESC LIMIT ?",
        (*values, limit + 1),
    )
    sessions, last = page(db, view, found, limit)
    following = None
    if last is not None:
        machine, session, _, _, reached = last
        following = encode_token(AfterSession(reached, machine, session, order.value))
    return SessionsAnswer(sessions=sessions, next=following)


def _conditions(view: View, wanted: Filter) -> tuple[list[str], list[str | int]]:
    """Return the conditions of a filter in SQL, and their values."""
    given: list[tuple[str, str | int | None]] = [
        ("user = ?", view.user),
        ("tool = ?", wanted.tool),
        ("machine = ?", wanted.machine_id),
        ("(ended_ms IS NULL OR ended_ms >= ?)", None if wanted.since is None else unix_ms(wanted.since)),
        ("started_ms < ?", None if wanted.until is None else unix_ms(wanted.until)),
        ("instr(lower(directory), lower(?)) > 0", wanted.text),
        ("branch = ?", wanted.branch),
        ("instr(lower(model), lower(?)) > 0", wanted.model),
    ]
    where = [condition for condition, value in given if value is not None]
    values = [value for _, value in given if value is not None]
    if wanted.id is not None:
        where.append("session >= ? AND session < ?")
        values += [wanted.id, wanted.id + "~"]
    if wanted.gone:
        where.append("gone = 1")
    return where, values
