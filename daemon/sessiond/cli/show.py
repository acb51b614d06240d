"""Show one session: its record, its streams and its transcript."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from sessiond.cli.lookup import endpoint_url, find_session, opened
from sessiond.cli.output import colored, columns, escape, print_json, size
from sessiond.errors import NotFound
from sessiond.session import Session
from sessiond.spool import Spool
from sessiond.spool.rows import SessionState, StreamState

if TYPE_CHECKING:
    from sessiond.cli.conversation import Reader
    from sessiond.transcript import Thread

LABEL = 11
MAIN = "main"
PROMPTS_ONLY = " (prompts only: from the tool's history; the tool has no more of it)"
SHOWN = 10
"""Side files that are listed one by one; of more, the number is."""
ENDPOINT = {
    "safe": "has everything",
    "waiting": "does not have everything yet",
    "archived": "does not have everything yet; copying from the built-in archive",
    "parked": "refuses a part of it; see `sessiond queue`",
    "lost": "lacks bytes that are lost; see `sessiond queue`",
    "dropped": "lacks what you dropped from the queue",
}
"""The endpoint line of `show`, by the state of the session."""


class StreamView(msgspec.Struct, frozen=True, kw_only=True):
    """A stream with its bytes captured, queued for the endpoint, acknowledged by it, and lost."""

    name: str
    media_type: str | None
    """That of a side file; None: records."""
    generation: int
    state: str
    captured: int
    queued: int
    acknowledged: int
    lost: int
    files: list[str]


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    """A session: the record, further metadata, and its streams."""

    record: Session
    title: str | None
    parent: UUID | None
    revision: int
    pushed: int
    """The newest revision that the endpoint has acknowledged; 0 if none."""
    parked: str | None
    state: str
    """Its state at the configured endpoint: `safe`, `waiting`, `archived`, `parked`, `lost` or `dropped`."""
    gone_ms: int | None
    """When the last of its files was found missing, in unix milliseconds."""
    prompts_only: bool
    """Whether only its prompts are known, from the tool's history of prompts."""
    streams: list[StreamView]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("id", metavar="ID", help="the id of the session, or a unique prefix of it")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--json", action="store_true", help="print the record and streams as JSON, without the transcript"
    )
    kind.add_argument(
        "--items", action="store_true", help="print the transcript as JSON lines: messages, calls, results, usage"
    )
    kind.add_argument(
        "--raw",
        nargs="?",
        const=MAIN,
        metavar="STREAM",
        help="write the bytes of a stream (default: main), with secrets masked",
    )
    parser.add_argument("--full", action="store_true", help="show the output of tools in full")
    parser.add_argument(
        "--unmasked",
        action="store_true",
        help="do not mask secrets when reading the tool's own file; stored transcripts are always masked",
    )


def run(args: argparse.Namespace) -> int:
    """Show a session. Raises: NotFound, EndpointError, StateError."""
    from sessiond.cli.conversation import Reader
    from sessiond.cli.masked import open_redactor
    from sessiond.cli.pager import page

    with opened(args, masked=not args.unmasked) as (spool, config):
        redactor = None if args.unmasked else open_redactor(config, args.environ)
        reader, session = Reader(spool, config, args.environ, redactor), find_session(spool, args.id)
        every = [*spool.catalog.streams(session.id), *spool.catalog.side_streams(session.id)]
        if args.raw is not None:
            for piece in reader.content(session, _find_stream(every, args.raw)):
                sys.stdout.buffer.write(piece)
        elif args.items:
            for thread in reader.threads(session):
                _print_items(thread)
        else:
            view = _view(spool, session, every, endpoint_url(spool, config))
            if args.json:
                print_json(view)
            else:
                page(chain(facts(view), _transcript(reader, session, args)), args.environ)
    return 0


def _find_stream(streams: list[StreamState], name: str) -> StreamState:
    """Return the stream with this name; for the default name also the only one of the main thread. Raises: NotFound."""
    main = [stream for stream in streams if stream.thread and stream.media_type is None]
    found = next((stream for stream in streams if stream.name == name), None)
    if found is None and name == MAIN and len(main) == 1:
        return main[0]
    if found is None:
        known = ", ".join(escape(stream.name) for stream in streams)
        raise NotFound(f"no stream {name!a}", hint=f"streams of this session: {known}")
    return found


