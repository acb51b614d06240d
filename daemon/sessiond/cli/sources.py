"""Show every tool that sessiond reads: where its sessions lie, what was found, what was not understood."""

from __future__ import annotations

import argparse
import sys

import msgspec

from sessiond.cli.output import age, columns, count, escape, print_json, shorten
from sessiond.config import load
from sessiond.sources import find_sources
from sessiond.spool import Spool
from sessiond.spool.health import RootHealth
from sessiond.spool.overview import ToolCount, Trouble
from sessiond.status import Shape, Status, read_status

TROUBLES = 20
LABEL = 12


class SourceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A tool. `seen`: one of its directories is there; `enabled`: the configuration does not turn it off."""

    tool: str
    enabled: bool
    seen: bool
    files: int | None
    count: ToolCount
    roots: list[RootHealth]
    troubles: list[Trouble]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command to argparse."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Show the sources. Raises: ConfigError."""
    tools = [source.tool for source in find_sources()]
    config = load(args.config, args.environ, tools=tools).config
    status = read_status(args.config, args.environ)
    disabled = {tool for tool, settings in config.sources.items() if not settings.enabled}
    listed = listed_sources(status, tools, disabled, _troubles(status))
    if args.json:
        print_json(listed)
    else:
        print(screen(listed, now_ms=status.now_ms, width=columns(sys.stdout), home=args.environ.get("HOME", "")))
    return 0


def listed_sources(status: Status, tools: list[str], disabled: set[str], troubles: list[Trouble]) -> list[SourceStatus]:
    """Bring together what status knows of each tool and of those that it does not show."""
    known = {tool.count.tool: tool for tool in status.tools}
    listed = []
    for tool in sorted({*tools, *known}):
        shown = known.get(tool)
        roots = [] if shown is None else shown.roots
        seen = any(root.how != "missing" for root in roots) or (shown is not None and shown.count.sessions > 0)
        listed.append(
            SourceStatus(
                tool=tool,
                enabled=tool not in disabled,
                seen=seen,
                files=None if shown is None else shown.files,
                count=ToolCount(tool=tool) if shown is None else shown.count,
                roots=roots,
                troubles=[trouble for trouble in troubles if trouble.tool == tool],
            )
        )
    return listed


def screen(listed: list[SourceStatus], *, now_ms: int, width: int = 80, home: str = "") -> str:
    """Lay the sources out, a paragraph each."""
    paragraphs = []
    for source in listed:
        lines = [f"{source.tool:<{LABEL}} {_summary(source, now_ms)}"]
        lines += [f"  {root.how:<{LABEL - 2}} {_place(root, home)}" for root in source.roots]
        unknown = source.count.unknown
        if unknown:
            lines.append(f"  ! {count(len(unknown), 'unknown record type')}: {', '.join(unknown)}")
            lines.append("    messages may be undercounted; the transcripts are whole")
        if source.count.damaged:
            lines.append(f"  ! {count(source.count.damaged, 'damaged record')}: kept in the transcript, not counted")
        for trouble in source.troubles:
            lines.append(f"  ! {trouble.path}: {trouble.reason}")
        paragraphs.append("\n".join(shorten(escape(line), width) for line in lines))
    return "\n".join(paragraphs)


def _summary(source: SourceStatus, now_ms: int) -> str:
    if not source.enabled:
        return "turned off in the configuration"
    if not source.seen:
        return "not found on this machine"
    counts = source.count
    files = "" if source.files is None else f" in {count(source.files, 'file')}"
    active = "" if counts.active_ms is None else f", last active {age((now_ms - counts.active_ms) / 1000)}"
    return f"{count(counts.sessions, 'session')}{files}, {counts.ongoing} ongoing{active}"


def _place(root: RootHealth, home: str) -> str:
    path = "~" + root.path[len(home) :] if home and root.path.startswith(home + "/") else root.path
    return f"{path} ({root.detail})" if root.detail and root.how != "missing" else path


def _troubles(status: Status) -> list[Trouble]:
    if status.spool.state is not Shape.FINE or not status.troubles:
        return []
    spool = Spool(status.state_dir, readonly=True)
    try:
        with spool.snapshot():
            return spool.overview.troubles(TROUBLES)
    finally:
        spool.close()
