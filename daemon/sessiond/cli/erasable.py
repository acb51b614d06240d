"""The sessions that `forget` erases, chosen by the arguments of the command."""

from __future__ import annotations

import argparse
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from sessiond.cli.lookup import find_session
from sessiond.cli.selection import Directory, Selection, below_home
from sessiond.errors import NotFound
from sessiond.spool import Spool
from sessiond.spool.rows import SessionState

if TYPE_CHECKING:
    from sessiond.config import Config
    from sessiond.endpoint.wire import StoredSession

TIMEOUT = 10.0
"""Seconds for each page of the endpoint's list. Without an answer, only this machine's sessions are chosen."""


class Copy(msgspec.Struct, frozen=True, kw_only=True):
    """A session at the endpoint that is not in this machine's spool."""

    session: str
    machine: str
    tool: str
    size: int
    """Bytes of its streams at the endpoint."""
    active_ms: int
    name: str | None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be erased. `elsewhere`: ids of sessions that this machine has not captured."""

    sessions: list[SessionState]
    elsewhere: list[str]
    copies: list[Copy]
    """The copies of these sessions that other machines have at the endpoint, if it was asked."""
    sizes: dict[int, int]
    """Captured bytes by the row of the session."""
    files: list[str]
    """The tools' files of these sessions, which are not changed."""
    everywhere: bool

    @property
    def ids(self) -> list[str]:
        """The ids of all sessions."""
        return [*(str(each.uuid) for each in self.sessions), *self.elsewhere]


def list_stored(config: Config, environ: Mapping[str, str]) -> list[StoredSession]:
    """Return the sessions of all machines at the endpoint. Raises: EndpointError, ConfigError."""
    from sessiond.cli.remote import fetch, open_client

    client = open_client(config, environ, timeout=TIMEOUT)
    try:
        return fetch(client, Selection(), lambda: None)
    finally:
        client.close()


def make_plan(spool: Spool, args: argparse.Namespace, stored: Sequence[StoredSession] = ()) -> Plan:
    """Return what the arguments of `forget` choose; `stored` are the sessions at the endpoint. Raises: NotFound."""
    chosen: dict[str, SessionState] = {}
    elsewhere: list[str] = []
    if args.excluded:
        elsewhere = spool.forgotten.left_at_endpoint()
    elif args.id:
        chosen, elsewhere = _by_id(spool, args, stored)
    else:
        chosen, elsewhere = _by_filters(spool, args, stored)
    if not args.keep_children:
        elsewhere = _with_children(spool, chosen, elsewhere, stored)
    files: list[str] = []
    sizes: dict[int, int] = {}
    for session in chosen.values():
        streams = [*spool.catalog.streams(session.id), *spool.catalog.side_streams(session.id)]
        sizes[session.id] = sum(stream.folded for stream in streams)
        for stream in streams:
            files += [file.path for file in spool.catalog.files(stream.id) if file.gone_ms is None]
    outer = dict.fromkeys(path.partition("::")[0] for path in files)
    return Plan(
        sessions=list(chosen.values()),
        elsewhere=list(dict.fromkeys(each for each in elsewhere if each not in chosen)),
        copies=list(_copies(stored, chosen, set(elsewhere))),
        sizes=sizes,
        files=[path for path in outer if os.path.exists(path)],
        everywhere=not args.here,
    )


def _by_id(
    spool: Spool, args: argparse.Namespace, stored: Sequence[StoredSession]
) -> tuple[dict[str, SessionState], list[str]]:
    """Return the sessions of this machine with these ids, and the ids of those that only the endpoint may have."""
    chosen: dict[str, SessionState] = {}
    elsewhere: list[str] = []
    for text in args.id:
        wanted = text.strip().lower()
        found = {str(each.record.id) for each in stored if wanted and str(each.record.id).startswith(wanted)}
        if len(found | {str(each) for each in spool.stats.ids(wanted) if wanted}) > 1:
            raise NotFound(f"several sessions of your machines start with {text!a}", hint="give more of the id")
        try:
            session = find_session(spool, text)
            chosen[str(session.uuid)] = session
        except NotFound:
            with suppress(ValueError):
                found = found or {str(UUID(wanted))}  # the endpoint may have it, whatever it lists
            if args.here or not found:
                raise
            elsewhere += found
    return chosen, elsewhere


def _by_filters(
    spool: Spool, args: argparse.Namespace, stored: Sequence[StoredSession]
) -> tuple[dict[str, SessionState], list[str]]:
    """Return the sessions that match, and the ids of those that only the endpoint has.

    All copies of a session are erased. So each of them must be old enough, and one in the directory suffices.
    """
    from sessiond.cli.remote import make_row

    home = args.environ.get("HOME", "")
    above = None if args.directory is None else os.path.abspath(args.directory).rstrip("/")
    anywhere = None if above is None else Directory(below_home(above, home))
    inside: dict[str, None] = {}
    recent: set[str] = set()
    for each in stored:
        row, identity = make_row(each), str(each.record.id)
        if anywhere is None or anywhere.contains(each.record.working_directory, home):
            inside[identity] = None
        if args.before is not None and (row.ongoing or row.active_ms >= args.before):
            recent.add(identity)
    chosen: dict[str, SessionState] = {}
    for session in spool.catalog.sessions():
        identity = str(session.uuid)
        if args.before is not None and (session.ongoing or session.active_ms >= args.before):
            recent.add(identity)
        elif identity not in recent and (above is None or identity in inside or _is_below(session, above)):
            chosen[identity] = session
    return chosen, [identity for identity in inside if identity not in recent and identity not in chosen]


def _copies(
    stored: Sequence[StoredSession], chosen: Mapping[str, SessionState], elsewhere: Collection[str]
) -> Iterator[Copy]:
    """Iterate over the endpoint's copies that other machines pushed, or this one before its spool was lost."""
    from sessiond.cli.remote import make_row

    for each in stored:
        session = str(each.record.id)
        mine = chosen.get(session)
        if session not in elsewhere and mine is None:
            continue
        if mine is None or mine.record is None or mine.record.machine_id != each.record.machine_id:
            yield Copy(
                session=session,
                machine=each.record.machine_id or "",
                tool=each.record.tool,
                size=sum(stream.length for stream in each.held),
                active_ms=make_row(each).active_ms,
                name=each.title,
            )


def _is_below(session: SessionState, above: str) -> bool:
    directory = session.record.working_directory if session.record else ""
    return directory.rstrip("/") == above or directory.startswith(above + "/")


def _with_children(
    spool: Spool, chosen: dict[str, SessionState], elsewhere: Iterable[str], stored: Sequence[StoredSession]
) -> list[str]:
    """Add sessions that were started or forked from the chosen ones, which have parts of the same text.

    Those in the spool are added to `chosen`; returned are the ids of all others.
    """
    children: dict[str, list[str]] = {}
    for each in stored:
        if each.parent is not None:
            children.setdefault(str(each.parent), []).append(str(each.record.id))
    found: dict[str, None] = {}
    pending = [*chosen, *elsewhere]
    while pending:
        session = pending.pop(0)
        if session in found:
            continue
        found[session] = None
        for child in spool.catalog.children(UUID(session)):
            chosen.setdefault(str(child.uuid), child)
            pending.append(str(child.uuid))
        pending += children.get(session, ())
    for session in found:  # the endpoint may know of a fork before this machine does
        mine = None if session in chosen else spool.catalog.session(UUID(session))
        if mine is not None and mine.record is not None:
            chosen[session] = mine
    return [session for session in found if session not in chosen]
