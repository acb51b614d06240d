"""Erase sessions for good: here, and at the endpoint. Nothing brings them back."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from sessiond import exit_codes, state
from sessiond.cli.erasable import Plan, list_stored, make_plan
from sessiond.cli.lookup import notify_daemon, opened, short_ids
from sessiond.cli.output import age, columns, escape, load_config, print_json, size, table, tilde, wrapped
from sessiond.cli.selection import parse_moment
from sessiond.clock import now_ms
from sessiond.config import Config, state_dir
from sessiond.errors import AlreadyRunning, ConfigError, EndpointError, Forbidden, NotFound, SessiondError
from sessiond.spool import Spool
from sessiond.spool.forgotten import count_erasures
from sessiond.spool.health import read_endpoint
from sessiond.text import count

if TYPE_CHECKING:
    from sessiond.endpoint.wire import StoredSession

SHOWN = 20
"""Sessions, and files, that are listed by name."""
MACHINES = 3
"""Machines that are named."""
WAIT_SECONDS, POLL = 20.0, 0.1
"""How long to wait for a running daemon, and between two looks at what it has done."""


class ConfirmationRequired(SessiondError):
    """The command asks for confirmation, and stdin is not a terminal."""

    exit_code = exit_codes.USAGE


class Erased(msgspec.Struct, frozen=True, kw_only=True):
    """The result, as `--json` prints it."""

    sessions: list[str]
    bytes: int
    everywhere: bool
    """Whether the endpoint was asked to erase them too."""
    here: bool
    """Whether nothing of them is left in the state directory."""
    waiting: int
    """Sessions that the endpoint or the built-in archive has not erased yet; sessiond keeps trying."""
    problem: str | None
    files: list[str]
    """The tools' own files, which still have the sessions."""
    unlisted: str | None
    """Why sessions of other machines could not be included, if the sessions were chosen by filters."""
    copies: list[str]
    """Damaged spools that were set aside; they may have parts of the sessions."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Erase sessions: what was captured of them here, and their copies at the endpoint, whichever machine sent"
        " them. They are not captured again. The tools' own files are not changed."
    )
    parser.add_argument("id", metavar="ID", nargs="*", help="the id of a session, or a unique prefix of it")
    parser.add_argument("--directory", metavar="DIR", help="sessions that worked in DIR or below it")
    parser.add_argument(
        "--before", type=parse_moment, metavar="TIME", help='sessions last active before TIME: "90d", 2026-01-31'
    )
    parser.add_argument(
        "--excluded", action="store_true", help="sessions that were pushed before you excluded their project"
    )
    parser.add_argument(
        "--keep-children", action="store_true", help="keep sessions that were started or forked from these"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--here", action="store_true", help="erase only on this machine; the endpoint keeps its copies")
    where.add_argument("--everywhere", action="store_true", help="erase here and at the endpoint (default)")
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Erase sessions; return 4 if the endpoint has not erased all of them yet.

    Raises: NotFound, UsageError, ConfirmationRequired, StateError, ConfigError.
    """
    _check(args)
    with opened(args, readonly=False) as (spool, config):
        stored, unlisted = _ask(config, args)
        plan = make_plan(spool, args, stored)
        if not plan.ids:
            raise NotFound("no matching sessions", hint=unlisted or "`sessiond ls` lists them")
        if not args.json:
            print(_listing(plan, spool, config, args), *([unlisted] if unlisted else []), sep="\n", file=sys.stderr)
        if not args.yes and not _confirmed(plan):
            return exit_codes.FAILED
        with spool.transaction():
            # From here on nothing of them is captured or copied. A kill leaves the rest to the daemon.
            spool.forgotten.order(plan.ids, now_ms(), everywhere=plan.everywhere)
        directory = state_dir(config)
    _carry_out(directory, args)
    # With an id, the endpoint erases the copies of all machines without being asked for a list of them.
    result = _result(plan, directory, config, None if args.id else unlisted)
    if args.json:
        print_json(result)
    else:
        print(_summary(result, config))
    return exit_codes.OK if result.here and not result.waiting and not result.unlisted else exit_codes.DEGRADED


def _ask(config: Config, args: argparse.Namespace) -> tuple[list[StoredSession], str | None]:
    """Return the sessions of all machines at the endpoint, or why there is no list."""
    if args.here or not config.endpoint.url:
        return [], None
    try:
        return list_stored(config, args.environ), None
    except (EndpointError, ConfigError) as error:
        missing = f"Not included: sessions of other machines, because {escape(str(error))}"
        if not isinstance(error, Forbidden):
            return [], missing
        # A token that only pushes may erase nothing that other machines pushed, so nothing is missing.
        if not args.json:
            print(missing, file=sys.stderr)
        return [], None


def _check(args: argparse.Namespace) -> None:
    from sessiond.cli import UsageError

    filters = args.directory is not None or args.before is not None
    chosen = (bool(args.id), filters, args.excluded)
    if not any(chosen):
        raise UsageError("which sessions?", hint="give their ids, or --directory, --before or --excluded")
    if sum(chosen) > 1:
        raise UsageError("ids, filters and --excluded can't be combined")
    if args.excluded and args.here:
        raise UsageError("--excluded erases only what is at the endpoint", hint="leave out --here")


# What is erased


