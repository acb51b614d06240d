"""Start the service and wait until it is ready."""

from __future__ import annotations

import argparse

from sessiond.errors import ServiceError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command to argparse."""
    parser.description = "Start the installed service and wait until it is ready."


def run(args: argparse.Namespace) -> int:
    """Ask the service manager for it. Raises: ServiceError."""
    from sessiond import service

    manager = service.find(args.environ)
    if not manager.installed():
        raise ServiceError("there is no service", hint="`sessiond install` makes one, `sessiond run` needs none")
    manager.check()
    manager.start()
    print("the service runs")
    return 0
