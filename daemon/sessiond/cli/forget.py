"""Erase sessions for good: here, and at the endpoint. Nothing brings them back."""

from __future__ import annotations

import argparse
import sys
import time

import msgspec

from sessiond import exit_codes, state
from sessiond.cli.erasable import Plan, make_plan
from sessiond.cli.lookup import notify_daemon, opened, short_ids
from sessiond.cli.output import age, columns, count, escape, load_config, print_json, size, table, tilde
from sessiond.cli.selection import parse_moment
from sessiond.clock import now_ms
from sessiond.config import Config, state_dir
from sessiond.errors import AlreadyRunning, NotFound, SessiondError
from sessiond.spool import Spool
from sessiond.spool.forgotten import count_erasures
from sessiond.spool.health import read_endpoint

SHOWN = 20
"""Sessions, and files, that are listed by name."""
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
    copies: list[str]
    """Damaged spools that were set aside; they may have parts of the sessions."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Erase sessions: what was captured of them here, and their copies at the endpoint, whichever machine sent"
        " them. They are not captured again. The tools' own files are not changed."
    )
    parser.add_argument("id", metavar="ID", nargs="*", help="the id of a session, or a unique prefix of it")
    parser.add_argument("--directory", metavar="DIR", help="sessions that worked in this directory or below it")
    parser.add_argument(
        "--before", type=parse_moment, metavar="TIME", help='sessions last active before TIME: "90d", 2026-01-31'
    )
    parser.add_argument(
        "--excluded", action="store_true", help="what the endpoint still has of projects that you excluded later"
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
        plan = make_plan(spool, args)
        if not plan.ids:
            raise NotFound("no session matches", hint="`sessiond ls` lists them")
        if not args.json:
            print(_listing(plan, spool, config, args), file=sys.stderr)
        if not args.yes and not _confirmed(plan):
            return exit_codes.FAILED
        with spool.transaction():
            # From here on nothing of them is captured or copied. A kill leaves the rest to the daemon.
            spool.forgotten.order(plan.ids, now_ms(), everywhere=plan.everywhere)
        directory = state_dir(config)
    _carry_out(directory, args)
    result = _result(plan, directory, config)
    if args.json:
        print_json(result)
    else:
        print(_summary(result, config))
    return exit_codes.OK if result.here and not result.waiting else exit_codes.DEGRADED


def _check(args: argparse.Namespace) -> None:
    from sessiond.cli import UsageError

    filters = args.directory is not None or args.before is not None
    chosen = (bool(args.id), filters, args.excluded)
    if not any(chosen):
        raise UsageError("which sessions?", hint="name them, or choose them by --directory, --before or --excluded")
    if sum(chosen) > 1:
        raise UsageError("ids, filters and --excluded can't be combined")
    if args.excluded and args.here:
        raise UsageError("of excluded projects nothing is left on this machine", hint="leave out --here")


# What is erased


def _listing(plan: Plan, spool: Spool, config: Config, args: argparse.Namespace) -> str:
    short, width = short_ids(spool, plan.ids), columns(sys.stderr)
    home = args.environ.get("HOME", "")
    lines: list[str] = []
    if plan.sessions:
        rows = [["session", "tool", "size", "active", "name"]]
        for each in plan.sessions[:SHOWN]:
            active = age((now_ms() - each.active_ms) / 1000)
            rows.append([short[str(each.uuid)], each.tool, size(plan.sizes[each.id]), active, each.title or ""])
        lines += [table(rows, right={2}, width=width), *_more(len(plan.sessions))]
        lines.append(f"{count(len(plan.sessions), 'session')}, {size(sum(plan.sizes.values()))} captured here")
    if plan.elsewhere:
        what = "of excluded projects" if args.excluded else "not captured on this machine"
        lines += [f"{count(len(plan.elsewhere), 'session')} {what}:", *(f"  {each}" for each in plan.elsewhere[:SHOWN])]
        lines += _more(len(plan.elsewhere))
    url = config.endpoint.url
    if plan.everywhere and url:
        lines.append(f"Also erased: every copy of them at {escape(url)}, whichever machine sent it.")
    elif url:
        lines.append(f"Not erased (--here): their copies at {escape(url)}.")
    if plan.files:
        lines.append("Not changed: the tools' own files, which still have these sessions:")
        lines += [f"  {escape(tilde(path, home))}" for path in plan.files[:SHOWN]]
        lines += _more(len(plan.files))
    return "\n".join(lines)


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


def _result(plan: Plan, directory: str, config: Config) -> Erased:
    from sessiond.spool.damaged import damaged_spools

    spool = Spool(directory, readonly=True)
    try:
        with spool.snapshot():
            here = not spool.forgotten.captured()
            left = count_erasures(spool.connection, archive=state.has_archive(directory))
            endpoint = read_endpoint(spool)
    finally:
        spool.close()
    waits = (left.endpoint if config.endpoint.url else 0) + left.archive
    return Erased(
        sessions=plan.ids,
        bytes=sum(plan.sizes.values()),
        everywhere=plan.everywhere,
        here=here,
        waiting=waits,
        problem=(left.problem or endpoint.reason) if waits else None,
        files=plan.files,
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
    lines += [f"A damaged spool may have parts of them; delete it: {escape(path)}" for path in result.copies]
    return "\n".join(lines)
