"""Start the service and wait until it is ready."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = "Start the installed service and wait until it is ready."


def run(args: argparse.Namespace) -> int:
    """Start the service. Raises: ServiceError."""
    from sessiond import service

    service.find_installed(args.environ).start()
    print("the service is running")
    return 0
