"""Show on one screen what is watched, captured and acknowledged, what is wrong and what to do about it."""

from __future__ import annotations

import sys
from contextlib import suppress

from sessiond.cli.output import (
    abbreviate_home,
    age,
    colored,
    columns,
    count,
    duration,
    escape,
    print_json,
    shorten,
    size,
    table,
    tilde,
    to_json,
    wrapped,
)
from sessiond.spool.health import RootHealth
from sessiond.spool.stats import Totals
from sessiond.status import Advice, Running, Status, ToolStatus, read_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

FLAGS = {"--json": "json", "-w": "watch", "--watch": "watch"}
"""All that `add_arguments` describes."""
NOT_RUNNING = 3
DEGRADED = 4
LABEL = 14
RULES = 3
"""Of the rules that found secrets, how many are named."""
SHOWN = 3
"""Lines of advice on the screen; `--json` has all."""
LINES = 2
"""Lines that one piece of advice may take."""
BACKLOG = 1_000_000
"""Bytes; a smaller one is gone before anybody has read of it."""
LOOK = 1.0
"""Seconds between two glances at what is shown with `--watch`."""
ANEW = 10.0
"""Seconds after which it is read again without a reason: a part in config.d, the disk."""
BEST_FIRST = ("watched", "polled", "scan only", "not watched", "unreadable", "missing")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command to argparse."""
    parser.description = (
        "Show how the daemon, the sessions and the endpoint are, whether or not the daemon runs. Exit code 0: healthy,"
        " 3: not running, 4: degraded."
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON (docs/operations.md)")
    parser.add_argument(
        "-w",
        "--watch",
        action="store_true",
        help="go on showing it until Ctrl+C; off a terminal, and with --json, once for each change",
    )


def run(args: argparse.Namespace) -> int:
    """Print the status; the exit code says whether it is healthy. With `--watch` it is 0: it was asked to end."""
    if args.watch:
        return _watch(args)
    status = read_status(args.config, args.environ)
    if args.json:
        print_json(status)
    else:
        print(_drawn(status, args))
    if status.daemon.state is not Running.RUNNING:
        return NOT_RUNNING
    return 0 if status.healthy else DEGRADED


def _drawn(status: Status, args: argparse.Namespace) -> str:
    width, home = columns(sys.stdout), args.environ.get("HOME", "")
    return screen(status, width=width, home=home, color=colored(sys.stdout, args.environ))


def _watch(args: argparse.Namespace) -> int:
    """Show it again and again. A glance a second tells whether to read it anew; else only the ages have grown."""
    import time

    from sessiond.cli.display import Display, in_place
    from sessiond.status.fingerprint import read_fingerprint

    drawing = in_place(sys.stdout) and not args.json
    display, shown = Display(sys.stdout, in_place=drawing), None
    status = read_status(args.config, args.environ)
    with suppress(KeyboardInterrupt), display.open():
        while True:
            # Before it is read: what is written meanwhile is seen the next time.
            seen, read = read_fingerprint(status.state_dir, status.config.files), time.monotonic()
            status = read_status(args.config, args.environ)
            if not drawing and (facts := status.replace(now_ms=0, disk_bytes=0)) != shown:
                shown = facts
                display.show(to_json(status) if args.json else f"{_drawn(status, args)}\n")
            while time.monotonic() < read + ANEW:
                if drawing:
                    status = status.replace(now_ms=time.time_ns() // 1_000_000)
                    display.show(_drawn(status, args))
                time.sleep(LOOK)
                if read_fingerprint(status.state_dir, status.config.files) != seen:
                    break
    return 0


def screen(status: Status, *, width: int = 80, home: str = "", color: bool = False) -> str:
    """Draw the status. Colour only repeats what the words say."""
    lines = []
    for label, text in _facts(status, home, width - LABEL):
        painted = _paint(label.ljust(LABEL), "1") if color else label.ljust(LABEL)
        fitting = shorten(escape(text), width - LABEL)
        if color and label == "sessiond":
            fitting = _paint(fitting, "32" if status.healthy else "31" if _stopped(status) else "33")
        lines.append((painted + fitting).rstrip())
    if status.tools:
        lines += ["", _tools(status, width, home)]
    advice = list(_advice(status.advice, width, home, color))
    return "\n".join([*lines, "", *advice] if advice else lines)


def _facts(status: Status, home: str, width: int) -> Iterator[tuple[str, str]]:
    yield "sessiond", _daemon(status)
    yield "endpoint", _endpoint(status, width)
    yield "found", _found(status)
    totals, waiting = status.totals, status.outbox
    if totals is None or waiting is None:
        yield "captured", _unknown(status)
    else:
        yield "captured", f"{count(totals.captured, 'session')}, {totals.ongoing} ongoing"
        yield "acknowledged", _acknowledged(totals)
        if totals.only_here:
            yield "only copy", f"{count(totals.only_here, 'session')} whose tool has deleted its own files"
        archive = totals.archive
        if archive.pending:
            done = (
                f"{archive.sessions - archive.pending} of {count(archive.sessions, 'session')} copied to the endpoint"
            )
            yield "archive", f"{done}, {size(archive.pending_bytes)} to go"
        yield from _backlog(status)
        if waiting.sessions or waiting.segments or waiting.parked:
            oldest = "" if totals.oldest_ms is None else f", oldest {_ago(status, totals.oldest_ms)}"
            parked = f"; {waiting.parked} parked" if waiting.parked else ""
            segments = f"{count(waiting.segments, 'segment')} ({size(waiting.bytes)})"
            yield "waiting", f"{count(waiting.sessions, 'record')}, {segments}{oldest}{parked}"
        if waiting.behind:
            bare = f", {totals.unprotected} without protection" if totals.unprotected else ""
            yield "", f"{count(waiting.behind, 'transcript')} ({size(waiting.behind_bytes)}) in the tools' files{bare}"
    if status.redactions:
        most = ", ".join(f"{rule} {number}" for rule, number in list(status.redactions.items())[:RULES])
        yield "masked", f"{count(sum(status.redactions.values()), 'secret')} ({most}{_more_rules(status)})"
    yield "disk", f"{size(status.disk_bytes)} in {tilde(status.state_dir, home)}"


def _acknowledged(totals: Totals) -> str:
    """Say how many sessions are safe, and what of the others."""
    states = (
        (totals.waiting, "waiting"),
        (totals.archived, "only in the archive"),
        (totals.parked, "parked"),
        (totals.lost, "lost"),
        (totals.dropped, "dropped by you"),
    )
    rest = [f"{number} {word}" for number, word in states if number]
    return f"{totals.acknowledged} of them" + (f"; {', '.join(rest)}" if rest else "")


def _backlog(status: Status) -> Iterator[tuple[str, str]]:
    """Say how far the backlog is, while there is one."""
    made = status.progress
    if made is None or made.done or (made.waits is None and made.bytes - made.acknowledged_bytes < BACKLOG):
        return
    done = f"{size(made.acknowledged_bytes)} of {size(made.bytes)} acknowledged, {size(made.captured_bytes)} captured"
    if made.waits is not None:
        yield "backlog", f"waits: {made.waits}; {done}"
    else:
        rate = "" if made.rate is None or made.seconds_left is None else f"; {size(made.rate)}/s"
        yield "backlog", done + (f"{rate}, {duration(made.seconds_left)} left" if made.seconds_left is not None else "")


def _unknown(status: Status) -> str:
    """Say why it is not known how much is captured."""
    if status.daemon.state is Running.NEVER:
        return "nothing yet"
    return "unknown: the spool " + ("is missing" if status.spool.reason is None else "can't be read")


def _more_rules(status: Status) -> str:
    """Say that there are more rules than fit."""
    return ", ..." if len(status.redactions) > RULES else ""


def _daemon(status: Status) -> str:
    daemon = status.daemon
    if daemon.state is not Running.RUNNING:
        return {Running.STOPPED: "not running", Running.DIED: "not running: it died"}.get(daemon.state, "never started")
    since = "" if daemon.since_ms is None else f" for {duration((status.now_ms - daemon.since_ms) / 1000)}"
    by = f", by {daemon.service}" if daemon.service else ""
    name = f", as {status.machine_id}" if status.machine_id else ""
    state = "" if status.healthy else ", degraded"
    state += ", paused" if status.paused.pushing is not None else ""
    return f"running{since}{state} (pid {daemon.pid or 'unknown'}{by}{name})"


def _endpoint(status: Status, width: int) -> str:
    """Tell the endpoint and how it is; of the two the address is cut where both do not fit."""
    where = "archive on this machine" if status.endpoint.archive else status.endpoint.url
    how = _answers(status)
    room = width - len(how) - 2
    where = where.removeprefix("https://") if len(where) > room else where
    return f"{shorten(where, max(12, room))}: {how}"


def _answers(status: Status) -> str:
    endpoint = status.endpoint
    if endpoint.failing_since_ms is not None:
        words = {"refused": "refuses the token", "wrong": "answers wrongly"}
        failing = words.get(endpoint.kind or "", "fails")
        due = endpoint.next_attempt_ms
        left = 0.0 if due is None else (due - status.now_ms) / 1000
        again = f", next try in {duration(left)}" if left > 0 and status.daemon.state is Running.RUNNING else ""
        since = duration((status.now_ms - (endpoint.rejected_since_ms or endpoint.failing_since_ms)) / 1000)
        return f"{failing} since {since}{again}"
    if endpoint.last_ack_ms is None:
        return "nothing acknowledged yet"
    took = "" if endpoint.latency_ms is None else f", took {endpoint.latency_ms} ms"
    return f"last ack {_ago(status, endpoint.last_ack_ms)}{took}"


def _found(status: Status) -> str:
    found = status.discovered
    if found.files is None or found.unread is None:
        return "not known yet: the first look is under way" if found.current else "not known: nobody has looked yet"
    files = count(found.files, "file")
    if not found.current:
        return f"{files} when it ran last; what came since is not known"
    left = f", {found.left_out} ({size(found.left_out_bytes)}) left out by backfill" if found.left_out else ""
    if found.unread:
        return f"{files}{left}, {found.unread} not read yet"
    return f"{files}{left}, {'the others' if left else 'all'} read"


def _tools(status: Status, width: int, home: str) -> str:
    here = [tool for tool in status.tools if tool.is_here(home)]
    here.sort(key=lambda tool: (-(tool.count.active_ms or 0), tool.count.tool))
    absent = len(status.tools) - len(here)
    known = "tool is" if absent == 1 else "tools are"
    others = f"{absent} more {known} known and not found here: sessiond sources" if absent else ""
    if not here:
        return others
    rows: list[list[str]] = [["tool", "sessions", "acked", "ongoing", "idle", "skipped", "watch", "directory"]]
    for tool in here:
        seen = tool.count
        root = _best(tool)
        more = "" if root is None or len(tool.roots) < 2 else f" +{len(tool.roots) - 1}"
        rows.append(
            [
                seen.tool,
                str(seen.sessions),
                str(seen.counts.acknowledged),
                str(seen.ongoing),
                "-" if seen.active_ms is None else duration((status.now_ms - seen.active_ms) / 1000),
                str(seen.damaged + seen.troubled),
                "-" if root is None else root.how,
                "-" if root is None else tilde(root.path, home) + more,
            ]
        )
    numbers = {1, 2, 3, 4, 5}
    skipped = rows[0].index("skipped")
    if all(row[skipped] == "0" for row in rows[1:]):  # its place goes to the directory
        rows = [[*row[:skipped], *row[skipped + 1 :]] for row in rows]
        numbers.remove(skipped)
    drawn = table(rows, right=numbers, width=width)
    return f"{drawn}\n{others}" if others else drawn


def _best(tool: ToolStatus) -> RootHealth | None:
    def rank(root: RootHealth) -> int:
        return BEST_FIRST.index(root.how) if root.how in BEST_FIRST else len(BEST_FIRST)

    return min(tool.roots, key=rank, default=None)


def _advice(advice: list[Advice], width: int, home: str, color: bool) -> Iterator[str]:
    for each in advice[:SHOWN]:
        mark, paint = ("!", "31") if each.degraded else ("-", "2")
        first = _paint(mark, paint) if color else mark
        for number, line in enumerate(_wrapped(abbreviate_home(each.what, home), width - 2)):
            yield f"{' ' if number else first} {line}"
        for line in _wrapped(abbreviate_home(each.do or "", home), width - 4):
            yield f"    {line}"
    if len(advice) > SHOWN:
        yield f"  and {len(advice) - SHOWN} more: sessiond status --json"


def _wrapped(text: str, width: int) -> list[str]:
    lines = wrapped(escape(text), width) if text else []
    return lines if len(lines) <= LINES else [*lines[: LINES - 1], shorten(" ".join(lines[LINES - 1 :]), width)]


def _stopped(status: Status) -> bool:
    return status.daemon.state is not Running.RUNNING


def _ago(status: Status, at_ms: int) -> str:
    return age((status.now_ms - at_ms) / 1000)


def _paint(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m"
