"""List the captured sessions, the newest activity first."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from sessiond.cli.lookup import endpoint_url, opened, short_ids
from sessiond.cli.output import WIDTH, columns, duration, print_json, shorten, table
from sessiond.session import Session
from sessiond.spool import Spool
from sessiond.spool.rows import SessionState
from sessiond.spool.safety import State, StreamSafety

HEADER = ["id", "active", "tool", "msgs", "state", "model", "directory", "title"]
GONE = "*"
"""Beside the state of a session whose tool has deleted its own files: what sessiond keeps is the only copy."""


class LongEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A session in `ls --json --long`: the record, what goes beside it, and how safe it is."""

    record: Session
    title: str | None
    parent: UUID | None
    state: str
    """`safe`, `waiting`, `archived`, `parked`, `lost` or `dropped`; see docs/operations.md."""
    only_here: bool
    """The tool has deleted its own files."""
    streams: list[StreamSafety]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command to argparse."""
    parser.add_argument("--tool", help="only of this tool: claude-code, codex, ...")
    parser.add_argument(
        "--since", type=_moment, metavar="TIME", help='active since then: "2d", "12h", 2026-11-22, 2026-11-22T13:00Z'
    )
    parser.add_argument("--ongoing", action="store_true", help="only those that have not ended")
    parser.add_argument("--limit", type=_limit, metavar="N", help="so many at the most")
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each, the Session record")
    parser.add_argument("--long", action="store_true", help="with --json: also title, parent, streams and safety")


def run(args: argparse.Namespace) -> int:
    """List sessions; none is an empty list, not an error."""
    with opened(args) as (spool, config), spool.snapshot():
        chosen = list(_chosen(spool, args))
        url = endpoint_url(spool, config)
        if args.json:
            for each in _long(spool, chosen, url) if args.long else (session.record for session in chosen):
                print_json(each)
            return 0
        if not chosen:
            chosen_by = args.tool or args.since is not None or args.ongoing
            print("no session is like that" if chosen_by else "nothing has been captured yet", file=sys.stderr)
            return 0
        short, states = short_ids(spool), spool.safety.states(url)
    now_ms = time.time_ns() // 1_000_000
    home = args.environ.get("HOME", "")
    print(listing(chosen, short, states, now_ms=now_ms, width=columns(sys.stdout), home=home))
    if any(session.gone_ms is not None for session in chosen):
        print(f"{GONE} the tool has deleted its own files: sessiond keeps the only copy", file=sys.stderr)
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
    """Return the sessions as a table; the wider it may be, the more of model and directory it shows."""
    titled = any(session.title for session in sessions)
    spare = max(0, width - WIDTH) if titled else width
    rows = [HEADER if titled else HEADER[:-1]]
    for session in sessions:
        record = session.record
        assert record is not None
        active = "ongoing" if session.ongoing else duration((now_ms - session.active_ms) / 1000)
        directory = record.working_directory
        if home and (directory + "/").startswith(home + "/"):
            directory = "~" + directory[len(home) :]
        cells = [
            short[str(session.uuid)],
            active,
            record.tool,
            str(record.message_count),
            states.get(str(session.uuid), State.SAFE).word + (GONE if session.gone_ms is not None else ""),
            shorten(_undated(record.model or "-"), 15 + spare // 4),
            _tail(directory, 12 + spare // 3),
        ]
        rows.append([*cells, session.title or ""] if titled else cells)
    return table(rows, right={1, 3}, width=width)


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
    """Leave out the date of a release: it is the longest part of a model's name and tells the least."""
    name, _, date = model.rpartition("-")
    return name if name and len(date) == 8 and date.isdigit() else model


def _tail(directory: str, width: int) -> str:
    """Show a directory, of one that is too long the last part."""
    if len(directory) <= width:
        return directory or "-"
    return shorten("…/" + directory.rstrip("/").rpartition("/")[2], width)


def _moment(text: str) -> int:
    """Read an age or a time as unix milliseconds; a time without a zone is this machine's."""
    from sessiond.config.units import parse_duration

    try:
        return time.time_ns() // 1_000_000 - int(parse_duration(text) * 1000)
    except ValueError:
        pass
    try:
        return int(datetime.fromisoformat(text).astimezone(UTC).timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f'{text!a} is neither an age such as "2d" nor a date') from error


def _limit(text: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text) < 1 << 31:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!a} is not a number above 0")