def _transcript(reader: Reader, session: SessionState, args: argparse.Namespace) -> Iterator[str]:
    """Iterate the lines of the conversation. It is wrapped and rendered for a terminal only."""
    from sessiond.transcript import converse
    from sessiond.transcript.text import Style, render

    width = columns(sys.stdout) if sys.stdout.isatty() else None
    style = Style(width=width, color=colored(sys.stdout, args.environ), full=args.full)
    return render(converse(list(reader.threads(session))), style)


def _print_items(thread: Thread) -> None:
    """Print the items of a stream as JSON, each with its stream and the position of its record."""
    for place, item in thread.items:
        shown = {"stream": thread.name, "offset": place.offset, "length": place.length}
        print_json(shown | {name: value for name, value in msgspec.structs.asdict(item).items() if value})


def facts(view: SessionView) -> Iterator[str]:
    """Iterate the lines that describe the record and its metadata."""
    record = view.record
    model = f", {record.model}" if record.model else ""
    ended = "ongoing" if record.ended_at is None else f"ended {_moment(record.ended_at)}"
    branch = f" ({record.git_branch})" if record.git_branch else ""
    shown = [
        ("session", str(record.id)),
        ("name", view.title),
        ("tool", f"{record.tool} {record.tool_version or ''}".rstrip() + model),
        ("started", f"{_moment(record.started_at)}, {ended}"),
        ("directory", f"{record.working_directory}{branch}" if record.working_directory else None),
        ("messages", f"{record.message_count}{PROMPTS_ONLY if view.prompts_only else ''}"),
        ("machine", record.machine_id),
        ("parent", None if view.parent is None else str(view.parent)),
        ("file", _file(view)),
        ("endpoint", _pushed(view)),
    ]
    for label, text in shown:
        if text:
            yield f"{label:<{LABEL}}{escape(text)}"
    side_files = [stream for stream in view.streams if stream.media_type is not None]
    for stream in view.streams if len(side_files) <= SHOWN else [s for s in view.streams if s.media_type is None]:
        generation = f", generation {stream.generation}" if stream.generation else ""
        done = f"{size(stream.captured)} captured, {size(stream.acknowledged)} acknowledged"
        done += f", {size(stream.lost)} lost" if stream.lost else ""
        yield f"{'stream':<{LABEL}}{escape(stream.name)}: {done}{generation}"
    if len(side_files) > SHOWN:
        captured = sum(stream.captured for stream in side_files)
        yield f"{'side files':<{LABEL}}{len(side_files)}: {size(captured)} captured; `--json` lists them"


def _view(spool: Spool, session: SessionState, streams: list[StreamState], url: str) -> SessionView:
    assert session.record is not None
    safety = {each.name: each for each in spool.safety.streams(session.id, url)}
    return SessionView(
        record=session.record,
        title=session.title,
        parent=session.parent,
        revision=session.revision,
        pushed=session.pushed,
        parked=session.parked,
        state=spool.safety.session(session.id, url).word,
        gone_ms=session.gone_ms,
        prompts_only=session.prompts_only,
        streams=[
            StreamView(
                name=stream.name,
                media_type=stream.media_type,
                generation=stream.generation,
                state=safety[stream.name].state.word,
                captured=stream.folded,
                queued=stream.queued,
                acknowledged=safety[stream.name].safe,
                lost=safety[stream.name].lost,
                files=[file.path for file in spool.catalog.files(stream.id) if file.gone_ms is None],
            )
            for stream in streams
        ],
    )


def _file(view: SessionView) -> str | None:
    if view.gone_ms is None:
        return view.record.source_path
    return f"{view.record.source_path or 'its file'} (gone since {_moment(_utc(view.gone_ms))})"


def _pushed(view: SessionView) -> str:
    if view.parked is not None:
        return f"refuses the record: {view.parked}"
    return ENDPOINT[view.state]


def _utc(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"
