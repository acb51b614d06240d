"""Restart the service."""

from __future__ import annotations

import argparse

from sessiond.errors import ServiceError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = "Restart the installed service and wait until it is ready."


def run(args: argparse.Namespace) -> int:
    """Restart the service. Raises: ServiceError."""
    from sessiond import service

    manager = service.find(args.environ)
    if not manager.installed():
        raise ServiceError(
            "the service is not installed", hint="`sessiond install` installs it; `sessiond run` runs without it"
        )
    manager.check()
    manager.restart()
    print("the service is running")
    return 0
