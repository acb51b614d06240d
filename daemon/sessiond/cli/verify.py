"""Compare the tools' files, what was captured and what the endpoint has; repair what differs."""

from __future__ import annotations

import argparse
import sys

import msgspec

from sessiond import exit_codes
from sessiond.cli.output import columns, escape, load_config, print_json, table, wrapped
from sessiond.cli.verified import Verified
from sessiond.text import count

SHOWN = 20
"""Problems that are listed; `--json` has all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Compare the tools' files, what was captured of them, and what the endpoint has. The exit code is 0 if"
        " everything is safe, and 4 if something is not."
    )
    parser.add_argument("id", metavar="ID", nargs="*", help="verify only these sessions")
    parser.add_argument("--tool", metavar="TOOL", help="verify only sessions of this tool")
    parser.add_argument(
        "--deep", action="store_true", help="read each byte of the tools' files and of the endpoint, and compare them"
    )
    parser.add_argument("--repair", action="store_true", help="capture and push again what differs, then verify again")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Verify; return 0 if everything is safe, else 4. Raises: NotFound, EndpointError, StateError, ConfigError."""
    from sessiond.cli.verifying import verify

    loaded = load_config(args)
    first = verify(args, loaded, repair=args.repair)
    result = first
    if args.repair and not first.complete:
        from sessiond.cli.sync import Incomplete, synchronize

        try:
            synchronize(loaded, args.environ)
        except Incomplete as error:
            print(f"sessiond: {escape(str(error))}", file=sys.stderr)
        second = verify(args, loaded, repair=False)
        result = msgspec.structs.replace(second, repaired=max(0, len(first.problems) - len(second.problems)))
    if args.json:
        print_json(result)
    else:
        print(listing(result, columns(sys.stdout)))
    return exit_codes.OK if result.complete else exit_codes.DEGRADED


def listing(result: Verified, width: int) -> str:
    """Format the result as a table of tools, and a list of problems."""
    deep = any(each.compared for each in result.tools)
    header = ["tool", "sessions", "safe", "files", "not captured", *(["compared"] if deep else [])]
    rows = [header]
    for each in result.tools:
        numbers = [each.sessions, each.safe, each.files, each.not_captured, *([each.compared] if deep else [])]
        rows.append([each.tool, *map(str, numbers)])
    lines = [table(rows, right=set(range(1, len(header))), width=width)] if result.tools else []
    for problem in result.problems[:SHOWN]:
        where = problem.session[:8] if problem.session else ""
        text = escape(" ".join(filter(None, (where, problem.tool, problem.what))))
        first, *more = wrapped(text, width - 2)
        lines += [f"! {first}", *(f"  {line}" for line in more)]
    if len(result.problems) > SHOWN:
        lines.append(f"  {len(result.problems) - SHOWN} more: sessiond verify --json")
    if result.repaired:
        lines.append(f"{count(result.repaired, 'problem')} repaired")
    if not result.records:
        lines += wrapped(
            "The token may not read: only transcripts were compared, not the sessions' records.",
            width,
        )
    sessions, not_kept = sum(each.sessions for each in result.tools), sum(each.not_kept for each in result.tools)
    if not_kept:
        lines += wrapped(f"not kept: {count(not_kept, 'session')}, which the endpoint let go after its time", width)
    given_up = sum(each.given_up for each in result.tools)
    if given_up:
        text = f"given up: {count(given_up, 'session')}, of which the endpoint lacks what you dropped"
        lines += wrapped(text, width)
    if by_length := sum(each.by_length for each in result.tools):
        lines += wrapped(
            f"{count(by_length, 'stream')} {'was' if by_length == 1 else 'were'} compared by length only, as no digest"
            " is known: sessiond verify --deep",
            width,
        )
    if result.complete:
        kept = sessions - not_kept - given_up
        lines.append(f"everything {'else ' if not_kept or given_up else ''}is safe: {count(kept, 'session')}")
    else:
        text = f"{count(len(result.problems), 'problem')}; `sessiond verify --repair` captures and pushes again"
        lines += wrapped(text, width)
    return "\n".join(lines)