def _listing(plan: Plan, spool: Spool, config: Config, args: argparse.Namespace) -> str:
    short, width = short_ids(spool, plan.ids), columns(sys.stderr)
    home = args.environ.get("HOME", "")
    lines: list[str] = []
    if plan.sessions or plan.copies:
        rows = _rows(plan, short)
        several = len({row[1] for row in rows}) > 1 or bool(plan.copies)
        shown = [["session", "machine", "tool", "size", "active", "name"], *rows[:SHOWN]]
        shown = shown if several else [[row[0], *row[2:]] for row in shown]
        lines += [table(shown, right={3 if several else 2}, width=width), *_more(len(rows))]
    if plan.sessions:
        held = size(sum(plan.sizes.values()))
        lines += wrapped(f"{count(len(plan.sessions), 'session')}, {held} captured here", width)
    if plan.copies:
        copies = len({each.session for each in plan.copies})
        held = size(sum(each.size for each in plan.copies))
        what = " of excluded projects" if args.excluded else ""
        text = f"{count(copies, 'session')}{what}, {held} at the endpoint, sent by {_machines(plan)}"
        lines += wrapped(text, width)
    listed = {each.session for each in plan.copies}
    others = [each for each in plan.elsewhere if each not in listed]
    if others:
        what = "of excluded projects" if args.excluded else "not captured on this machine"
        lines += [f"{count(len(others), 'session')} {what}:", *(f"  {each}" for each in others[:SHOWN])]
        lines += _more(len(others))
    url = config.endpoint.url
    if plan.everywhere and url:
        lines += wrapped(f"Also erased: every copy of them at {escape(url)}, whichever machine sent it.", width)
    elif url:
        lines += wrapped(f"Not erased (--here): their copies at {escape(url)}.", width)
    if plan.files:
        lines += wrapped("Not changed: the tools' own files, which still have these sessions:", width)
        lines += [f"  {escape(tilde(path, home))}" for path in plan.files[:SHOWN]]
        lines += _more(len(plan.files))
    return "\n".join(lines)


def _rows(plan: Plan, short: Mapping[str, str]) -> list[list[str]]:
    """Return a row for each copy: session, machine, tool, size, activity and name."""
    rows: list[list[Any]] = [
        [str(each.uuid), each.record.machine_id if each.record else "", each.tool, plan.sizes[each.id], each.active_ms]
        for each in plan.sessions
    ]
    rows += [[each.session, each.machine, each.tool, each.size, each.active_ms] for each in plan.copies]
    names = [*(each.title for each in plan.sessions), *(each.name for each in plan.copies)]
    return [
        [short[session], machine or "-", tool, size(held), age((now_ms() - active_ms) / 1000), name or ""]
        for (session, machine, tool, held, active_ms), name in zip(rows, names, strict=True)
    ]


def _machines(plan: Plan) -> str:
    names = sorted({escape(each.machine) for each in plan.copies})
    return ", ".join(names[:MACHINES]) + (f" and {len(names) - MACHINES} more" if len(names) > MACHINES else "")


def _more(number: int) -> list[str]:
    return [f"  and {number - SHOWN} more"] if number > SHOWN else []


def _confirmed(plan: Plan) -> bool:
    if not (sys.stdin and sys.stdin.isatty()):
        raise ConfirmationRequired("this erases sessions for good and needs confirmation", hint="add --yes")
    question = f"Erase {count(len(plan.ids), 'session')} for good? [y/N] "
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


# Erasing


def _carry_out(directory: str, args: argparse.Namespace) -> None:
    """Erase now: in this process, or by the running daemon. What can't be done now is done later."""
    from sessiond.daemon.once import erase_once

    until = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            erase_once(load_config(args), args.environ)
            return
        except AlreadyRunning:
            if not notify_daemon(directory):
                time.sleep(POLL)  # it is starting or ending
        while state.running(directory) is not None:
            if _is_done(directory) or time.monotonic() > until:
                return
            time.sleep(POLL)
        if time.monotonic() > until:
            return


def _is_done(directory: str) -> bool:
    spool = Spool(directory, readonly=True)
    try:
        with spool.snapshot():
            left = count_erasures(spool.connection, archive=state.has_archive(directory))
            failing = left.problem is not None or read_endpoint(spool).failing_since_ms is not None
            return not spool.forgotten.captured() and (failing or not (left.endpoint or left.archive))
    finally:
        spool.close()


def _result(plan: Plan, directory: str, config: Config, unlisted: str | None) -> Erased:
    from sessiond.spool.damaged import damaged_spools

    spool = Spool(directory, readonly=True)
    try:
        with spool.snapshot():
            here = not spool.forgotten.captured()
            left = count_erasures(spool.connection, archive=state.has_archive(directory))
            endpoint = read_endpoint(spool)
    finally:
        spool.close()
    waiting = left.waiting if config.endpoint.url else left.archive
    return Erased(
        sessions=plan.ids,
        bytes=sum(plan.sizes.values()),
        everywhere=plan.everywhere,
        here=here,
        waiting=waiting,
        problem=(left.problem or endpoint.reason) if waiting else None,
        files=plan.files,
        unlisted=unlisted,
        copies=damaged_spools(directory),
    )


def _summary(result: Erased, config: Config) -> str:
    what = count(len(result.sessions), "session")
    lines = [f"{what} erased on this machine" if result.here else f"{what} to be erased once sessiond runs"]
    if result.waiting:
        reason = f": {escape(result.problem)}" if result.problem else ""
        where = "at the endpoint" if config.endpoint.url else "in the built-in archive"
        lines.append(f"{count(result.waiting, 'session')} still to be erased {where}{reason}")
        lines.append("sessiond keeps trying; `sessiond queue` shows what is left")
    elif result.everywhere and config.endpoint.url:
        lines.append(f"and at {escape(config.endpoint.url)}")
    if result.unlisted:
        lines += [result.unlisted, "run the same command again once the endpoint answers"]
    lines += [f"A damaged spool may have parts of them; delete it: {escape(path)}" for path in result.copies]
    return "\n".join(lines)
