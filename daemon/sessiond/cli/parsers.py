"""Builds the parsers of subcommands, and those of all commands for the completions and the manual page."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator
from typing import Any

from sessiond.cli import COMMANDS


def add_action(actions: Any, name: str, line: str) -> argparse.ArgumentParser:
    """Add a subcommand with a line of help, and return its parser.

    It accepts `--config` too, so that the option may come before or after the subcommand.
    """
    description = f"{line[:1].upper()}{line[1:]}."
    parser: argparse.ArgumentParser = actions.add_parser(name, help=line, description=description, allow_abbrev=False)
    parser.add_argument("--config", metavar="FILE", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return parser


def parsers() -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Iterate the name, one-line description and parser of each command."""
    for name, line in COMMANDS.items():
        command = importlib.import_module(f"sessiond.cli.{name.replace('-', '_')}")
        parser = argparse.ArgumentParser(prog=f"sessiond {name}", allow_abbrev=False)
        parser.add_argument("--config", metavar="FILE", help="read this configuration file")
        command.add_arguments(parser)
        yield name, line, parser


def whole() -> argparse.ArgumentParser:
    """Return one parser for all commands. The program does not use it: that would import every command."""
    made = argparse.ArgumentParser(prog="sessiond", allow_abbrev=False)
    made.add_argument("--config", metavar="FILE", help="read this configuration file")
    made.add_argument("--version", action="store_true", help="print the version")
    commands = made.add_subparsers(dest="command")
    for name, line in COMMANDS.items():
        command = importlib.import_module(f"sessiond.cli.{name.replace('-', '_')}")
        parser = commands.add_parser(name, help=line.replace("%", "%%"), allow_abbrev=False)
        parser.add_argument("--config", metavar="FILE", help="read this configuration file")
        command.add_arguments(parser)
    return made
