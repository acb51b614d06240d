"""Show what is waiting, parked or lost; retry or drop it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

import msgspec

from sessiond import exit_codes
from sessiond.cli.lookup import endpoint_url, find_session, notify_daemon, opened, short_ids
from sessiond.cli.output import age, columns, escape, print_json, size, table, wrapped
from sessiond.cli.parsers import add_action
from sessiond.clock import now_ms
from sessiond.config import Config, state_dir
from sessiond.errors import NotFound, SessiondError
from sessiond.spool import Spool
from sessiond.spool.forgotten import Erasures, count_erasures
from sessiond.spool.safety import State
from sessiond.spool.stats import Queued, Totals
from sessiond.state import has_archive
from sessiond.text import count

LISTED = "`sessiond queue` lists parked and lost items"
"""Where the ids are that `retry` and `drop` take."""


class ParkedItem(msgspec.Struct, frozen=True, kw_only=True):
    """An item that the endpoint refuses: a record, or a range of a stream and everything after it."""

    session: str
    tool: str
    kind: str
    """`record`, `segment` or `generation`."""
    reason: str
    stream: str | None = None
    generation: int | None = None
    offset: int | None = None
    length: int | None = None


class LostItem(msgspec.Struct, frozen=True, kw_only=True):
    """A session with bytes that are neither in the tool's file nor at the endpoint."""

    session: str
    tool: str
    bytes: int


class QueueItems(msgspec.Struct, frozen=True, kw_only=True):
    """The queue, as `--json` prints it. `complete`: whether the endpoint has all but what the user dropped."""

    waiting: list[Queued]
    parked: list[ParkedItem]
    lost: list[LostItem]
    complete: bool
    erasures: Erasures = Erasures()
    """What is still to be erased at the endpoint."""


class ConfirmationRequired(SessiondError):
    """The command asks for confirmation, and stdin is not a terminal."""

    exit_code = exit_codes.USAGE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions `retry` and `drop`. Without an action the command lists."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    retry = add_action(actions, "retry", "push parked items again")
    retry.add_argument("id", metavar="ID", nargs="?", help="retry only this session")
    drop = add_action(actions, "drop", "give up parked or lost items of a session")
    drop.add_argument("id", metavar="ID", help="the id of the session, or a unique prefix of it")
    drop.add_argument("--yes", action="store_true", help="do not ask for confirmation")


def run(args: argparse.Namespace) -> int:
    """List, retry or drop. Raises: NotFound, StateError, ConfirmationRequired."""
    if args.action == "retry":
        return _retry(args)
    if args.action == "drop":
        return _drop(args)
    with opened(args) as (spool, config):
        with spool.snapshot():
            short, totals = (
                short_ids(spool, [str(each) for each in spool.stats.ids("")]),
                spool.stats.totals(endpoint_url(spool, config)),
            )
            items = QueueItems(
                waiting=spool.stats.queue(),
                parked=_parked(spool),
                lost=_lost(spool),
                complete=totals.complete,
                erasures=_erasures(spool, config),
            )
        if args.json:
            print_json(items)
        else:
            print(listing(items, short, totals, now_ms=now_ms(), width=columns(sys.stdout)))
    return 0


def listing(items: QueueItems, short: dict[str, str], totals: Totals, *, now_ms: int, width: int = 80) -> str:
    """Return tables of what is waiting in the outbox, parked (with the reason) and lost.

    `short` has the shortest unique prefix of each session id.
    """
    waiting, parked, lost = items.waiting, items.parked, items.lost
    erasing = items.erasures.waiting
    if not (waiting or parked or lost or erasing or items.erasures.kept):
        return "the queue is empty" if totals.complete else _elsewhere(totals)
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
        shown = table(rows, width=width)
        # A reason that was cut follows in full: it may have the command that helps. Many items have the same one.
        reasons = dict.fromkeys(escape(each.reason) for each in parked if escape(each.reason) not in shown)
        parts += [shown, *("\n".join(wrapped(reason, width)) for reason in reasons)]
        parts.append("try again: sessiond queue retry [ID]    give up: sessiond queue drop ID")
    if lost:
        rows = [["lost", "tool", "bytes"]]
        rows += [[short[each.session], each.tool, size(each.bytes)] for each in lost]
        parts.append(table(rows, right={2}, width=width))
        reason = "Neither the tool's file nor the endpoint has these bytes. Restore the file, or configure the endpoint"
        parts.append("\n".join(wrapped(f"{reason} that had them. Accept the loss: sessiond queue drop ID", width)))
    parts += ["\n".join(wrapped(escape(text), width)) for text in _erased(items.erasures, now_ms)]
    if not totals.complete and (totals.waiting > len(waiting) or totals.archive.pending):
        parts.append(_elsewhere(totals))
    return "\n\n".join(parts)


