"""Show what is masked in files or stdin, and the rules. Secret values are never printed."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from sessiond import exit_codes
from sessiond.cli.output import columns, load_config, print_json, size, table, warn
from sessiond.cli.parsers import add_action
from sessiond.clock import now_ms
from sessiond.config import Config
from sessiond.errors import NotFound, ReadError, SessiondError, Torn
from sessiond.text import count

if TYPE_CHECKING:
    from sessiond.ingest import Location
    from sessiond.privacy import Exclusion
    from sessiond.privacy.secrets_scan import SecretFinding
    from sessiond.redact import Redactor

SHOWN = 200
"""Most findings in the table; `--json` has all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions `scan`, `test` and `rules`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, line in (
        ("scan", "list what would be masked in files: file, line, rule"),
        ("test", "mask stdin and write it to stdout; findings go to stderr"),
        ("rules", "list the active rules"),
    ):
        action = add_action(actions, name, line)
        if name == "scan":
            action.add_argument(
                "path", metavar="PATH", nargs="*", help="a file, or a directory that is scanned recursively"
            )
            action.add_argument(
                "--all", action="store_true", help="scan the sessions of all tools, as they would be sent"
            )
        action.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Run the chosen action."""
    config = load_config(args).config
    if args.action == "scan":
        return _scan(args, config)
    if args.action == "test":
        return _test(args, config)
    return _rules(args, config)


def _redactor(args: argparse.Namespace, config: Config) -> Redactor:
    """Return the redactor of the daemon. If `redact` is "off", return one that shows what would be masked.

    Raises: ConfigError.
    """
    from sessiond.cli.masked import open_redactor

    if config.redact == "off":
        warn('redact is "off", so nothing is masked; this shows what would be masked')
    return open_redactor(config, args.environ)


def _scan(args: argparse.Namespace, config: Config) -> int:
    if bool(args.path) == args.all:
        raise _usage("give files or directories, or --all")
    for path in args.path:
        if not os.path.lexists(path):
            raise NotFound(f"no such file: {path}")
    redactor = _redactor(args, config)
    seen = _scan_sessions(args, config, redactor) if args.all else _scan_files(args.path, redactor)
    found, files, scanned = list["SecretFinding"](), 0, 0
    for path, read, secrets in seen:
        try:
            found += secrets
            scanned += read()
            files += 1
        except (OSError, ReadError, Torn) as error:
            reason = (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
            warn(f"{path}: {reason}")
    rules = Counter(seen.rule for seen in found).most_common()
    if args.json:
        print_json({"files": files, "bytes": scanned, "engine": redactor.engine, "rules": dict(rules), "found": found})
        return 0
    if found:
        rows = [["file", "line", "rule", "bytes"]]
        rows += [[seen.file, str(seen.line), seen.rule, str(seen.length)] for seen in found[:SHOWN]]
        print(table(rows, right={1, 3}, flexible=0, width=columns(sys.stdout)))
        if len(found) > SHOWN:
            print(f"{len(found) - SHOWN} more: sessiond redact scan --json")
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


Scanned = tuple[str, Callable[[], int], "Iterator[SecretFinding]"]
"""A path, a function that returns how many bytes of it were read, and its findings."""


def _scan_files(paths: list[str], redactor: Redactor) -> Iterator[Scanned]:
    from sessiond.privacy.secrets_scan import scan_file

    for path in _files(paths):
        yield path, partial(os.path.getsize, path), scan_file(redactor, path)


def _scan_sessions(args: argparse.Namespace, config: Config, redactor: Redactor) -> Iterator[Scanned]:
    """Scan what would be sent: the records of all enabled tools."""
    from sessiond.ingest import Location, locate
    from sessiond.privacy import Exclusion
    from sessiond.sources import find_roots

    exclusion = Exclusion(config.exclude, args.environ.get("HOME") or os.path.expanduser("~"))
    places, seen = find_roots(config, args.environ), dict[tuple[str, str], Location]()
    for _, root in places:
        for path in _files([root.path] if os.path.isdir(root.path) else []):
            for place in locate(places, path):
                seen.setdefault((place.source.tool, place.path), place)
    hidden = set[tuple[str, str]]()
    # Side files last: those of excluded sessions are not captured.
    for place in sorted(seen.values(), key=lambda place: place.unit.media_type is not None):
        settings = config.sources.get(place.source.tool)
        if config.transcripts and (settings is None or settings.transcripts):
            size = [0]
            yield place.path, partial(size.__getitem__, 0), _scan_location(place, exclusion, redactor, size, hidden)


def _scan_location(
    place: Location, exclusion: Exclusion, redactor: Redactor, size: list[int], hidden: set[tuple[str, str]]
) -> Iterator[SecretFinding]:
    """Scan the streams of a unit as they would be captured. Raises: ReadError, Torn, OSError.

    `hidden` collects the tools and native ids of excluded sessions.
    """
    from sessiond.ingest.context import ReadContext
    from sessiond.ingest.files import is_superseded
    from sessiond.ingest.inner_paths import inner_path
    from sessiond.ingest.unit_facts import first_directory, outer_directory
    from sessiond.ingest.units import open_unit
    from sessiond.privacy.secrets_scan import scan_records
    from sessiond.reader import Digest

    def counted(records: Iterable[bytes]) -> Iterator[bytes]:
        for record in records:
            size[0] += len(record) + 1
            yield record

    if is_superseded(place):
        return
    outside = outer_directory(place)
    with open_unit(place, ReadContext(digest=Digest(0), now_ms=now_ms(), scratch=tempfile.gettempdir())) as unit:
        for stream in unit.streams():
            if exclusion.excludes(outside or first_directory(place.source, stream.content)[0]):
                hidden.add((place.source.tool, stream.native_id or ""))
                continue
            if (place.source.tool, stream.native_id or "") in hidden:
                continue
            name = (
                ""
                if place.unit.kind.verbatim
                else inner_path("", stream.native_id or "", stream.name).removeprefix("::")
            )
            yield from scan_records(redactor, place.path, name, counted(stream.records()))


def _test(args: argparse.Namespace, config: Config) -> int:
    from sessiond.privacy.secrets_scan import find_secrets

    data = sys.stdin.buffer.read()
    redactor = _redactor(args, config)
    masked = redactor.mask(data)
    found = find_secrets(data, masked, "stdin", 1)
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
    error.exit_code = exit_codes.USAGE
    return error
