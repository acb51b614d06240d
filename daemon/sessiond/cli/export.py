"""Write sessions as files to share: Markdown, HTML, JSON, ATIF, or a prompt to continue in another tool."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

from sessiond.atomic import atomic_write
from sessiond.cli.lookup import opened_if_any
from sessiond.cli.output import load_config, mask_text, to_json
from sessiond.session import Session
from sessiond.text import escape

if TYPE_CHECKING:
    from sessiond.cli.conversation import Reader
    from sessiond.transcript import Step

FORMATS = {"md": ".md", "html": ".html", "json": ".jsonl", "atif": ".json", "handoff": ".handoff.md"}
"""The formats and the suffixes of their files."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("id", metavar="ID", nargs="+", help="the id of a session, or a unique prefix of it")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="md",
        help="md: Markdown (default); html: one file without scripts; json: items as JSON lines; atif: a trajectory in "
        "ATIF 1.7; handoff: a prompt to continue in another tool",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="PATH",
        default="-",
        help="a file, or a directory for several sessions; - is the standard output (default)",
    )


def run(args: argparse.Namespace) -> int:
    """Export sessions, always masked. Raises: NotFound, EndpointError, StateError, UsageError."""
    from sessiond.cli import UsageError
    from sessiond.cli.conversation import Library
    from sessiond.cli.masked import open_redactor

    directory = args.output if os.path.isdir(args.output) else None
    if len(args.id) > 1 and directory is None:
        raise UsageError("several sessions need a directory", hint="make one and name it: -o DIRECTORY")
    loaded = load_config(args, masked=True)
    with opened_if_any(loaded.config) as spool:
        library = Library(spool, loaded.config, args.environ, open_redactor(loaded.config, args.environ))
        try:
            for reader in [library.find(each) for each in args.id]:
                _write(reader, args.format, args.output, directory)
        finally:
            library.close()
    return 0


def _write(reader: Reader, format: str, output: str, directory: str | None) -> None:
    """Write a session to a file, or print it. Raises: UsageError."""
    from sessiond.cli import UsageError

    lines = _lines(reader, format)
    if output == "-":
        sys.stdout.writelines(f"{line}\n" for line in lines)
        return
    # The whole id: those of some tools begin with the time, so sessions of one minute share a prefix.
    name = f"{reader.record.tool}-{reader.record.id}{FORMATS[format]}"
    path = os.path.join(directory, name) if directory else output
    content = (f"{mask_text(line)}\n".encode("utf-8", "replace") for line in lines)
    try:
        atomic_write(path, content)
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}", hint="name another with -o") from error
    print(path, file=sys.stderr)


def _lines(reader: Reader, format: str) -> Iterator[str]:
    """Iterate the lines of a session in a format."""
    from sessiond.cli.threads import threads
    from sessiond.transcript import atif, converse, markdown, page

    if format == "atif":
        return atif.lines(reader.record, list(threads(reader)), to_json)
    steps = converse(list(threads(reader)))
    record, title = reader.record, reader.title or "Session"
    if format == "json":
        return _items(steps)
    if format == "html":
        return page.render(steps, title, _facts(record))
    if format == "handoff":
        head = [markdown.HANDOFF, *(escape(f"- {name}: {value}") for name, value in _facts(record))]
        return chain(head, markdown.render(steps, shorten=markdown.SHORTENED))
    head = [escape(f"# {title}"), "", *(escape(f"- {name}: {value}") for name, value in _facts(record))]
    return chain(head, markdown.render(steps))


def _items(steps: Iterable[Step]) -> Iterator[str]:
    """Iterate the items as JSON, each with its stream and the position of its record."""
    from sessiond.transcript import fields

    for step in steps:
        yield to_json(fields(step.thread.name, step.placed))


def _facts(record: Session) -> Iterator[tuple[str, str]]:
    yield "Session", str(record.id)
    yield "Tool", f"{record.tool} {record.tool_version or ''}".rstrip()
    if record.model:
        yield "Model", record.model
    if record.working_directory:
        yield "Directory", record.working_directory
    if record.git_branch:
        yield "Branch", record.git_branch
    yield "Started", f"{record.started_at.astimezone():%Y-%m-%d %H:%M}"
