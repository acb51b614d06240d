"""Choose a session of this project from any machine, restore it if it is not here, and start its tool with it."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING
from uuid import UUID

from sessiond.cli.output import age, columns, table
from sessiond.errors import NotFound
from sessiond.text import count

if TYPE_CHECKING:
    from sessiond.endpoint.wire import StoredSession

SHOWN = 15
"""Sessions in the list; it fits a terminal of 24 lines."""
UNLIMITED = 1000
"""The width of the list in a pipe: nothing is shortened."""
Copies = list["StoredSession"]
"""A session as each machine has it; the one that was active last comes first."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Choose a session of this project from any of your machines, restore it if it is not here, and start its tool"
        " with it. A session belongs to this project if a directory in its path has the name of the project's"
        " directory. To end a pause, run `sessiond unpause`."
    )
    parser.add_argument("id", metavar="ID", nargs="?", help="the id of the session, or a unique prefix of it")
    parser.add_argument("--all", action="store_true", help="list the sessions of all projects")
    parser.add_argument("--directory", metavar="DIR", help="the project's directory here (default: this directory)")
    parser.add_argument("--fork", action="store_true", help="continue in a copy with a new id, if the tool can")
    parser.set_defaults(home=None, dry_run=False, launch=True)


def run(args: argparse.Namespace) -> int:
    """Start a tool with a session. Raises: NotFound, EndpointError, SessiondError, UsageError."""
    from sessiond.cli.restoring import bring_back, launch, opened

    with opened(args) as context:
        copies = context.archive.find(args.id) if args.id else _choose(args, context.archive.listed())
        command = bring_back(context, copies) if copies else None
    if command is not None:
        launch(command, args.environ)
    return 0


def _choose(args: argparse.Namespace, listed: Iterable[StoredSession]) -> Copies | None:
    """Ask the user to choose a session; return None if the user declines. Raises: NotFound, UsageError."""
    from sessiond.cli import UsageError

    name = "" if args.all else project_name(os.path.realpath(os.path.expanduser(args.directory or os.getcwd())))
    found, left_out = resumable(listed, name)
    if left_out:
        text = f"not listed: {count(left_out, 'session')} of tools into which sessions can't be restored"
        print(text, file=sys.stderr)
    if not found:
        raise _nothing(name, args)
    asks = sys.stdin.isatty() and sys.stderr.isatty()
    width = columns(sys.stdout) if sys.stdout.isatty() else UNLIMITED
    print(listing(found[:SHOWN], numbered=asks, width=width))
    if len(found) > SHOWN:
        print(f"... and {len(found) - SHOWN} older ones", file=sys.stderr)
    if not asks:
        raise UsageError("which session?", hint="sessiond resume ID")
    number = _ask(len(found[:SHOWN]))
    return found[number - 1] if number else None


def project_name(directory: str) -> str:
    """Return the name of the project that a directory is in: of the Git work tree, else of the directory itself."""
    above = directory
    while above != "/":
        if os.path.lexists(os.path.join(above, ".git")):
            return os.path.basename(above)
        above = os.path.dirname(above)
    return os.path.basename(directory)


def resumable(listed: Iterable[StoredSession], project: str) -> tuple[list[Copies], int]:
    """Return the sessions of a project that can be resumed, and how many can't; "" stands for all projects.

    Subagents are not listed where the tool has them as sessions of their own.
    """
    from sessiond.restore import last_active
    from sessiond.sources.recipes import find_recipe

    found, left_out = dict[UUID, Copies](), set[UUID]()
    for stored in listed:
        record = stored.record
        if project and project not in re.split(r"[/\\]", record.working_directory):
            continue
        recipe = find_recipe(record.tool)
        if recipe is None or stored.prompts_only:
            left_out.add(record.id)
        elif not (recipe.children and stored.parent is not None):
            found.setdefault(record.id, []).append(stored)
    every = [sorted(copies, key=last_active, reverse=True) for copies in found.values()]
    return sorted(every, key=lambda copies: last_active(copies[0]), reverse=True), len(left_out)


def listing(sessions: list[Copies], *, numbered: bool, width: int) -> str:
    """Return sessions as a table, with a number or else the id of each. Messages are those of all machines."""
    from sessiond.clock import now_ms
    from sessiond.restore import last_active

    rows = [["", "active", "tool", "machine", "msgs", "name"]]
    for number, copies in enumerate(sessions, 1):
        record = copies[0].record
        rows.append(
            [
                str(number) if numbered else str(record.id),
                age(now_ms() / 1000 - last_active(copies[0]).timestamp()),
                record.tool,
                record.machine_id or "",
                str(sum(each.record.message_count for each in copies)),
                copies[0].title or "",
            ]
        )
    return table(rows, right={0, 4}, width=width)


def _ask(most: int) -> int:
    """Ask for a number of the list until a valid one is given; return 0 for none."""
    while True:
        print(f"Resume which session? 1 to {most}, or q for none [1]: ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        answer = line.strip().lower() or "1"
        if not line or answer == "q":
            return 0
        if answer.isascii() and answer.isdecimal() and 1 <= int(answer) <= most:
            return int(answer)


def _nothing(project: str, args: argparse.Namespace) -> NotFound:
    """Return the error for an empty list. It also says how to end a pause, which `resume` might have meant."""
    from sessiond import pause
    from sessiond.cli.output import load_config
    from sessiond.clock import now_ms
    from sessiond.config import state_dir

    hint = "`sessiond resume --all` lists the sessions of all projects" if project else None
    if pause.read(state_dir(load_config(args).config), now_ms()) != pause.Paused():
        hint = "`sessiond unpause` ends the pause"
    return NotFound(
        f"no session of the project {project!a} can be resumed" if project else "no session can be resumed", hint=hint
    )
