"""The sessions that `forget` erases, chosen by the arguments of the command."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from uuid import UUID

import msgspec

from sessiond.cli.lookup import find_session
from sessiond.errors import NotFound
from sessiond.spool import Spool
from sessiond.spool.rows import SessionState


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be erased. `elsewhere`: ids of sessions that this machine has not captured."""

    sessions: list[SessionState]
    elsewhere: list[str]
    sizes: dict[int, int]
    """Captured bytes by the row of the session."""
    files: list[str]
    """The tools' files of these sessions, which are not changed."""
    everywhere: bool

    @property
    def ids(self) -> list[str]:
        """The ids of all sessions."""
        return [*(str(each.uuid) for each in self.sessions), *self.elsewhere]


def make_plan(spool: Spool, args: argparse.Namespace) -> Plan:
    """Return what the arguments of `forget` choose. Raises: NotFound."""
    elsewhere: list[str] = []
    if args.excluded:
        elsewhere = spool.forgotten.left_at_endpoint()
        chosen: list[SessionState] = []
    elif args.id:
        chosen, elsewhere = _by_id(spool, args)
    else:
        chosen = _by_filters(spool, args)
    if not args.keep_children:
        chosen = _with_children(spool, chosen)
    files: list[str] = []
    sizes: dict[int, int] = {}
    for session in chosen:
        streams = [*spool.catalog.streams(session.id), *spool.catalog.side_streams(session.id)]
        sizes[session.id] = sum(stream.folded for stream in streams)
        for stream in streams:
            files += [file.path for file in spool.catalog.files(stream.id) if file.gone_ms is None]
    outer = dict.fromkeys(path.partition("::")[0] for path in files)
    return Plan(
        sessions=chosen,
        elsewhere=elsewhere,
        sizes=sizes,
        files=[path for path in outer if os.path.exists(path)],
        everywhere=not args.here,
    )


def _by_id(spool: Spool, args: argparse.Namespace) -> tuple[list[SessionState], list[str]]:
    """Return the sessions with these ids, and whole ids that are not known here: the endpoint may have them."""
    chosen: dict[int, SessionState] = {}
    elsewhere: list[str] = []
    for text in args.id:
        try:
            session = find_session(spool, text)
            chosen[session.id] = session
        except NotFound:
            try:
                identity = str(UUID(text.strip()))
            except ValueError:
                identity = ""
            if args.here or not identity:
                raise
            elsewhere.append(identity)
    return list(chosen.values()), elsewhere


def _by_filters(spool: Spool, args: argparse.Namespace) -> list[SessionState]:
    above = None if args.directory is None else os.path.abspath(args.directory).rstrip("/")
    return [
        session
        for session in spool.catalog.sessions()
        if (args.before is None or (session.active_ms < args.before and not session.ongoing))
        and (above is None or _is_below(session, above))
    ]


def _is_below(session: SessionState, above: str) -> bool:
    directory = session.record.working_directory if session.record else ""
    return directory.rstrip("/") == above or directory.startswith(above + "/")


def _with_children(spool: Spool, chosen: Iterable[SessionState]) -> list[SessionState]:
    """Return sessions with those that were started or forked from them: they have parts of the same text."""
    found: dict[int, SessionState] = {}
    pending = list(chosen)
    while pending:
        session = pending.pop(0)
        if session.id not in found:
            found[session.id] = session
            pending += spool.catalog.children(session.uuid)
    return list(found.values())
