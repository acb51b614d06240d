"""`sessiond run`: the daemon, in the foreground; a service manager keeps it in the background."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

HELP = "run the daemon in the foreground"
FLAGS: dict[str, str] = {}
"""All that `add_arguments` describes: a service starts without argparse."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command to argparse."""
    parser.description = (
        "Watch the tools' sessions and push them to the endpoint until a signal ends it (Ctrl+C). Without"
        " endpoint.url in the configuration, an archive on this machine is the endpoint."
    )


def run(args: argparse.Namespace) -> int:
    """Run until a signal. Raises: SessiondError."""
    from sessiond import daemon
    from sessiond.cli.bar import drawing
    from sessiond.config import load, state_dir
    from sessiond.sources import find_sources

    _open_standard_streams()
    loaded = load(args.config, args.environ, tools=[source.tool for source in find_sources()])

    def ready(url: str) -> None:
        if sys.stderr.isatty():
            where = "the archive on this machine" if not loaded.config.endpoint.url else url
            print(f"sessiond runs and pushes to {where}; `sessiond status` shows how it goes.", file=sys.stderr)
            print("Ctrl+C ends it. What was captured by then is kept.", file=sys.stderr)

    with drawing(sys.stderr, args.environ, state_dir(loaded.config)):
        return daemon.run(loaded, args.environ, args.config, ready=ready)


def _open_standard_streams() -> None:
    """Put /dev/null where whoever started us closed a standard stream.

    Else the spool would get the number of stderr, and what a library has to say there would end up in it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number: this one
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - for the life of the process
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115 - for the life of the process
