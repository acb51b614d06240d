"""Show what waits for the endpoint and what is parked, and decide about the parked."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import msgspec

from sessiond.cli.output import age, columns, count, escape, print_json, size, table
from sessiond.cli.reading import find_session, nudge, opened, short_ids
from sessiond.config import state_dir
from sessiond.errors import NotFound, SessiondError
from sessiond.spool import Spool
from sessiond.spool.overview import Queued


class ParkedItem(msgspec.Struct, frozen=True, kw_only=True):
    """An item that the endpoint will not take: a record, or bytes of a stream and what stands behind them."""

    session: str
    tool: str
    kind: str
    """`record`, `segment` or `generation`."""
    reason: str
    stream: str | None = None
    generation: int | None = None
    offset: int | None = None
    length: int | None = None


class NotAsked(SessiondError):
    """The command needs a yes and there is nobody to ask."""

    exit_code = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `retry` and `drop`; without either, list."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    retry = actions.add_parser("retry", help="push parked items again", allow_abbrev=False)
    retry.add_argument("id", metavar="ID", nargs="?", help="of this session only")
    drop = actions.add_parser("drop", help="give up the parked items of a session", allow_abbrev=False)
    drop.add_argument("id", metavar="ID", help="the session's id, or a head of it that no other one has")
    drop.add_argument("--yes", action="store_true", help="don't ask")
    for action in (retry, drop):
        action.add_argument("--config", metavar="FILE", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """List, retry or drop. Raises: NotFound, StateError, NotAsked."""
    if args.action == "retry":
        return _retry(args)
    if args.action == "drop":
        return _drop(args)
    with opened(args) as (spool, _):
        with spool.snapshot():
            waiting, parked, short = spool.overview.queue(), _parked(spool), short_ids(spool)
        if args.json:
            print_json({"waiting": waiting, "parked": parked})
        else:
            print(listing(waiting, parked, short, now_ms=time.time_ns() // 1_000_000, width=columns(sys.stdout)))
    return 0


def listing(
    waiting: list[Queued], parked: list[ParkedItem], short: dict[str, str], *, now_ms: int, width: int = 80
) -> str:
    """Lay both out, what is parked with its reason."""
    if not waiting and not parked:
        return "nothing waits"
    parts: list[str] = []
    if waiting:
        rows = [["waiting", "tool", "record", "segments", "size", "queued", "title"]]
        for each in waiting:
            rows.append(
                [
                    short[str(each.session)],
                    each.tool,
                    "yes" if each.record else "-",
                    str(each.segments),
                    size(each.bytes),
                    "-" if each.oldest_ms is None else age((now_ms - each.oldest_ms) / 1000),
                    each.title or "",
                ]
            )
        parts.append(table(rows, right={3, 4}, width=width))
    if parked:
        rows = [["parked", "tool", "what", "reason"]]
        rows += [[short[each.session], each.tool, _what(each), each.reason] for each in parked]
        parts.append(table(rows, width=width))
        parts.append("try again: sessiond queue retry [ID]    give up: sessiond queue drop ID")
    return "\n\n".join(parts)


def _what(item: ParkedItem) -> str:
    if item.kind == "record":
        return "record"
    return f"{item.stream} at {item.offset}" if item.generation == 0 else f"{item.stream}#{item.generation}"


def _parked(spool: Spool) -> list[ParkedItem]:
    sessions, segments = spool.outbox.parked()
    tools: dict[Any, str] = {}
    found = []
    for session in sessions:
        assert session.parked is not None
        found.append(ParkedItem(session=str(session.uuid), tool=session.tool, kind="record", reason=session.parked))
    for segment in segments:
        assert segment.parked is not None
        if segment.session not in tools:
            owner = spool.catalog.session(segment.session)
            tools[segment.session] = "" if owner is None else owner.tool
        found.append(
            ParkedItem(
                session=str(segment.session),
                tool=tools[segment.session],
                kind="segment" if segment.length else "generation",
                reason=segment.parked,
                stream=segment.stream,
                generation=segment.generation,
                offset=segment.offset,
                length=segment.length,
            )
        )
    return found


def _retry(args: argparse.Namespace) -> int:
    with opened(args, readonly=False) as (spool, config):
        session = find_session(spool, args.id) if args.id else None
        with spool.transaction():
            taken = spool.outbox.retry(None if session is None else session.uuid)
        if not taken:
            raise NotFound("nothing is parked" + ("" if session is None else f" of session {session.uuid}"))
        pushed = "pushed now" if nudge(state_dir(config)) else "pushed when sessiond runs"
        print(f"{count(taken, 'item')} taken back into the queue, {pushed}")
    return 0


def _drop(args: argparse.Namespace) -> int:
    with opened(args, readonly=False) as (spool, config):
        session = find_session(spool, args.id)
        mine = [item for item in _parked(spool) if item.session == str(session.uuid)]
        if not mine:
            raise NotFound(f"nothing is parked of session {session.uuid}", hint="`sessiond queue` lists what is")
        if not args.yes and not _agreed(f"{session.uuid} ({session.title or session.tool})", len(mine)):
            return 1
        with spool.transaction():
            dropped = spool.outbox.drop(session.uuid, int(time.time() * 1000))
        nudge(state_dir(config))
        print(f"{count(dropped, 'item')} dropped; the tool's own file keeps what it has")
    return 0


def _agreed(session: str, items: int) -> bool:
    if not (sys.stdin and sys.stdin.isatty()):
        raise NotAsked("this gives up what is parked, and nobody is there to ask", hint="add --yes")
    question = f"Never push {count(items, 'parked item')} of {escape(session)}? [y/N] "
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
