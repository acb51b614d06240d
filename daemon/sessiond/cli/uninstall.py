"""Stop and remove the service; captured sessions stay."""

from __future__ import annotations

import argparse
import sys

from sessiond.cli.output import escape
from sessiond.config import load, state_dir
from sessiond.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Stop and disable the service and remove what `sessiond install` wrote. Captured sessions, the configuration"
        " and your own drop-ins stay."
    )


def run(args: argparse.Namespace) -> int:
    """Uninstall the service; return 0 even if it was not installed. Raises: ServiceError."""
    from sessiond import service

    manager = service.find(args.environ)
    steps = list(manager.uninstall())
    for step in steps:
        print(escape(step))
    if not steps:
        print("the service is not installed")
    elif manager.lingers():
        print(
            "Lingering stays enabled; turn it off with `loginctl disable-linger` if nothing else needs it.",
            file=sys.stderr,
        )
    try:
        directory = state_dir(load(args.config, args.environ).config)
    except ConfigError:
        return 0  # an unreadable configuration must not prevent the removal
    print(f"Captured sessions stay in {escape(directory)}.", file=sys.stderr)
    return 0
