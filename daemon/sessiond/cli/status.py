"""Show what is watched, captured and acknowledged, what is wrong, and what to do about it."""

from __future__ import annotations

import sys
from contextlib import suppress

from sessiond import exit_codes
from sessiond.cli.output import colored, columns, print_json, to_json
from sessiond.cli.status_screen import screen
from sessiond.clock import now_ms
from sessiond.status import Running, Status, read_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

FLAGS = {"--json": "json", "-w": "watch", "--watch": "watch"}
"""The options that `add_arguments` adds, with their attributes. They are parsed without argparse."""
INTERVAL = 1.0
"""Seconds between two checks for changes with `--watch`."""
FULL_INTERVAL = 10.0
"""Seconds after which `--watch` reads the status even without a change, for config.d and disk usage."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Show the state of the daemon, your sessions and the endpoint. It works while the daemon is stopped, too. The"
        " exit code is 0 if all is well, 3 if the daemon is not running, and 4 if there is a problem."
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON (docs/status.md)")
    parser.add_argument(
        "-w",
        "--watch",
        action="store_true",
        help="update the screen until Ctrl+C; without a terminal, or with --json, print each change",
    )


def run(args: argparse.Namespace) -> int:
    """Print the status and return 0 if healthy, 3 if not running, 4 if degraded. With `--watch` return 0."""
    if args.watch:
        return _watch(args)
    status = read_status(args.config, args.environ)
    if args.json:
        print_json(status)
    else:
        print(_drawn(status, args))
    if status.daemon.state is not Running.RUNNING:
        return exit_codes.NOT_RUNNING
    return exit_codes.OK if status.healthy else exit_codes.DEGRADED


def _drawn(status: Status, args: argparse.Namespace) -> str:
    width, home = columns(sys.stdout), args.environ.get("HOME", "")
    return screen(status, width=width, home=home, color=colored(sys.stdout, args.environ))


def _watch(args: argparse.Namespace) -> int:
    """Show the status until Ctrl+C. Read it again only if its fingerprint has changed; otherwise update the ages."""
    import time

    from sessiond.cli.display import Display, in_place
    from sessiond.status.fingerprint import read_fingerprint

    drawing = in_place(sys.stdout) and not args.json
    display, shown = Display(sys.stdout, in_place=drawing), None
    status = read_status(args.config, args.environ)
    with suppress(KeyboardInterrupt), display.open():
        while True:
            # The fingerprint comes first: a change during the read is then noticed the next time.
            seen, read = read_fingerprint(status.state_dir, status.config.files), time.monotonic()
            status = read_status(args.config, args.environ)
            if not drawing and (facts := status.replace(now_ms=0, disk_bytes=0)) != shown:
                shown = facts
                display.show(to_json(status) if args.json else f"{_drawn(status, args)}\n")
            while time.monotonic() < read + FULL_INTERVAL:
                if drawing:
                    status = status.replace(now_ms=now_ms())
                    display.show(_drawn(status, args))
                time.sleep(INTERVAL)
                if read_fingerprint(status.state_dir, status.config.files) != seen:
                    break
    return 0
