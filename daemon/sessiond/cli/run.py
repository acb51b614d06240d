"""Run the daemon in the foreground. A service manager runs it in the background."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

HELP = "run the daemon in the foreground"
FLAGS: dict[str, str] = {}
"""It has none; so argparse is not imported at each start."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Watch the sessions of your tools and push them to the endpoint, until Ctrl+C or SIGTERM. If endpoint.url is"
        " not set, sessions go to an archive on this machine."
    )


def run(args: argparse.Namespace) -> int:
    """Run the daemon until SIGINT or SIGTERM. Raises: SessiondError."""
    from sessiond import daemon
    from sessiond.config import load, state_dir
    from sessiond.sources import find_sources

    _open_standard_streams()
    loaded = load(args.config, args.environ, tools=[source.tool for source in find_sources()])

    def ready(url: str) -> None:
        if sys.stderr.isatty():
            where = "the archive on this machine" if not loaded.config.endpoint.url else url
            from sessiond.cli.output import columns, wrapped  # a service does not load them

            text = f"sessiond is running and pushes to {where}; `sessiond status` shows its state."
            print("\n".join(wrapped(text, columns(sys.stderr))), file=sys.stderr)
            print("Press Ctrl+C to stop it. Captured sessions are kept.", file=sys.stderr)

    with _progress(args.environ, state_dir(loaded.config)):
        return daemon.run(loaded, args.environ, args.config, ready=ready)


def _progress(environ: Mapping[str, str], directory: str) -> AbstractContextManager[None]:
    """Draw the progress of the daemon if stderr is a terminal."""
    if not sys.stderr.isatty():
        return nullcontext()  # a service does not load the bar and what reads the state for it
    from sessiond.cli.bar import drawing

    return drawing(sys.stderr, environ, directory)


def _open_standard_streams() -> None:
    """Open /dev/null for each standard stream that the parent process closed.

    Otherwise the spool could get file descriptor 2, and text that a library writes to stderr would corrupt it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free descriptor, which is `number`
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - for the life of the process
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115 - for the life of the process
