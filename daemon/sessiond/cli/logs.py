"""Show the log of the daemon: from the journal under systemd, otherwise from its rotated file."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import IO, Any

import msgspec

from sessiond.cli.lookup import check_tool
from sessiond.cli.output import colored, load_config, mask_text, to_json
from sessiond.clock import now_ms
from sessiond.config import state_dir
from sessiond.errors import NotFound, SessiondError

Event = dict[str, Any]

LEVELS = ("debug", "info", "warning", "error")
SHOWN = 200
"""Events that are shown without --since and --follow."""
POLL_INTERVAL = 0.3
"""Seconds between two reads of the file with --follow."""
_PRIORITIES = {"3": "error", "4": "warning", "6": "info", "7": "debug"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = f"Show the last {SHOWN} events, or those since a time. docs/logging.md explains each event."
    parser.add_argument("-f", "--follow", action="store_true", help="keep printing new events")
    parser.add_argument("--level", choices=LEVELS, default="debug", help="hide events below this level")
    parser.add_argument("--tool", metavar="TOOL", help="show only events about this tool")
    parser.add_argument(
        "--since", metavar="TIME", type=_since, help='show events since TIME: "2h", "1d" or 2026-09-01T10:00'
    )
    parser.add_argument("--json", action="store_true", help="print the events as JSON lines")


def run(args: argparse.Namespace) -> int:
    """Print events, oldest first. Raises: NotFound if nothing was logged."""
    if args.tool is not None:
        check_tool(args.tool)
    directory = state_dir(load_config(args, valid=True).config)
    events: Iterator[Event] = (event for event in _events(args, directory) if _wanted(event, args))
    if not args.follow and args.since is None:
        events = iter(list(events)[-SHOWN:])
    write = to_json if args.json else _renderer(colors=colored(sys.stdout, args.environ))
    empty = True
    for event in events:
        print(write(event), flush=args.follow)
        empty = False
    if empty and not args.json:
        print("no matching events", file=sys.stderr)
    return 0


def _renderer(*, colors: bool) -> Callable[[Event], str]:
    """Return a function that formats an event for people, with its local time."""
    from sessiond.logs.processors import Harmless
    from sessiond.logs.sinks import console_renderer

    render, clean = console_renderer(colors=colors, time=_local_time), Harmless(mask_text)
    return lambda event: render(None, "", clean(None, "", event))


def _local_time(timestamp: object) -> str:
    return f"{datetime.fromisoformat(str(timestamp)).astimezone():%Y-%m-%d %H:%M:%S}"


def _wanted(event: Event, args: argparse.Namespace) -> bool:
    if LEVELS.index(event["level"]) < LEVELS.index(args.level):
        return False
    if args.tool is not None and event.get("tool") != args.tool:
        return False
    return args.since is None or datetime.fromisoformat(event["timestamp"]) >= args.since


def _events(args: argparse.Namespace, directory: str) -> Iterator[Event]:
    from sessiond import state

    file = os.path.join(directory, "log", "sessiond.log")
    holder = state.running(directory) if os.path.isdir(directory) else None
    if (holder is not None and holder.service == "systemd") or not os.path.exists(file):
        return _journal(args, file)
    return _file(file, follow=args.follow)


def _file(path: str, *, follow: bool) -> Iterator[Event]:
    """Iterate the events of the rotated files, oldest first, then new events. A renamed file is read to its end."""
    for number in range(9, 0, -1):
        if os.path.exists(f"{path}.{number}"):
            with open(f"{path}.{number}", "rb") as old:
                yield from _whole(old, b"")[0]
    while True:
        with open(path, "rb") as stream:
            events, rest = _whole(stream, b"")
            yield from events
            while follow and not _replaced(stream, path):
                events, rest = _whole(stream, rest)
                yield from events
                if not events:
                    time.sleep(POLL_INTERVAL)
            yield from _whole(stream, rest)[0]
        if not follow:
            return


def _whole(stream: IO[bytes], rest: bytes) -> tuple[list[Event], bytes]:
    *lines, rest = (rest + stream.read()).split(b"\n")
    return [event for text in lines if (event := _decoded(text)) is not None], rest


def _decoded(text: bytes) -> Event | None:
    try:
        event = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError:
        return None  # a line that a full disk truncated
    return event if {"timestamp", "level", "event"} <= event.keys() and event["level"] in LEVELS else None


def _replaced(stream: IO[bytes], path: str) -> bool:
    try:
        return os.stat(path).st_ino != os.fstat(stream.fileno()).st_ino
    except OSError:
        return False  # between two renames


def _journal(args: argparse.Namespace, file: str) -> Iterator[Event]:
    # Not `--user`: without per-user journals (root, a volatile journal) a user service logs to the system journal.
    # Without `--user`, journalctl reads every journal that this user may read.
    words = ["journalctl", f"_UID={os.getuid()}", "--identifier=sessiond"]
    words += ["--output=json", "--quiet", "--no-pager"]
    if args.since is not None:
        words.append(f"--since=@{int(args.since.timestamp())}")
    elif not args.follow:
        words.append("--lines=5000")
    if args.follow:
        words.append("--follow")
    try:
        reader = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # noqa: S603
    except FileNotFoundError as error:
        raise NotFound(
            f"nothing was logged: {file} does not exist", hint="`sessiond run` logs to the terminal"
        ) from error
    assert reader.stdout is not None
    assert reader.stderr is not None
    try:
        for text in reader.stdout:
            event = _from_journal(msgspec.json.decode(text, type=dict[str, Any]))
            if event is not None:
                yield event
        if reader.wait():
            reason = reader.stderr.read().decode(errors="replace").strip().partition("\n")[0]
            raise SessiondError(
                f"the journal can't be read: {reason}", hint="check that `journalctl` works for your user"
            )
    finally:
        reader.kill()
        reader.wait()
        reader.stdout.close()
        reader.stderr.close()


def _from_journal(entry: Event) -> Event | None:
    """Convert a journal entry to an event as in the log file; None if it is not an event of sessiond."""
    name, _, _ = str(entry.get("MESSAGE", "")).partition(" ")
    fields = {key[9:].lower(): value for key, value in entry.items() if key.startswith("SESSIOND_")}
    level = _PRIORITIES.get(str(entry.get("PRIORITY")))
    if level is None or "." not in name or "__REALTIME_TIMESTAMP" not in entry:
        return None
    at = datetime.fromtimestamp(int(entry["__REALTIME_TIMESTAMP"]) / 1e6, UTC)
    return {"timestamp": at.isoformat().replace("+00:00", "Z"), "level": level, "event": name, **fields}


def _since(text: str) -> datetime:
    from sessiond.config.units import parse_duration

    try:
        return datetime.fromtimestamp(now_ms() / 1000, UTC) - timedelta(seconds=parse_duration(text))
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'{text} is not a time like "2h", "1d" or 2026-09-01T10:00') from error
