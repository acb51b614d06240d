"""Find problems on this machine and show how to fix them."""

from __future__ import annotations

import argparse
import sys

from sessiond import exit_codes
from sessiond.cli.output import abbreviate_home, colored, columns, escape, print_json, wrapped
from sessiond.errors import SessiondError

_COLORS = {"info": "33", "error": "31"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Check limits, permissions, the disk, the spool, the service, the retention of your tools, and the connection"
        " to the endpoint. The exit code is 0 if there are no errors, and 4 otherwise."
    )
    parser.add_argument("--fix", action="store_true", help="fix what can be fixed without losing data")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print the findings. An invalid configuration is one of them."""
    from sessiond.cli.config import known_tools, user_file
    from sessiond.config import load_valid, state_dir
    from sessiond.doctor import Finding, Installation, Severity, repair, run_checks

    loaded = load_valid(args.config, args.environ, tools=known_tools())  # its problems are among the findings
    installation = Installation(
        loaded=loaded,
        directory=state_dir(loaded.config),
        config_file=user_file(args),
        named=args.config or args.environ.get("SESSIOND_CONFIG"),
        environ=args.environ,
    )
    color, home = colored(sys.stdout, args.environ), args.environ.get("HOME", "")
    findings: list[Finding] = []
    errors = 0
    for finding in run_checks(installation):
        done = None
        if args.fix and finding.repair is not None:
            try:
                done = repair(finding, installation)
            except (SessiondError, OSError) as error:
                print(f"sessiond: {finding.check} could not be fixed: {error}", file=sys.stderr)
        errors += finding.severity is Severity.ERROR and done is None
        findings.append(finding)
        if not args.json:
            fix = finding.fix and abbreviate_home(finding.fix, home)
            _print(finding.check, str(finding.severity), abbreviate_home(finding.what, home), done, fix, color=color)
    if args.json:
        print_json({"version": 1, "errors": errors, "findings": findings})
    elif not errors:
        print("\nNo problems found.")
    return exit_codes.DEGRADED if errors else exit_codes.OK


def _print(check: str, severity: str, what: str, done: str | None, fix: str | None, *, color: bool) -> None:
    label = f"{severity:<6}"
    if color and severity in _COLORS:
        label = f"\x1b[{_COLORS[severity]}m{label}\x1b[0m"
    width = columns(sys.stdout)
    first, *more = wrapped(f"{check}: {escape(what)}", width - 7)
    print(f"{label} {first}")
    if done is not None:
        more += wrapped(f"fixed: {escape(done)}", width - 7)
    elif fix is not None and severity != "ok":
        more += wrapped(f"-> {escape(fix)}", width - 7)
    for line in more:
        print(f"       {line}")
