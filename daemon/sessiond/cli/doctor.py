"""Look for what could go wrong on this machine, and say how to mend it."""

from __future__ import annotations

import argparse
import sys

from sessiond.cli.output import colored, columns, escape, homely, print_json, wrapped
from sessiond.errors import SessiondError

DEGRADED = 4
_COLORS = {"note": "33", "wrong": "31"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command to argparse."""
    parser.description = (
        "Look at limits, permissions, the disk, the spool, the service, the tools' clean-up and the way to the"
        " endpoint. Exit code 0 where nothing is wrong, 4 where something is."
    )
    parser.add_argument("--fix", action="store_true", help="mend what can be mended without a loss")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print the findings. Raises: ConfigError for a configuration that can't be read."""
    from sessiond.cli.config import known_tools, user_file
    from sessiond.config import load, state_dir
    from sessiond.doctor import Finding, Grade, Patient, examine, mend

    loaded = load(args.config, args.environ, tools=known_tools())  # its warnings are among the findings
    patient = Patient(
        loaded=loaded,
        directory=state_dir(loaded.config),
        config_file=user_file(args),
        named=args.config or args.environ.get("SESSIOND_CONFIG"),
        environ=args.environ,
    )
    color, home = colored(sys.stdout, args.environ), args.environ.get("HOME", "")
    findings: list[Finding] = []
    wrong = 0
    for finding in examine(patient):
        done = None
        if args.fix and finding.repair is not None:
            try:
                done = mend(finding, patient)
            except (SessiondError, OSError) as error:
                print(f"sessiond: {finding.check} is not mended: {error}", file=sys.stderr)
        wrong += finding.grade is Grade.WRONG and done is None
        findings.append(finding)
        if not args.json:
            fix = finding.fix and homely(finding.fix, home)
            _print(finding.check, str(finding.grade), homely(finding.what, home), done, fix, color=color)
    if args.json:
        print_json({"version": 1, "wrong": wrong, "findings": findings})
    elif not wrong:
        print("\nNothing is wrong.")
    return DEGRADED if wrong else 0


def _print(check: str, grade: str, what: str, done: str | None, fix: str | None, *, color: bool) -> None:
    label = f"{grade:<6}"
    if color and grade in _COLORS:
        label = f"\x1b[{_COLORS[grade]}m{label}\x1b[0m"
    width = columns(sys.stdout)
    first, *more = wrapped(f"{check}: {escape(what)}", width - 7)
    print(f"{label} {first}")
    if done is not None:
        more += wrapped(f"mended: {escape(done)}", width - 7)
    elif fix is not None and grade != "fine":
        more += wrapped(f"-> {escape(fix)}", width - 7)
    for line in more:
        print(f"       {line}")
