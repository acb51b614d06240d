"""The screen of `sessiond status`."""

from __future__ import annotations

from sessiond.cli.output import (
    abbreviate_home,
    age,
    duration,
    escape,
    shorten,
    size,
    table,
    tilde,
    wrapped,
)
from sessiond.cli.sizes import format_sizes
from sessiond.spool.health import RootHealth
from sessiond.spool.stats import Totals
from sessiond.spool.verification import Verification
from sessiond.status import Advice, Running, Status, ToolStatus
from sessiond.text import count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LABEL = 14
ADDRESS = 24
"""Columns of an endpoint's address below which its state goes to a line of its own."""
RULES = 3
"""How many of the rules that found secrets are shown."""
SHOWN = 3
"""Pieces of advice on the screen; `--json` has all."""
LINES = 2
"""Most lines of a hint. A problem is shown whole: half of an error does not help."""
ROOM = 9
"""Lines of advice after which no further piece is shown, so that the screen fits a terminal of 24 lines."""
BACKLOG = 1_000_000
"""Bytes below which a backlog is not shown: it is done before the line can be read."""
NUMBERS = {"sessions", "acked", "ongoing", "idle", "skipped"}
NARROW, DIRECTORY = ("watch", "idle", "ongoing"), 12
"""Columns of the tools that a narrow terminal leaves out, in this order, until the directory has this width."""
BEST_FIRST = ("watched", "polled", "scan only", "not watched", "unreadable", "missing")


def screen(status: Status, *, width: int = 80, home: str = "", color: bool = False) -> str:
    """Format the status as text. Colour adds no information."""
    lines = []
    for label, text in _facts(status, home, width - LABEL):
        painted = _paint(label.ljust(LABEL), "1") if color else label.ljust(LABEL)
        hue = "32" if status.healthy else "31" if _stopped(status) else "33"
        for number, part in enumerate(wrapped(escape(text), width - LABEL, LINES)):
            fitting = _paint(part, hue) if color and label == "sessiond" else part
            lines.append(((" " * LABEL if number else painted) + fitting).rstrip())
    if status.tools:
        lines += ["", _tools(status, width, home)]
    advice = list(_advice(status.advice, width, home, color))
    return "\n".join([*lines, "", *advice] if advice else lines)


def _facts(status: Status, home: str, width: int) -> Iterator[tuple[str, str]]:
    yield "sessiond", _daemon(status)
    yield "endpoint", _endpoint(status, width)
    unknown = sum(tool.unrecognized for tool in status.tools)
    yield "found", _found(status) + (f"; {unknown} more not recognized" if unknown else "")
    totals, waiting = status.totals, status.outbox
    if totals is None or waiting is None:
        yield "captured", _unknown(status)
    else:
        yield "captured", f"{count(totals.captured, 'session')}, {totals.ongoing} ongoing"
        yield "acknowledged", _acknowledged(totals)
        if status.verification is not None:
            yield "verified", _verified(status, status.verification)
        if totals.expired:
            yield "not kept", _not_kept(status, totals)
        if totals.only_here:
            yield "only copy", f"{count(totals.only_here, 'session')} whose tool has deleted its files"
        archive = totals.archive
        if archive.pending:
            done = (
                f"{archive.sessions - archive.pending} of {count(archive.sessions, 'session')} copied to the endpoint"
            )
            yield "archive", f"{done}, {size(archive.pending_bytes)} left"
        yield from _backlog(status)
        if waiting.sessions or waiting.segments or waiting.parked:
            oldest = "" if totals.oldest_ms is None else f", oldest {_ago(status, totals.oldest_ms)}"
            parked = f"; {waiting.parked} parked" if waiting.parked else ""
            segments = f"{count(waiting.segments, 'segment')} ({size(waiting.bytes)})"
            yield "waiting", f"{count(waiting.sessions, 'record')}, {segments}{oldest}{parked}"
        if waiting.behind:
            bare = f", {totals.unprotected} without protection" if totals.unprotected else ""
            yield "", f"{count(waiting.behind, 'transcript')} ({size(waiting.behind_bytes)}) in the tools' files{bare}"
    if status.restored or status.continued:
        states = ((status.continued, "continued here"), (status.restored, "not continued here yet"))
        how = ", ".join(f"{number} {words}" for number, words in states if number)
        yield "restored", f"{count(status.restored + status.continued, 'session')} of other machines: {how}"
    erasures = status.erasures
    if erasures.waiting:
        since = "" if erasures.oldest_ms is None else f", requested {_ago(status, erasures.oldest_ms)}"
        yield "erasing", f"{count(erasures.waiting, 'session')} still to be erased at the endpoint{since}"
    if status.redactions:
        most = ", ".join(f"{rule} {number}" for rule, number in list(status.redactions.items())[:RULES])
        yield "masked", f"{count(sum(status.redactions.values()), 'secret')} ({most}{_more_rules(status)})"
    if status.sizes is not None and status.sizes.tools:
        yield "sizes", format_sizes(status.sizes)
    yield "disk", f"{size(status.disk_bytes)} in {tilde(status.state_dir, home)}"


