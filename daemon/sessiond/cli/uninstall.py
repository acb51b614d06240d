"""Stop the service and take it away; what was captured stays."""

from __future__ import annotations

import argparse
import sys

from sessiond.cli.output import escape
from sessiond.config import load, state_dir
from sessiond.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command to argparse."""
    parser.description = (
        "Stop and disable the service and remove what `sessiond install` wrote. Captured sessions, the configuration"
        " and your own drop-ins stay."
    )


def run(args: argparse.Namespace) -> int:
    """Uninstall it; 0 too where there was nothing to do. Raises: ServiceError."""
    from sessiond import service

    manager = service.find(args.environ)
    steps = list(manager.uninstall())
    for step in steps:
        print(escape(step))
    if not steps:
        print("there is no service")
    elif manager.lingers():
        print("Lingering stays on: loginctl disable-linger, if nothing else of yours needs it", file=sys.stderr)
    try:
        directory = state_dir(load(args.config, args.environ).config)
    except ConfigError:
        return 0  # a config that can't be read is no reason to keep a service
    print(f"The state stays in {escape(directory)}", file=sys.stderr)
    return 0
