"""Show the supported tools: their directories, what was found, and what could not be read."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping

import msgspec

from sessiond.cli.output import age, columns, escape, load_config, print_json, tilde, wrapped
from sessiond.config import Config
from sessiond.doctor.uncaptured import Uncaptured, find_uncaptured
from sessiond.sources import UNREADABLE, find_roots, find_sources
from sessiond.sources.base import UserDirs
from sessiond.spool import Spool
from sessiond.spool.health import RootHealth, read_unnamed
from sessiond.spool.stats import ToolCount, Trouble
from sessiond.status import SpoolState, Status, ToolStatus, read_status
from sessiond.text import count

TROUBLES = 20
SHOWN_FILES = 100
"""Files of a tool that `--long` lists; `--json` has all."""
FEW_FILES = 3
"""The same without `--long`."""
LABEL = 12


class SourceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A tool. `seen`: one of its directories exists. `enabled`: the configuration does not disable it."""

    tool: str
    enabled: bool
    seen: bool
    files: int | None
    count: ToolCount
    roots: list[RootHealth]
    troubles: list[Trouble]
    sessionless: int = 0
    """Side files of sessions that are not captured."""
    unnamed: dict[str, int] = {}
    """Prompts that name no session and so are in none, by the path of their history."""
    unrecognized: int = 0
    """Files that look like sessions and that no source reads."""
    messageless: list[str] = []
    """Captured files without a message, such as settings alone. They are pushed once there is one."""
    uncaptured: list[Uncaptured] = []
    """These files and side files, with the reason; only if they were searched for."""
    unreadable: str | None = None
    """Why its sessions can't be read, for a tool that is only recognized."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "--all", action="store_true", dest="every", help="also show the directories of tools that are not installed"
    )
    parser.add_argument("--long", action="store_true", help="list all files that are not captured")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print the tools."""
    tools = [source.tool for source in find_sources()]
    config = load_config(args, tools=tools, valid=True).config
    status = read_status(args.config, args.environ)
    if not any(tool.roots for tool in status.tools):
        status = _with_default_roots(status, config, args.environ)
    disabled = {tool for tool, settings in config.sources.items() if not settings.enabled}
    home = args.environ.get("HOME", "")
    listed = listed_sources(status, tools, disabled, _troubles(status), home)
    unnamed, messageless = _without_session(status)
    listed = [
        msgspec.structs.replace(_with_unnamed(each, unnamed), messageless=messageless.get(each.tool, []))
        for each in listed
    ]
    needs_details = args.json or args.long
    if needs_details or any(each.unrecognized for each in listed):
        found = _uncaptured(status, config, args.environ)
        listed = [
            msgspec.structs.replace(each, uncaptured=found.get(each.tool, []))
            if needs_details or each.unrecognized
            else each
            for each in listed
        ]
    listed += _unreadable(args.environ)
    if args.json:
        print_json(listed)
    else:
        print(
            screen(listed, now_ms=status.now_ms, width=columns(sys.stdout), home=home, every=args.every, long=args.long)
        )
    return 0


def _with_default_roots(status: Status, config: Config, environ: Mapping[str, str]) -> Status:
    """Return the status with the directories that a daemon would watch, before one has recorded them."""
    counts, roots = {tool.count.tool: tool for tool in status.tools}, dict[str, list[RootHealth]]()
    for source, root in find_roots(config, environ):
        how = "not watched" if os.path.isdir(root.path) else "missing"
        roots.setdefault(source.tool, []).append(RootHealth(tool=source.tool, path=root.path, how=how))
    tools = [
        counts.get(tool, ToolStatus(count=ToolCount(tool=tool), files=None, roots=[])).replace(roots=found)
        for tool, found in roots.items()
    ]
    return status.replace(tools=tools)


def listed_sources(
    status: Status, tools: list[str], disabled: set[str], troubles: list[Trouble], home: str
) -> list[SourceStatus]:
    """Return every tool with what `status` knows about it."""
    known = {tool.count.tool: tool for tool in status.tools}
    listed = []
    for tool in sorted({*tools, *known}):
        shown = known.get(tool)
        roots = [] if shown is None else shown.roots
        seen = shown is not None and shown.is_here(home)
        listed.append(
            SourceStatus(
                tool=tool,
                enabled=tool not in disabled,
                seen=seen,
                files=None if shown is None else shown.files,
                count=ToolCount(tool=tool) if shown is None else shown.count,
                roots=roots,
                troubles=[trouble for trouble in troubles if trouble.tool == tool],
                sessionless=0 if shown is None else shown.sessionless,
                unrecognized=0 if shown is None else shown.unrecognized,
            )
        )
    return listed


def _unreadable(environ: Mapping[str, str]) -> list[SourceStatus]:
    """Return the installed tools whose sessions can't be read."""
    dirs = UserDirs.current(environ)
    return [
        SourceStatus(
            tool=it.tool,
            enabled=True,
            seen=True,
            files=None,
            count=ToolCount(tool=it.tool),
            roots=[RootHealth(tool=it.tool, path=path, how="not read")],
            troubles=[],
            unreadable=it.reason,
        )
        for it in UNREADABLE
        if (path := it.find(dirs))
    ]


