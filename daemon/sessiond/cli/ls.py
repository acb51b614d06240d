"""List the sessions of all your machines, most recently active first."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from sessiond.cli.listing import GONE, PROMPTS_ONLY, UNLIMITED, listing
from sessiond.cli.lookup import check_tool, endpoint_url, nothing_captured, opened_if_any, short_ids
from sessiond.cli.output import columns, escape, load_config, note, print_json
from sessiond.cli.selection import Row, Selection, Sort, add_filters, make_selection
from sessiond.clock import now_ms
from sessiond.config import Config, state_dir
from sessiond.endpoint.origin import Origin
from sessiond.errors import ConfigError, EndpointError
from sessiond.restored import RestoredSessions
from sessiond.session import Session
from sessiond.spool import Spool
from sessiond.spool.rows import SessionFilter, SessionState
from sessiond.spool.safety import State, StreamSafety
from sessiond.state import has_archive
from sessiond.text import count

if TYPE_CHECKING:
    from sessiond.cli.remote import Question
    from sessiond.endpoint.wire import StoredSession

NEWEST = 100
"""Sessions that a terminal shows without --limit. A pipe gets all of them."""
WAIT = 1.0
"""Seconds to wait for the endpoint."""


class LongEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A session in `ls --json --long`: the record, further metadata, and its safety."""

    record: Session
    name: str | None
    """Its title in the tool, or else its first prompt."""
    parent: UUID | None
    continues: Origin | None
    """The session of another machine from which this one was restored."""
    state: str
    """`safe`, `waiting`, `archived`, `parked`, `lost`, `dropped` or `expired`; see docs/status.md."""
    only_here: bool
    """Whether the tool has deleted its files."""
    prompts_only: bool
    """Whether only its prompts are known, from the tool's history: the tool deleted the session before."""
    this_machine: bool
    """Whether it was captured on this machine; otherwise it comes from the endpoint."""
    streams: list[StreamSafety]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "List the sessions of all your machines, most recently active first. Sessions of other machines come from the"
        " endpoint; if it does not answer, those of this machine and of its built-in archive are listed."
    )
    add_filters(parser)
    parser.add_argument(
        "--said",
        type=_words,
        metavar="WORDS",
        help="sessions with a message that has all these words; their transcripts are read, the newest first",
    )
    parser.add_argument(
        "--wait",
        type=_seconds,
        default=WAIT,
        metavar="SECONDS",
        help="wait this long for the endpoint (default: 1); 0 lists only this machine's sessions",
    )
    parser.add_argument("--json", action="store_true", help="print each session record as a line of JSON")
    parser.add_argument("--long", action="store_true", help="with --json: add name, parent, streams and safety")


def run(args: argparse.Namespace) -> int:
    """List sessions. An empty list is not an error. Raises: UsageError for an unknown tool, StateError."""
    config = load_config(args, valid=True).config
    selection = make_selection(args)
    if sys.stdout.isatty() and not args.json and selection.limit is None:
        selection = msgspec.structs.replace(selection, limit=NEWEST)
    limit = selection.limit
    if args.said is not None:  # any of them may match
        selection = msgspec.structs.replace(selection, limit=None)
    question: Question | None = None
    if config.endpoint.url and args.wait:
        from sessiond.cli.remote import Question

        question = Question(config, args.environ, selection)
    with opened_if_any(config) as spool:
        if spool is None and question is None and not has_archive(state_dir(config)):
            raise nothing_captured()
        local: list[Row] = []
        url = "" if spool is None else endpoint_url(spool, config)
        if spool is not None:
            with spool.snapshot():
                if args.tool is not None:
                    check_tool(args.tool, {each.tool for each in spool.stats.tools()})
                local = list(_local(spool, selection, url))
        elif args.tool is not None:
            check_tool(args.tool)
        stored, source = _ask(question, args.wait)
        answered = stored is not None
        stored = _archived(spool, state_dir(config), selection) if stored is None else stored
        rows = _merge(local, stored, selection, spool)
        if question is not None and answered:
            question.remember(rows)
        if args.said is not None:
            rows = _saying(rows, limit, args, spool, config)
        if args.json:
            _print_json(rows, spool, url, stored, RestoredSessions(state_dir(config)), long=args.long)
        elif rows:
            _print_table(rows, spool, selection, args)
        else:
            empty = "no matching sessions" if selection.filtered or args.said else "nothing has been captured yet"
            print(empty, file=sys.stderr)
    if source and not (args.json and answered):
        print(source, file=sys.stderr)
    return 0


def _saying(
    rows: list[Row], limit: int | None, args: argparse.Namespace, spool: Spool | None, config: Config
) -> list[Row]:
    """Return the sessions in which the words of `--said` were said, at most `limit`."""
    from sessiond.cli.said import SaidFilter

    said = SaidFilter(args.said, spool, config, args.environ)
    try:
        found = list(islice(said.matching(rows), limit))
    finally:
        said.close()
    if said.unread:
        unread = count(len(said.unread), "session")
        print(f"{unread} could not be searched: {escape(str(said.unread[0]))}", file=sys.stderr)
    return found


