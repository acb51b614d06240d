"""Show one session of any machine: its record, its streams and its transcript."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING

from sessiond.cli.lookup import opened_if_any
from sessiond.cli.output import colored, columns, escape, load_config, print_json
from sessiond.errors import EndpointError, NotFound, ReadError

if TYPE_CHECKING:
    from sessiond.cli.conversation import Library, Reader
    from sessiond.transcript import Thread
    from sessiond.transcript.text import Style

MAIN = "main"
LONGEST_FIRST = 1 << 20
"""Bytes after which a first record is no head of a session, but for example a message of many MiB."""


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
        help="write the bytes of a stream (default: main), with secrets masked; with --from tool also of a file of its"
        " folder",
    )
    kind.add_argument("-f", "--follow", action="store_true", help="keep printing what is added, until Ctrl+C")
    parser.add_argument(
        "--from",
        dest="origin",
        choices=("archive", "tool"),
        default="archive",
        help="with --raw: the records that were captured (default), or the bytes of the tool's own file",
    )
    parser.add_argument("--full", action="store_true", help="show the output of tools in full")
    parser.add_argument(
        "--unmasked",
        action="store_true",
        help="do not mask secrets when reading the tool's own file; stored transcripts are always masked",
    )


def run(args: argparse.Namespace) -> int:
    """Show a session. Raises: NotFound, EndpointError, StateError, UsageError."""
    from sessiond.cli import UsageError
    from sessiond.cli.conversation import Library
    from sessiond.cli.masked import open_redactor
    from sessiond.cli.pager import page

    if args.origin == "tool" and args.raw is None:
        raise UsageError("--from needs --raw")
    loaded = load_config(args, valid=True, masked=not args.unmasked)
    with opened_if_any(loaded.config) as spool:
        redactor = None if args.unmasked else open_redactor(loaded.config, args.environ)
        library = Library(spool, loaded.config, args.environ, redactor)
        try:
            reader = library.find(args.id)
            if args.raw is not None:
                for piece in _raw(reader, args.raw, from_tool=args.origin == "tool"):
                    sys.stdout.buffer.write(piece)
            elif args.items:
                from sessiond.cli.threads import threads

                for thread in threads(reader):
                    _print_items(thread)
            elif args.json:
                print_json(reader.view())
            elif args.follow:
                from sessiond.cli.follow import follow

                with suppress(KeyboardInterrupt):
                    follow(reader, _style(args))
            else:
                page(_lines(reader, args, library), args.environ)
        finally:
            library.close()
    return 0


def _raw(reader: Reader, name: str, *, from_tool: bool) -> Iterator[bytes]:
    """Return the bytes of a stream, or of a file of the tool's folder. Raises: NotFound, ReadError, EndpointError."""
    if not from_tool:
        return reader.content(_find_stream(reader, name))
    return reader.tool_file(name if name in reader.folder_files() else _find_stream(reader, name))


def _find_stream(reader: Reader, name: str) -> str:
    """Return the stream with this name; for the default name also the only one of the main thread. Raises: NotFound."""
    streams = reader.streams()
    main = [stream.name for stream in streams if stream.main and stream.media_type is None]
    if name in {stream.name for stream in streams}:
        return name
    if name == MAIN and len(main) == 1:
        return main[0]
    known = ", ".join(escape(stream.name) for stream in streams)
    raise NotFound(f"no stream {name!a}", hint=f"streams of this session: {known}")


def _lines(reader: Reader, args: argparse.Namespace, library: Library) -> Iterator[str]:
    """Iterate the lines of the facts and the conversation."""
    from sessiond.cli.children import Calls
    from sessiond.cli.session_view import facts
    from sessiond.cli.threads import threads
    from sessiond.transcript import converse
    from sessiond.transcript.text import render

    found = list(threads(reader))
    without = [] if any(thread.items for thread in found) else ["", "no transcript was captured"]
    view = reader.view()
    calls = Calls(view.record, view.children, lambda child: _first_record(library, str(child.id)))
    return chain(facts(view), without, render(converse(found), _style(args), calls.lines))


def _first_record(library: Library, identity: str) -> bytes:
    """Return the first record of a session's main stream; b"" if it can't be read."""
    record = b""
    with suppress(NotFound, ReadError, EndpointError, OSError):
        reader = library.find(identity)
        for piece in reader.content(_find_stream(reader, MAIN)):
            record += piece
            if b"\n" in piece or len(record) > LONGEST_FIRST:
                break
    return record.partition(b"\n")[0]


def _style(args: argparse.Namespace) -> Style:
    """Return the style of the conversation. It is wrapped and rendered for a terminal only."""
    from sessiond.transcript.text import Style

    width = columns(sys.stdout) if sys.stdout.isatty() else None
    return Style(width=width, color=colored(sys.stdout, args.environ), full=args.full)


def _print_items(thread: Thread) -> None:
    """Print the items of a stream as JSON, each with its stream and the position of its record."""
    from sessiond.transcript import fields

    for placed in thread.items:
        print_json(fields(thread.name, placed))
