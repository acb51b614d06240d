"""Restart the service."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = "Restart the installed service and wait until it is ready."


def run(args: argparse.Namespace) -> int:
    """Restart the service. Raises: ServiceError."""
    from sessiond import service

    service.find_installed(args.environ).restart()
    print("the service is running")
    return 0
