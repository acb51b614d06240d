"""Write sessions as files to share: Markdown, HTML, JSON, or a prompt to continue in another tool."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

import msgspec

from sessiond.atomic import atomic_write
from sessiond.cli.lookup import find_session, opened
from sessiond.cli.output import mask_text, to_json
from sessiond.spool.rows import SessionState

if TYPE_CHECKING:
    from sessiond.cli.conversation import Reader
    from sessiond.transcript import Step

FORMATS = {"md": ".md", "html": ".html", "json": ".jsonl", "handoff": ".md"}
"""The formats and the suffixes of their files."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("id", metavar="ID", nargs="+", help="the id of a session, or a unique prefix of it")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="md",
        help="md: Markdown (default); html: one file without scripts; json: items as JSON lines; handoff: a prompt to "
        "continue in another tool",
    )
    parser.add_argument(
        "-o", "--output", metavar="PATH", help="a file, or a directory for several sessions; otherwise standard output"
    )


def run(args: argparse.Namespace) -> int:
    """Export sessions, always masked. Raises: NotFound, EndpointError, StateError, UsageError."""
    from sessiond.cli import UsageError
    from sessiond.cli.conversation import Reader
    from sessiond.cli.masked import open_redactor

    directory = args.output if args.output and os.path.isdir(args.output) else None
    if len(args.id) > 1 and directory is None:
        raise UsageError("several sessions need a directory", hint="make one and name it: -o DIRECTORY")
    with opened(args, masked=True) as (spool, config):
        reader = Reader(spool, config, args.environ, open_redactor(config, args.environ))
        for session in [find_session(spool, each) for each in args.id]:
            lines = _lines(reader, session, args.format)
            if args.output is None:
                sys.stdout.writelines(f"{line}\n" for line in lines)
                continue
            # The whole id: those of some tools begin with the time, so sessions of one minute share a prefix.
            name = f"{session.tool}-{session.uuid}{FORMATS[args.format]}"
            path = os.path.join(directory, name) if directory else args.output
            content = "".join(f"{mask_text(line)}\n" for line in lines).encode("utf-8", "replace")
            try:
                atomic_write(path, content)
            except OSError as error:
                raise UsageError(f"{path} can't be written: {error.strerror}", hint="name another with -o") from error
            print(path, file=sys.stderr)
    return 0


def _lines(reader: Reader, session: SessionState, format: str) -> Iterator[str]:
    """Iterate the lines of a session in a format."""
    from sessiond.transcript import converse, markdown, page

    steps = converse(list(reader.threads(session)))
    if format == "json":
        return _items(steps)
    if format == "html":
        return page.render(steps, session.title or "Session", _facts(session))
    if format == "handoff":
        head = [markdown.HANDOFF, *(f"- {name}: {value}" for name, value in _facts(session))]
        return chain(head, markdown.render(steps, shorten=markdown.SHORTENED))
    head = [f"# {session.title or 'Session'}", "", *(f"- {name}: {value}" for name, value in _facts(session))]
    return chain(head, markdown.render(steps))


def _items(steps: Iterable[Step]) -> Iterator[str]:
    """Iterate the items as JSON, each with its stream and the position of its record."""
    for step in steps:
        place = {"stream": step.thread.name, "offset": step.placed.place.offset, "length": step.placed.place.length}
        item = {name: value for name, value in msgspec.structs.asdict(step.placed.item).items() if value}
        yield to_json(place | item)


def _facts(session: SessionState) -> Iterator[tuple[str, str]]:
    record = session.record
    assert record is not None
    yield "Session", str(record.id)
    yield "Tool", f"{record.tool} {record.tool_version or ''}".rstrip()
    if record.model:
        yield "Model", record.model
    if record.working_directory:
        yield "Directory", record.working_directory
    if record.git_branch:
        yield "Branch", record.git_branch
    yield "Started", f"{record.started_at.astimezone():%Y-%m-%d %H:%M}"
