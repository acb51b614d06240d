"""Check, show and change the configuration."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from typing import Any

import msgspec

from sessiond.cli import editing, print_error
from sessiond.cli.output import WIDTH, escape, load_config, print_json, warn
from sessiond.cli.parsers import add_action
from sessiond.config import Loaded, check_trust, load_valid, read_token, state_dir, token_origin
from sessiond.directories import config_file
from sessiond.errors import ConfigError

DEFAULT = "default"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions of the command."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, line in (
        ("check", "check all files and variables; exit code 78 if one is wrong"),
        ("show", "print every value and its origin; never the token"),
        ("path", "print the path of your configuration file"),
    ):
        action = add_action(actions, name, line)
        action.add_argument("--json", action="store_true", help="print JSON")
    editing.add_actions(actions)


def run(args: argparse.Namespace) -> int:
    """Run the chosen action."""
    if args.action == "check":
        return _check(args)
    if args.action == "show":
        return _show(args)
    if args.action == "path":
        return _path(args)
    return editing.run(args, user_file(args), known_tools())


def _check(args: argparse.Namespace) -> int:
    loaded = load_valid(args.config, args.environ, tools=known_tools())
    problems, token = list(loaded.problems), None
    if not problems:
        try:
            token = read_token(loaded.config, args.environ)
            _check_redaction(loaded, args.environ)
            check_trust(loaded.config)
        except ConfigError as error:
            problems = [error]
    if problems and args.json:
        errors = [_as_json(problem) for problem in problems]
        print_json({"ok": False, "error": errors[0], "errors": errors})
    elif problems:
        for problem in problems:
            print_error(problem)
    if problems:
        return problems[0].exit_code
    if args.json:
        answer = {"ok": True, "files": loaded.files, "warnings": loaded.warnings, "token": token is not None}
        print_json(answer)
        return 0
    for warning in loaded.warnings:
        warn(warning)
    for file in loaded.files:
        print(f"OK: {escape(file)}")
    if not loaded.files:
        print("OK: no configuration file, all values are defaults")
    return 0


def _as_json(problem: ConfigError) -> dict[str, Any]:
    position = {"file": problem.file, "line": problem.line, "key": problem.key}
    return {"message": problem.message, "hint": problem.hint, **position}


def _check_redaction(loaded: Loaded, environ: Mapping[str, str]) -> None:
    """Check the user's redaction rules and secrets. Raises: ConfigError."""
    from sessiond.privacy import read_terms

    read_terms(loaded.config, environ, b"\0" * 32).check()


def _show(args: argparse.Namespace) -> int:
    import tomli_w

    loaded = load_config(args)
    values = _values(loaded)
    origin = token_origin(loaded.config, args.environ)
    if args.json:
        keys = {
            ".".join(path): {"value": value, "from": loaded.origins.get(_dotted(path), DEFAULT)}
            for path, value in values
        }
        print_json({"files": loaded.files, "keys": keys, "token_from": origin})
        return 0
    table: tuple[str, ...] = ()
    for path, value in values:
        if path[:-1] != table:
            table = path[:-1]
            print(f"\n[{_dotted(table)}]")
        line = tomli_w.dumps({path[-1]: value}).rstrip("\n")
        comment = f"# {escape(loaded.origins.get(_dotted(path), DEFAULT))}"
        beside = f"{line:<40} {comment}"
        print(beside if "\n" not in line and len(beside) <= WIDTH else f"{comment}\n{line}")
    print(f"\n# token: from {escape(origin)}" if origin else "\n# token: not set")
    return 0


def _path(args: argparse.Namespace) -> int:
    file = user_file(args)
    if args.json:
        parts = os.path.join(os.path.dirname(file), "config.d")
        print_json({"file": file, "exists": os.path.exists(file), "directory": parts})
    else:
        print(escape(file))
    return 0


def user_file(args: argparse.Namespace) -> str:
    """Return the path of the user's file, which need not exist."""
    return os.path.abspath(args.config or args.environ.get("SESSIOND_CONFIG") or config_file())


def known_tools() -> list[str]:
    """Return the tools that a configuration may name."""
    from sessiond.sources import find_sources

    return [source.tool for source in find_sources()]


def _values(loaded: Loaded) -> list[tuple[tuple[str, ...], Any]]:
    """Return all keys and values in the order of TOML: top-level keys first, then table by table."""
    tables: dict[str, Any] = msgspec.to_builtins(loaded.config)
    tables["state_dir"] = state_dir(loaded.config)
    found: list[tuple[tuple[str, ...], Any]] = []
    pending: list[tuple[tuple[str, ...], dict[str, Any]]] = [((), tables)]
    while pending:
        path, table = pending.pop(0)
        found += [((*path, name), value) for name, value in table.items() if not isinstance(value, dict)]
        pending += [((*path, name), value) for name, value in table.items() if isinstance(value, dict)]
    return found


def _dotted(path: tuple[str, ...]) -> str:
    from sessiond.config.check import dotted

    return dotted(path)
