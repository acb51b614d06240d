"""List captured sessions, most recently active first."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from sessiond.cli.lookup import check_tool, endpoint_url, opened, short_ids
from sessiond.cli.output import WIDTH, columns, duration, mask_text, print_json, shorten, table
from sessiond.clock import now_ms
from sessiond.session import Session
from sessiond.spool import Spool
from sessiond.spool.rows import SessionState
from sessiond.spool.safety import State, StreamSafety

WITH_MODEL = 100
"""Columns from which on the model is shown."""
UNLIMITED = 1000
"""The width of a table in a pipe: nothing is shortened."""
HEADER = ["id", "active", "tool", "msgs", "state", "model", "directory", "name"]
GONE = "*"
"""Follows the state of a session whose tool deleted its files: sessiond has the only copy."""
PROMPTS_ONLY = "^"
"""Follows the state of a session of which only the prompts are known."""


class LongEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A session in `ls --json --long`: the record, further metadata, and its safety."""

    record: Session
    title: str | None
    parent: UUID | None
    state: str
    """`safe`, `waiting`, `archived`, `parked`, `lost` or `dropped`; see docs/operations.md."""
    only_here: bool
    """Whether the tool has deleted its files."""
    prompts_only: bool
    """Whether only its prompts are known, from the tool's history: the tool deleted the session before."""
    streams: list[StreamSafety]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--tool", metavar="TOOL", help="show sessions of this tool: claude-code, codex, ...")
    parser.add_argument(
        "--since",
        type=_moment,
        metavar="TIME",
        help='show sessions active since TIME: "2d", 2026-11-22, 2026-11-22T13:00Z',
    )
    parser.add_argument("--ongoing", action="store_true", help="show sessions that have not ended")
    parser.add_argument("--limit", type=_limit, metavar="N", help="show at most N sessions")
    parser.add_argument("--json", action="store_true", help="print each session record as a line of JSON")
    parser.add_argument("--long", action="store_true", help="with --json: add title, parent, streams and safety")


def run(args: argparse.Namespace) -> int:
    """List sessions. An empty list is not an error. Raises: UsageError for an unknown tool, StateError."""
    with opened(args) as (spool, config), spool.snapshot():
        if args.tool is not None:
            check_tool(args.tool, {each.tool for each in spool.stats.tools()})
        chosen = list(_chosen(spool, args))
        url = endpoint_url(spool, config)
        if args.json:
            for each in _long(spool, chosen, url) if args.long else (session.record for session in chosen):
                print_json(each)
            return 0
        if not chosen:
            chosen_by = args.tool or args.since is not None or args.ongoing
            print("no matching sessions" if chosen_by else "nothing has been captured yet", file=sys.stderr)
            return 0
        short, states = short_ids(spool), spool.safety.states(url)
    home = args.environ.get("HOME", "")
    width = columns(sys.stdout) if sys.stdout.isatty() else UNLIMITED
    print(listing(chosen, short, states, now_ms=now_ms(), width=width, home=home))
    if any(session.gone_ms is not None for session in chosen):
        print(f"{GONE} the tool has deleted its files; sessiond has the only copy", file=sys.stderr)
    if any(session.prompts_only for session in chosen):
        print(f"{PROMPTS_ONLY} prompts only, from the tool's history: the tool has no more of it", file=sys.stderr)
    return 0


def _long(spool: Spool, chosen: list[SessionState], url: str) -> Iterator[LongEntry]:
    states = spool.safety.states(url)
    for session in chosen:
        assert session.record is not None
        yield LongEntry(
            record=session.record,
            title=session.title,
            parent=session.parent,
            state=states.get(str(session.uuid), State.SAFE).word,
            only_here=session.gone_ms is not None,
            prompts_only=session.prompts_only,
            streams=spool.safety.streams(session.id, url),
        )


def listing(
    sessions: list[SessionState],
    short: dict[str, str],
    states: Mapping[str, State],
    *,
    now_ms: int,
    width: int = WIDTH,
    home: str = "",
) -> str:
    """Return the sessions as a table. The name is the last to be shortened: below 100 columns the model is left out."""
    wide, spare = width >= WITH_MODEL, max(0, width - WITH_MODEL)
    rows = [HEADER if wide else [name for name in HEADER if name != "model"]]
    for session in sessions:
        record = session.record
        assert record is not None
        active = "ongoing" if session.ongoing else duration((now_ms - session.active_ms) / 1000)
        directory = record.working_directory
        if home and (directory + "/").startswith(home + "/"):
            directory = "~" + directory[len(home) :]
        model = [shorten(_undated(record.model or "-"), 20 + spare // 4)] if wide else []
        cells = [
            short[str(session.uuid)],
            active,
            record.tool,
            str(record.message_count),
            states.get(str(session.uuid), State.SAFE).word + _marks(session),
            *model,
            _tail(directory, 12 + spare // 3),
            session.title or "",
        ]
        rows.append(cells)
    return table(rows, right={1, 3}, width=width)


def _marks(session: SessionState) -> str:
    return (PROMPTS_ONLY if session.prompts_only else "") + (GONE if session.gone_ms is not None else "")


def _chosen(spool: Spool, args: argparse.Namespace) -> Iterator[SessionState]:
    left = args.limit
    for session in spool.catalog.sessions():
        if left == 0 or (args.since is not None and session.active_ms < args.since):
            return
        if (args.tool and session.tool != args.tool) or (args.ongoing and not session.ongoing):
            continue
        yield session
        left = None if left is None else left - 1


def _undated(model: str) -> str:
    """Return a model name without its release date, the longest and least useful part."""
    name, _, date = model.rpartition("-")
    return name if name and len(date) == 8 and date.isdigit() else model


def _tail(directory: str, width: int) -> str:
    """Return a directory; if it is too long, its last component."""
    if len(directory) <= width:
        return directory or "-"
    return shorten("…/" + mask_text(directory).rstrip("/").rpartition("/")[2], width)


def _moment(text: str) -> int:
    """Parse an age or a time and return unix milliseconds; a time without a zone is local time."""
    from sessiond.config.units import parse_duration

    try:
        return now_ms() - int(parse_duration(text) * 1000)
    except ValueError:
        pass
    try:
        return int(datetime.fromisoformat(text).astimezone(UTC).timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f'{text!a} is neither an age like "2d" nor a date') from error


def _limit(text: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text) < 1 << 31:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!a} is not a positive number")
