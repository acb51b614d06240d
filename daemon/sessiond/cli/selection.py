"""Selects the sessions that a command lists: filters, order and limit, for sessions here and at the endpoint."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec

from sessiond.clock import now_ms
from sessiond.session import Session

_HOME = re.compile(r"(?:/home/[^/]+|/Users/[^/]+|/var/home/[^/]+|/root|[A-Za-z]:/Users/[^/]+)(?=/|$)")
"""A home directory on any machine."""


class Sort(StrEnum):
    """The order of a list: newest or most first, texts from A to Z."""

    ACTIVE = "active"
    STARTED = "started"
    MESSAGES = "messages"
    MACHINE = "machine"
    TOOL = "tool"
    DIRECTORY = "directory"
    NAME = "name"


class Row(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A session in a list, from the spool or from the endpoint."""

    record: Session
    name: str | None
    parent: UUID | None
    active_ms: int
    ongoing: bool
    gone: bool
    """Whether the tool has deleted its files."""
    prompts_only: bool
    state: str = "safe"
    """Its state at the endpoint, as in `sessiond.spool.safety.State`."""
    number: int | None = None
    """Its row in the spool; None: the session comes from the endpoint."""

    @property
    def machine(self) -> str:
        """The machine on which it was captured."""
        return self.record.machine_id or ""


class Directory(msgspec.Struct, frozen=True):
    """A directory to which sessions belong: a path below the home directory, another path, or a name."""

    text: str
    named: bool = False
    """Whether `text` is the name of a directory anywhere, instead of a path."""

    def contains(self, directory: str, home: str) -> bool:
        """Return whether a working directory is this one or below it. Home directories of all machines are equal."""
        path = below_home(directory, home)
        if self.named:
            return f"/{self.text}/" in f"/{path}/"
        return f"{path}/".startswith(f"{self.text}/")


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """The filters of a list. None and False match all sessions."""

    tool: str | None = None
    machine: str | None = None
    directory: Directory | None = None
    branch: str | None = None
    model: str | None = None
    """Part of the model's name; case is ignored."""
    since_ms: int | None = None
    until_ms: int | None = None
    """Sessions that started before that time."""
    only_here: bool = False
    """Sessions whose tool has deleted its files."""
    ongoing: bool = False
    sort: Sort = Sort.ACTIVE
    limit: int | None = None
    home: str = ""

    def matches(self, row: Row) -> bool:
        """Return whether a session belongs to the list."""
        record = row.record
        return (
            (self.tool is None or record.tool == self.tool)
            and (self.machine is None or row.machine == self.machine)
            and (self.branch is None or record.git_branch == self.branch)
            and (self.model is None or self.model.lower() in (record.model or "").lower())
            and (self.since_ms is None or row.active_ms >= self.since_ms)
            and (self.until_ms is None or record.started_at.timestamp() * 1000 < self.until_ms)
            and (row.gone or not self.only_here)
            and (row.ongoing or not self.ongoing)
            and (self.directory is None or self.directory.contains(record.working_directory, self.home))
        )

    @property
    def filtered(self) -> bool:
        """Whether sessions may be missing from the list because of a filter."""
        return self != Selection(sort=self.sort, limit=self.limit, home=self.home)

    @property
    def order(self) -> Callable[[Row], Any]:
        """The key by which rows are sorted, after they were sorted by their activity."""
        keys: dict[Sort, Callable[[Row], Any]] = {
            Sort.ACTIVE: lambda row: -row.active_ms,
            Sort.STARTED: lambda row: -row.record.started_at.timestamp(),
            Sort.MESSAGES: lambda row: -row.record.message_count,
            Sort.MACHINE: lambda row: row.machine,
            Sort.TOOL: lambda row: row.record.tool,
            Sort.DIRECTORY: lambda row: row.record.working_directory,
            Sort.NAME: lambda row: (row.name or "").lower(),
        }
        return keys[self.sort]


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Add the options that `make_selection` reads."""
    parser.add_argument("--here", action="store_true", help="sessions of this project, on any machine")
    parser.add_argument("--machine", metavar="MACHINE", help="sessions of this machine")
    parser.add_argument("--tool", metavar="TOOL", help="sessions of this tool: claude-code, codex, ...")
    parser.add_argument("--directory", metavar="DIR", help="sessions in DIR or below it; a plain name matches anywhere")
    parser.add_argument("--branch", metavar="NAME", help="sessions of this git branch")
    parser.add_argument("--model", metavar="TEXT", help="sessions whose model contains TEXT")
    parser.add_argument(
        "--since",
        type=parse_moment,
        metavar="TIME",
        help='sessions active since TIME: "2d", 2026-11-22, 2026-11-22T13:00Z',
    )
    parser.add_argument("--until", type=parse_moment, metavar="TIME", help="sessions that began before TIME")
    parser.add_argument("--ongoing", action="store_true", help="sessions that have not ended")
    parser.add_argument("--only-here", action="store_true", help="sessions that their tool has deleted")
    order = f"the order: {', '.join(Sort)} (default: active)"
    parser.add_argument("--sort", metavar="FIELD", choices=tuple(Sort), default=Sort.ACTIVE, help=order)
    parser.add_argument("--limit", type=_limit, metavar="N", help="at most N sessions")


def make_selection(args: argparse.Namespace) -> Selection:
    """Return the selection of a command line. Raises: UsageError if the current directory does not exist."""
    home = args.environ.get("HOME", "")
    directory = None
    if args.here:
        directory = Directory(below_home(_project(), home))
    elif args.directory is not None:
        named = "/" not in args.directory and args.directory not in (".", "..", "~")
        path = args.directory if named else os.path.abspath(_expand(args.directory, home))
        directory = Directory(path if named else below_home(path, home), named)
    return Selection(
        tool=args.tool,
        machine=args.machine,
        directory=directory,
        branch=args.branch,
        model=args.model,
        since_ms=args.since,
        until_ms=args.until,
        only_here=args.only_here,
        ongoing=args.ongoing,
        sort=Sort(args.sort),
        limit=args.limit,
        home=home,
    )


def below_home(path: str, home: str) -> str:
    """Return a path with `~` for the home directory, so that paths of machines with other users can be compared."""
    plain = path.replace("\\", "/").rstrip("/")
    if home and f"{plain}/".startswith(f"{home.rstrip('/')}/"):
        return "~" + plain[len(home.rstrip("/")) :]
    return _HOME.sub("~", plain, count=1) if _HOME.match(plain) else plain


def parse_moment(text: str) -> int:
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


def _project() -> str:
    """Return the root of the git repository that the current directory is in, or the current directory."""
    try:
        here = os.getcwd()
    except FileNotFoundError as error:
        from sessiond.cli import UsageError

        raise UsageError("the current directory does not exist", hint="change to another directory") from error
    directory = here
    while not os.path.exists(os.path.join(directory, ".git")):
        above = os.path.dirname(directory)
        if above == directory:
            return here
        directory = above
    return directory


def _expand(path: str, home: str) -> str:
    return home + path[1:] if path == "~" or path.startswith("~/") else path


def _limit(text: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text) < 1 << 31:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!a} is not a positive number")
