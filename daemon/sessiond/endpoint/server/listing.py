"""The list of a user's sessions, filtered and a page at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

import msgspec

from sessiond.endpoint.server import streams
from sessiond.endpoint.server.database import Database
from sessiond.endpoint.server.pages import AfterSession, UnknownPageToken, decode_token, encode_token
from sessiond.endpoint.server.raw_sessions import RawSessions, raw_sessions
from sessiond.endpoint.server.records import (
    BRANCH,
    PLACE,
    TOOL,
    Held,
    Row,
    View,
    ascii_lower,
    page,
    unix_ms,
)


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


_MOMENTS = {Order.STARTED: "started_ms", Order.ACTIVE: "active_ms"}


def list_sessions(
    db: Database, view: View, wanted: Filter, after: str | None, limit: int, order: Order = Order.STARTED
) -> RawSessions:
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
    # Only constant text is joined; every value is a parameter. The inner query reads nothing but an index, and the
    # outer one reads the sessions of the page.
    found = db.execute(
        "SELECT s.machine, s.session, s.revision, s.envelope, k.moment FROM"
        f" (SELECT machine, session, {moment} AS moment FROM sessions WHERE {' AND '.join(where)}"
        f" ORDER BY {moment} DESC, machine DESC, session DESC LIMIT ?) AS k JOIN sessions AS s"
        " ON s.user = ? AND s.machine = k.machine AND s.session = k.session"
        " ORDER BY k.moment DESC, k.machine DESC, k.session DESC",
        (*values, limit + 1, view.user),
    )

    def held(rows: Sequence[Row]) -> Held:
        keys = [row[:2] for row in rows]
        found = streams.current_of(db, view.user, keys)
        return [found.get(key, []) for key in keys]

    sessions, last = page(found, limit, held, raw_sessions(view))
    following = None
    if last is not None:
        machine, session, _, _, reached = last
        following = encode_token(AfterSession(reached, machine, session, order.value))
    return RawSessions(sessions=sessions, next=following)


def _conditions(view: View, wanted: Filter) -> tuple[list[str], list[str | int]]:
    """Return the conditions of a filter in SQL, and their values."""
    given: list[tuple[str, str | int | None]] = [
        ("user = ?", view.user),
        ("tool = ?", _cut(wanted.tool, TOOL)),
        # As an expression, because the primary key would be used otherwise, and each session of the machine be read.
        ("machine || '' = ?", wanted.machine_id),
        ("(ended_ms IS NULL OR ended_ms >= ?)", None if wanted.since is None else unix_ms(wanted.since)),
        ("started_ms < ?", None if wanted.until is None else unix_ms(wanted.until)),
        ("branch = ?", _cut(wanted.branch, BRANCH)),
        ("instr(lower(model), lower(?)) > 0", wanted.model),
    ]
    where = [condition for condition, value in given if value is not None]
    values = [value for _, value in given if value is not None]
    if wanted.text is not None:
        # The index has the beginning of the directory. Only of long ones, the rest is read.
        where.append(
            f"(instr(place, ?) > 0 OR length(place) = {PLACE} AND (SELECT instr(lower(whole.directory), ?)"
            " FROM sessions AS whole WHERE whole.user = sessions.user AND whole.machine = sessions.machine"
            " AND whole.session = sessions.session) > 0)"
        )
        values += [ascii_lower(wanted.text)] * 2
    if wanted.id is not None:
        where.append("session >= ? AND session < ?")
        values += [wanted.id, wanted.id + "~"]
    if wanted.gone:
        where.append("gone = 1")
    return where, values


def _cut(value: str | None, length: int) -> str | None:
    return None if value is None else value[:length]