def _acknowledged(totals: Totals) -> str:
    """Format how many sessions are safe, and the states of the others."""
    states = (
        (totals.waiting, "waiting"),
        (totals.archived, "only in the archive"),
        (totals.parked, "parked"),
        (totals.lost, "lost"),
        (totals.dropped, "dropped by you"),
        (totals.expired, "not kept"),
    )
    rest = [f"{number} {word}" for number, word in states if number]
    return f"{totals.acknowledged} of them" + (f"; {', '.join(rest)}" if rest else "")


def _not_kept(status: Status, totals: Totals) -> str:
    """Format how many sessions the endpoint let go, and which of them still have a copy here."""
    days = "older sessions" if status.keep_days is None else f"sessions after {count(status.keep_days, 'day')}"
    copies = ((totals.expired - totals.expired_gone, "in the tools' files"), (totals.expired_gone, "deleted here too"))
    where = ", ".join(f"{number} {words}" for number, words in copies if number)
    return f"{count(totals.expired, 'session')}: the endpoint lets {days} go; {where}"


def _verified(status: Status, last: Verification) -> str:
    """Format the result of the last comparison with the endpoint."""
    when = _ago(status, last.at_ms)
    if last.different:
        return f"{when}: the endpoint had other bytes of {count(last.different, 'stream')}, pushed again where possible"
    if not last.incomplete:
        streams = f" ({count(last.streams, 'stream')})" if last.streams else ""
        return f"{when}: the endpoint has {count(last.sessions, 'session')}{streams} completely"
    return f"{when}: {last.incomplete} of {count(last.sessions, 'session')} incomplete at the endpoint, pushed again"


def _backlog(status: Status) -> Iterator[tuple[str, str]]:
    """Iterate the line about the progress of the backlog, if there is one."""
    made = status.progress
    if made is None or made.done or (made.waits is None and made.bytes - made.acknowledged_bytes < BACKLOG):
        return
    done = f"{size(made.acknowledged_bytes)} of {size(made.bytes)} acknowledged, {size(made.captured_bytes)} captured"
    if made.waits is not None:
        yield "backlog", f"paused: {made.waits}; {done}"
    else:
        rate = "" if made.rate is None or made.seconds_left is None else f"; {size(made.rate)}/s"
        yield "backlog", done + (f"{rate}, {duration(made.seconds_left)} left" if made.seconds_left is not None else "")


def _unknown(status: Status) -> str:
    """Return why the number of captured sessions is unknown."""
    if status.daemon.state is Running.NEVER:
        return "nothing yet"
    return "unknown: the spool " + ("is missing" if status.spool.reason is None else "can't be read")


def _more_rules(status: Status) -> str:
    """Return an ellipsis if there are more rules than are shown."""
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
    """Format the endpoint and its state; shorten the address if both do not fit."""
    where = "archive on this machine" if status.endpoint.archive else status.endpoint.url
    how = _answers(status)
    room = width - len(how) - 2
    where = where.removeprefix("https://") if len(where) > room else where
    return f"{shorten(where, room if room >= ADDRESS else width)}: {how}"