def _erased(erasures: Erasures, now_ms: int) -> Iterator[str]:
    """Iterate over the paragraphs about erased sessions: those that are still to be erased, and those that are kept."""
    if erasures.waiting:
        since = "" if erasures.oldest_ms is None else f", requested {age((now_ms - erasures.oldest_ms) / 1000)}"
        reason = "" if erasures.problem is None else f": {erasures.problem}"
        yield f"{count(erasures.waiting, 'session')} still to be erased at the endpoint{since}{reason}"
    if erasures.kept:
        days = max(0, (erasures.kept_until_ms or now_ms) - now_ms) // 86_400_000 + 1
        yield (
            f"{count(erasures.kept, 'session')} erased at the endpoint, but not from this machine. What only this"
            f" machine has is kept for {count(days, 'more day')}. Erase it now: sessiond forget ID. Push it again:"
            " sessiond queue retry ID"
        )


def _elsewhere(totals: Totals) -> str:
    """Describe sessions that are not safe and not in the outbox: they are compared or read again first."""
    sessions = totals.waiting + totals.archived
    parts = [f"{count(sessions, 'session')} to compare with the endpoint or to read again"] if sessions else []
    if totals.archive.pending:
        parts.append(f"{count(totals.archive.pending, 'session')} to copy from the built-in archive to the endpoint")
    if totals.dropped and not parts:
        parts.append(f"the queue is empty; {count(totals.dropped, 'session')} with parts that you dropped")
    return "\n".join(parts)


def _lost(spool: Spool) -> list[LostItem]:
    found = spool.safety.unsafe(State.LOST)
    return [LostItem(session=each.session, tool=each.tool, bytes=each.lost_bytes) for each in found]


def _erasures(spool: Spool, config: Config) -> Erasures:
    found = count_erasures(spool.connection, archive=has_archive(state_dir(config)))
    return found if config.endpoint.url else found.replace(endpoint=0)  # the archive is the endpoint


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
        session = find_session(spool, args.id, LISTED) if args.id else None
        with spool.transaction():
            if session is not None:
                # The user decides against the endpoint, which says that the session was erased there.
                spool.forgotten.release(str(session.uuid))
            taken = spool.outbox.retry(None if session is None else session.uuid)
            taken += spool.archived.retry() if session is None else 0
        if not taken:
            if session is None:
                raise NotFound("nothing is parked")
            raise NotFound(f"nothing is parked for session {session.uuid}", hint=LISTED)
        pushed = "pushing now" if notify_daemon(state_dir(config)) else "pushed once sessiond runs"
        print(f"{count(taken, 'item')} queued again; {pushed}")
    return 0


def _drop(args: argparse.Namespace) -> int:
    with opened(args, readonly=False) as (spool, config):
        session = find_session(spool, args.id, LISTED)
        mine: list[ParkedItem | LostItem] = [*_parked(spool), *_lost(spool)]
        mine = [item for item in mine if item.session == str(session.uuid)]
        if not mine:
            raise NotFound(f"nothing is parked or lost for session {session.uuid}", hint=LISTED)
        if not args.yes and not _confirmed(f"{session.uuid} ({session.title or session.tool})", len(mine)):
            return exit_codes.FAILED
        with spool.transaction():
            if spool.forgotten.is_kept(str(session.uuid)):
                # The session was erased at the endpoint, which would refuse placeholders for the dropped bytes too.
                spool.forgotten.order([str(session.uuid)], now_ms(), everywhere=False)
                dropped = len(mine)
            else:
                dropped = spool.outbox.drop(session.uuid, now_ms())
        notify_daemon(state_dir(config))
        print(f"{count(dropped, 'item')} dropped; the tool's own file is not changed")
    return 0


def _confirmed(session: str, items: int) -> bool:
    if not (sys.stdin and sys.stdin.isatty()):
        raise ConfirmationRequired("this drops parked and lost items for good and needs confirmation", hint="add --yes")
    question = f"Drop {count(items, 'parked or lost item')} of {escape(session)}? [y/N] "
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