def _ask(question: Question | None, wait: float) -> tuple[list[StoredSession] | None, str]:
    """Return the sessions of the endpoint, None without an answer; and a line that says which sessions are listed."""
    if question is None:
        return None, ""
    try:
        stored = question.answer(wait)
    except (EndpointError, ConfigError) as error:
        return None, f"only sessions of this machine: {escape(str(error))}"
    return stored, f"sessions of all your machines, from {escape(question.url)}"


def _archived(spool: Spool | None, directory: str, selection: Selection) -> list[StoredSession]:
    """Return the matching sessions that only the built-in archive has, as after a loss of the spool.

    Raises: StateError.
    """
    if not has_archive(directory):
        return []
    from sessiond.cli.archived import archived_sessions
    from sessiond.cli.remote import make_row

    known = set() if spool is None else set(spool.stats.newest_ids(-1))
    found = [each for each in archived_sessions(directory, known) if selection.matches(make_row(each))]
    # The archive may not have erased them yet.
    return [each for each in found if spool is None or not spool.forgotten.has(str(each.record.id))]


def _merge(
    local: list[Row], stored: Sequence[StoredSession] | None, selection: Selection, spool: Spool | None
) -> list[Row]:
    """Return the rows of both in order. What the spool knows of a session is newer than what the endpoint has."""
    rows = local
    if stored:
        from sessiond.cli.remote import make_row

        known = {(row.machine, row.record.id) for row in local}
        # Sessions of this machine too: after its spool was lost, some may exist only at the endpoint. But one that is
        # in the spool and not in `local` does not match: the endpoint may have an older state that does.
        others = [
            make_row(each)
            for each in stored
            if (each.record.machine_id or "", each.record.id) not in known and not _in_spool(spool, each)
        ]
        rows = sorted([*local, *others], key=lambda row: -row.active_ms)
    if selection.sort is not Sort.ACTIVE:
        rows = sorted(rows, key=selection.order)
    return rows if selection.limit is None else rows[: selection.limit]


def _in_spool(spool: Spool | None, stored: StoredSession) -> bool:
    """Return whether a session at the endpoint is one that this machine captured."""
    found = None if spool is None else spool.catalog.session(stored.record.id)
    return found is not None and found.record is not None and found.record.machine_id == stored.record.machine_id


def _local(spool: Spool, selection: Selection, url: str) -> Iterator[Row]:
    """Iterate the sessions in the spool, most recently active first; of a list by activity no more than its limit."""
    states, others = spool.safety.states(url)
    limit = selection.limit if selection.sort is Sort.ACTIVE else None
    wanted = SessionFilter(
        tool=selection.tool,
        machine=selection.machine,
        branch=selection.branch,
        since_ms=selection.since_ms,
        gone=selection.only_here,
        ongoing=selection.ongoing,
    )
    found = (make_row(session, states.get(str(session.uuid), others)) for session in spool.catalog.sessions(wanted))
    return islice(filter(selection.matches, found), limit)


def make_row(session: SessionState, state: State) -> Row:
    """Return a session in the spool as a row of a list."""
    assert session.record is not None
    return Row(
        record=session.record,
        name=session.title,
        parent=session.parent,
        active_ms=session.active_ms,
        ongoing=session.ongoing,
        gone=session.gone_ms is not None,
        prompts_only=session.prompts_only,
        state=state.word,
        number=session.id,
    )


def _print_table(rows: list[Row], spool: Spool | None, selection: Selection, args: argparse.Namespace) -> None:
    terminal = sys.stdout.isatty()
    width = columns(sys.stdout) if terminal else UNLIMITED
    short = short_ids(spool, [str(row.record.id) for row in rows])
    print(listing(rows, short, now_ms=now_ms(), width=width, home=selection.home))
    if any(row.gone for row in rows):
        note(f"{GONE} the tool has deleted its files; sessiond has the only copy")
    if any(row.prompts_only for row in rows):
        note(f"{PROMPTS_ONLY} prompts only, from the tool's history: the tool has no more of it")
    if terminal and args.limit is None and len(rows) == NEWEST:
        note(f"the newest {NEWEST}; `sessiond ls --limit N` or a filter shows others")


def _print_json(
    rows: list[Row],
    spool: Spool | None,
    url: str,
    stored: Sequence[StoredSession] | None,
    restored: RestoredSessions,
    *,
    long: bool,
) -> None:
    if not long:
        for row in rows:
            print_json(row.record)
        return
    from sessiond.cli.session_view import origin_of

    by_key = {(each.record.machine_id, each.record.id): each for each in stored or ()}
    for row in rows:
        if row.number is not None and spool is not None:
            streams, continues = spool.safety.streams(row.number, url), origin_of(row.record.id, restored)
        else:
            from sessiond.cli.remote import stream_states

            found = by_key[row.record.machine_id, row.record.id]
            streams, continues = stream_states(found), found.continues
        print_json(
            LongEntry(
                record=row.record,
                name=row.name,
                parent=row.parent,
                continues=continues,
                state=row.state,
                only_here=row.gone,
                prompts_only=row.prompts_only,
                this_machine=row.number is not None,
                streams=streams,
            )
        )


def _words(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("give at least one word")
    return text


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!a} is not a number of seconds from 0 to 3600")
    return seconds