def screen(
    listed: list[SourceStatus],
    *,
    now_ms: int,
    width: int = 80,
    home: str = "",
    every: bool = False,
    long: bool = False,
) -> str:
    """Format the tools, one paragraph each; missing tools share one unless `every` is set. `long`: files are listed."""
    paragraphs = []
    absent = [] if every else [source.tool for source in listed if source.enabled and not source.seen]
    for source in listed:
        if source.tool in absent:
            continue
        labelled = [f"{source.tool:<{LABEL}} {_summary(source, now_ms)}"]
        there = [root for root in source.roots if root.how != "missing"]
        roots = source.roots if every or not there else there
        labelled += [f"  {root.how:<{LABEL - 2}} {_format_root(root, home)}" for root in roots]
        lines = []
        if source.unreadable:
            lines += [
                f"  ! {line}" if not at else f"    {line}"
                for at, line in enumerate(wrapped(source.unreadable, width - 4))
            ]
        unknown = source.count.unknown
        if unknown:
            since = f" since {source.count.unknown_since}" if source.count.unknown_since else ""
            lines.append(f"  ! {count(len(unknown), 'unknown record type')}{since}: {', '.join(unknown)}")
            lines.append("    messages may be undercounted; the transcripts are complete")
        if source.count.damaged:
            lines.append(f"  ! {count(source.count.damaged, 'damaged record')}: kept in the transcript, not counted")
        lines += _format_uncaptured(source, home, long=long)
        for path, number in source.unnamed.items():
            lines.append(f"  - {count(number, 'prompt')} in {tilde(path, home)} without a session: not captured")
        for trouble in source.troubles:
            lines.append(f"  ! {tilde(trouble.path, home)}: {trouble.reason}")
        parts = [part for line in labelled for part in _wrap(escape(line), width, LABEL + 1)]
        paragraphs.append("\n".join([*parts, *(part for line in lines for part in _wrap(escape(line), width, 4))]))
    if absent:
        known = wrapped(f"Supported, not found here: {', '.join(absent)}.", width)
        paragraphs.append("\n".join(["", *known, *wrapped("`sessiond sources --all` shows their directories.", width)]))
    return "\n".join(paragraphs)


def _wrap(line: str, width: int, indent: int) -> list[str]:
    """Wrap a line after its first `indent` characters. It is never shortened: a path would lose its file's name."""
    if len(line) <= width:
        return [line]
    first, *rest = wrapped(line[indent:], width - indent)
    return [line[:indent] + first, *(" " * indent + part for part in rest)]


def _summary(source: SourceStatus, now_ms: int) -> str:
    if not source.enabled:
        return "disabled in the configuration"
    if not source.seen:
        return "not found on this machine"
    if source.unreadable:
        return "not read"
    counts = source.count
    if source.files is None and not counts.sessions:
        return "found; nothing captured yet"
    files = "" if source.files is None else f" in {count(source.files, 'file')}"
    active = "" if counts.active_ms is None else f", last active {age((now_ms - counts.active_ms) / 1000)}"
    return f"{count(counts.sessions, 'session')}{files}, {counts.ongoing} ongoing{active}"


def _format_uncaptured(source: SourceStatus, home: str, *, long: bool) -> Iterator[str]:
    """Iterate the lines about files that are not captured: their number, and their paths if they were searched for."""
    shown = SHOWN_FILES if long else FEW_FILES
    more = ": sessiond sources --long lists them"
    if source.unrecognized:
        which = "looks like a session and is" if source.unrecognized == 1 else "look like sessions and are"
        yield f"  ! {count(source.unrecognized, 'file')} that {which} not captured{'' if source.uncaptured else more}"
        more = ""
    if source.sessionless:
        text = f"{count(source.sessionless, 'side file')} of sessions that are not captured"
        yield f"  - {text}{'' if source.uncaptured else more}"
    for each in source.uncaptured[:shown]:
        yield f"    {tilde(each.path, home)}: {each.reason}"
    if len(source.uncaptured) > shown:
        yield f"    {len(source.uncaptured) - shown} more: sessiond sources --{'json' if long else 'long'}"
    if source.messageless:
        more = "" if long else ": sessiond sources --long lists them"
        yield f"  - {count(len(source.messageless), 'file')} without a message, in no session yet{more}"
        yield from (f"    {tilde(path, home)}" for path in source.messageless[: SHOWN_FILES if long else 0])
        if long and len(source.messageless) > SHOWN_FILES:
            yield f"    {len(source.messageless) - SHOWN_FILES} more: sessiond sources --json"


def _format_root(root: RootHealth, home: str) -> str:
    path = tilde(root.path, home)
    return f"{path} ({root.detail})" if root.detail and root.how != "missing" else path


def _troubles(status: Status) -> list[Trouble]:
    if status.spool.state is not SpoolState.OK or not status.troubles:
        return []
    spool = Spool(status.state_dir, readonly=True)
    try:
        with spool.snapshot():
            return spool.stats.troubles(TROUBLES)
    finally:
        spool.close()


def _uncaptured(status: Status, config: Config, environ: Mapping[str, str]) -> dict[str, list[Uncaptured]]:
    if status.spool.state is not SpoolState.OK:
        return find_uncaptured(config, environ, status.state_dir, None)
    spool = Spool(status.state_dir, readonly=True)
    try:
        with spool.snapshot():
            return find_uncaptured(config, environ, status.state_dir, spool)
    finally:
        spool.close()


def _without_session(status: Status) -> tuple[dict[str, int], dict[str, list[str]]]:
    """Return the prompts that name no session, by their history, and the files without a message, by their tool."""
    if status.spool.state is not SpoolState.OK:
        return {}, {}
    spool = Spool(status.state_dir, readonly=True)
    try:
        with spool.snapshot():
            return read_unnamed(spool), spool.stats.messageless()
    finally:
        spool.close()


def _with_unnamed(source: SourceStatus, unnamed: Mapping[str, int]) -> SourceStatus:
    directories = {root.path for root in source.roots}
    own = {path: number for path, number in unnamed.items() if number and os.path.dirname(path) in directories}
    return msgspec.structs.replace(source, unnamed=own)
