"""Say what is masked: in files, in what stands on stdin, and by which rules. A value is never printed."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sessiond.cli.output import columns, count, print_json, settings, size, table, warn
from sessiond.config import Config, state_dir
from sessiond.errors import NotFound, SessiondError

if TYPE_CHECKING:
    from sessiond.privacy.survey import Seen
    from sessiond.redact import Redactor

USAGE = 2
SHOWN = 200
"""Findings that are listed; `--json` has all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `scan`, `test` and `rules`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, line in (
        ("scan", "list what would be masked in files, by rule, file and line"),
        ("test", "mask what stands on stdin; the findings go to stderr"),
        ("rules", "list the rules in force"),
    ):
        action = actions.add_parser(name, help=line, description=line, allow_abbrev=False)
        if name == "scan":
            action.add_argument("path", metavar="PATH", nargs="*", help="a file, or a directory with all below it")
            action.add_argument("--all", action="store_true", help="every session file of every tool")
        action.add_argument("--json", action="store_true", help="print JSON")
        action.add_argument("--config", metavar="FILE", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Run the chosen action."""
    config = settings(args).config
    if args.action == "scan":
        return _scan(args, config)
    if args.action == "test":
        return _test(args, config)
    return _rules(args, config)


def _redactor(args: argparse.Namespace, config: Config) -> Redactor:
    """Make the redactor as the daemon's would be, with whatever is off switched on: the question is what it would do.

    Raises: ConfigError.
    """
    import msgspec

    from sessiond import state
    from sessiond.privacy import read_terms
    from sessiond.redact import Redactor

    directory = state_dir(config)
    known = os.path.exists(os.path.join(directory, state.DEVICE))
    key = bytes.fromhex(state.device(directory).key) if known else os.urandom(32)
    if config.redact == "off":
        warn("redact is off: nothing is masked; this is what would be")
        config = msgspec.structs.replace(config, redact="mask")
    terms = read_terms(config, args.environ, key)
    terms.check()
    return Redactor(terms.complete(), cache_dir=os.path.join(directory, "rules") if known else None)


def _scan(args: argparse.Namespace, config: Config) -> int:
    from sessiond.privacy.survey import survey

    if bool(args.path) == args.all:
        raise _usage("name files or directories, or give --all")
    for path in args.path:
        if not os.path.lexists(path):
            raise NotFound(f"no such file: {path}")
    paths = list(_session_files(args, config) if args.all else _files(args.path))
    redactor, found, files, scanned = _redactor(args, config), list["Seen"](), 0, 0
    for path in paths:
        try:
            for seen in survey(redactor, path):
                found.append(seen)
            scanned += os.path.getsize(path)
            files += 1
        except OSError as error:
            warn(f"{path}: {(error.strerror or str(error)).lower()}")
    rules = Counter(seen.rule for seen in found).most_common()
    if args.json:
        print_json({"files": files, "bytes": scanned, "engine": redactor.engine, "rules": dict(rules), "found": found})
        return 0
    if found:
        rows = [["file", "line", "rule", "bytes"]]
        rows += [[seen.file, str(seen.line), seen.rule, str(seen.length)] for seen in found[:SHOWN]]
        print(table(rows, right={1, 3}, flexible=0, width=columns(sys.stdout)))
        if len(found) > SHOWN:
            print(f"and {len(found) - SHOWN} more: --json")
        print()
        print(table([["rule", "found"], *([rule, str(number)] for rule, number in rules)], right={1}))
        print()
    print(f"{count(len(found), 'secret')} in {count(files, 'file')}, {size(scanned)}")
    return 0


def _files(paths: list[str]) -> Iterator[str]:
    for path in paths:
        if not os.path.isdir(path):
            yield path
        for folder, folders, names in os.walk(path):
            folders.sort()
            for name in sorted(names):
                file = os.path.join(folder, name)
                if os.path.isfile(file) and not os.path.islink(file):
                    yield file


def _session_files(args: argparse.Namespace, config: Config) -> Iterator[str]:
    """List the files of all enabled tools that hold sessions."""
    from sessiond.sources import find_places

    seen: set[str] = set()
    for source, root in find_places(config, args.environ):
        for path in _files([root.path] if os.path.isdir(root.path) else []):
            unit = source.unit(os.path.relpath(path, root.path))
            if unit is not None and path not in seen:
                seen.add(path)
                yield path


def _test(args: argparse.Namespace, config: Config) -> int:
    from sessiond.privacy.survey import look

    data = sys.stdin.buffer.read()
    redactor = _redactor(args, config)
    masked = redactor.mask(data)
    found = look(data, masked, "stdin", 1)
    if args.json:
        print_json({"masked": masked.data.decode("utf-8", "replace"), "found": found})
        return 0
    sys.stdout.buffer.write(masked.data)
    sys.stdout.buffer.flush()
    for seen in found:
        print(f"line {seen.line}: {seen.rule} ({count(seen.length, 'byte')})", file=sys.stderr)
    print(f"{count(len(found), 'secret')} masked", file=sys.stderr)
    return 0


def _rules(args: argparse.Namespace, config: Config) -> int:
    rules: list[dict[str, Any]] = [
        {"id": rule.id, "description": rule.description} for rule in _redactor(args, config).rules
    ]
    if args.json:
        print_json({"rules": rules})
    else:
        rows = [["rule", "what it finds"], *([rule["id"], rule["description"]] for rule in rules)]
        print(table(rows, width=columns(sys.stdout)))
    return 0


def _usage(message: str) -> SessiondError:
    error = SessiondError(message, hint="see `sessiond redact scan --help`")
    error.exit_code = USAGE
    return error
