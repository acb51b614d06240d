"""All commands as parsers: what completions and the manual page are made of."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator

from sessiond.cli import COMMANDS


def parsers() -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Yield each command's name, its line, and its parser."""
    for name, line in COMMANDS.items():
        command = importlib.import_module(f"sessiond.cli.{name.replace('-', '_')}")
        parser = argparse.ArgumentParser(prog=f"sessiond {name}", allow_abbrev=False)
        parser.add_argument("--config", metavar="FILE", help="read this file for the configuration")
        command.add_arguments(parser)
        yield name, line, parser


def whole() -> argparse.ArgumentParser:
    """Make one parser of all commands. The program itself never uses it: it would import every command."""
    made = argparse.ArgumentParser(prog="sessiond", allow_abbrev=False)
    made.add_argument("--config", metavar="FILE", help="read this file for the configuration")
    made.add_argument("--version", action="store_true", help="print the version")
    commands = made.add_subparsers(dest="command")
    for name, line in COMMANDS.items():
        command = importlib.import_module(f"sessiond.cli.{name.replace('-', '_')}")
        parser = commands.add_parser(name, help=line.replace("%", "%%"), allow_abbrev=False)
        parser.add_argument("--config", metavar="FILE", help="read this file for the configuration")
        command.add_arguments(parser)
    return made