def _answers(status: Status) -> str:
    endpoint = status.endpoint
    if endpoint.failing_since_ms is not None:
        words = {"refused": "token refused", "wrong": "invalid answers"}
        failing = words.get(endpoint.kind or "", "failing")
        due = endpoint.next_attempt_ms
        left = 0.0 if due is None else (due - status.now_ms) / 1000
        again = f", next attempt in {duration(left)}" if left > 0 and status.daemon.state is Running.RUNNING else ""
        since = duration((status.now_ms - (endpoint.rejected_since_ms or endpoint.failing_since_ms)) / 1000)
        return f"{failing} for {since}{again}"
    if endpoint.last_ack_ms is None:
        return "nothing acknowledged yet"
    took = "" if endpoint.latency_ms is None else f", took {endpoint.latency_ms} ms"
    return f"last ack {_ago(status, endpoint.last_ack_ms)}{took}"


def _found(status: Status) -> str:
    found = status.discovered
    if found.files is None or found.unread is None:
        return "unknown: the first scan is running" if found.current else "unknown: no scan yet"
    files = count(found.files, "file")
    if not found.current:
        return f"{files} in the last run; newer ones are unknown"
    left = f", {found.left_out} ({size(found.left_out_bytes)}) excluded by backfill" if found.left_out else ""
    if found.unread:
        return f"{files}{left}, {found.unread} not read yet"
    return f"{files}{left}, {'the others' if left else 'all'} read"


def _tools(status: Status, width: int, home: str) -> str:
    here = [tool for tool in status.tools if tool.is_here(home)]
    here.sort(key=lambda tool: (-(tool.count.active_ms or 0), tool.count.tool))
    absent = len(status.tools) - len(here)
    if not here:
        none = f"none of the {absent} supported tools was found here: sessiond sources"
        return "\n".join(wrapped(none, width)) if absent else ""
    others = f"{count(absent, 'more supported tool')}, not found here: sessiond sources" if absent else ""
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
    skipped = rows[0].index("skipped")
    if all(row[skipped] == "0" for row in rows[1:]):  # leaves more width for the directory
        _drop(rows, "skipped")
    for name in NARROW:
        if sum(max(map(len, column)) + 2 for column in list(zip(*rows, strict=True))[:-1]) + DIRECTORY > width:
            _drop(rows, name)
    drawn = table(rows, right={at for at, name in enumerate(rows[0]) if name in NUMBERS}, width=width)
    return "\n".join([drawn, *wrapped(others, width)]) if others else drawn


def _drop(rows: list[list[str]], name: str) -> None:
    at = rows[0].index(name)
    for row in rows:
        del row[at]


def _best(tool: ToolStatus) -> RootHealth | None:
    def rank(root: RootHealth) -> int:
        return BEST_FIRST.index(root.how) if root.how in BEST_FIRST else len(BEST_FIRST)

    return min(tool.roots, key=rank, default=None)


def _advice(advice: list[Advice], width: int, home: str, color: bool) -> Iterator[str]:
    """Iterate the lines of the first pieces of advice. The first one is shown however long it is."""
    left = ROOM
    for shown, each in enumerate(advice):
        lines = list(_piece(each, width, home, color))
        left -= len(lines)
        if shown == SHOWN or (shown and left < 0):
            yield f"  {len(advice) - shown} more: sessiond status --json"
            return
        yield from lines


def _piece(each: Advice, width: int, home: str, color: bool) -> Iterator[str]:
    mark, paint, most = ("!", "31", None) if each.degraded else ("-", "2", LINES)
    first = _paint(mark, paint) if color else mark
    for number, line in enumerate(wrapped(escape(abbreviate_home(each.what, home)), width - 2, most)):
        yield f"{' ' if number else first} {line}"
    for line in wrapped(escape(abbreviate_home(each.do or "", home)), width - 4, most) if each.do else ():
        yield f"    {line}"


def _stopped(status: Status) -> bool:
    return status.daemon.state is not Running.RUNNING


def _ago(status: Status, at_ms: int) -> str:
    return age((status.now_ms - at_ms) / 1000)


def _paint(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m"
