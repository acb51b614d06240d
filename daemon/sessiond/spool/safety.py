"""Computes what is safe at the configured endpoint. Every command uses this one answer.

A captured session is in exactly one state: the worst of its record and its streams. A stream is safe if the endpoint
acknowledged each of its bytes, and nothing of it waits, is parked or is lost. The queries use partial indexes of what
is not safe, so they are cheap with any number of sessions.
"""

from __future__ import annotations

from enum import IntEnum

from sessiond.frozen_record import FrozenRecord
from sessiond.spool.archive_counts import ArchiveCounts, count_archive

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from typing import Self

BOUND = "endpoint.url"
"""Meta key: address of the endpoint whose acknowledgements are in the spool; "" for the built-in archive."""
BOUND_ENDPOINT = "endpoint"
"""Meta key: id of that endpoint; none before it has answered for the first time."""
LAST_BATCH = "batch"
"""Meta key: the name of the last batch that the endpoint acknowledged."""
UNTRUSTED = "endpoint.untrusted"
"""Meta key, set if the endpoint lost batches, or another copy of this state directory pushes there."""
KEEP_DAYS = "endpoint.keep_days"
"""Meta key: the days for which the endpoint keeps sessions; none: it keeps all."""
CHANGED = "endpoint.changed"
"""Meta key, set while the spool was bound to another endpoint before and the configured one has not answered yet."""

UNSAFE = (
    "skipped IS NULL AND (waiting > 0 OR queued != folded OR acked != folded OR gap_from IS NOT NULL"
    " OR held IS NOT NULL OR NOT known OR lost > 0)"
)
"""The condition of the index `stream_unsafe`, literally: otherwise SQLite does not use the index."""
CLAIMED = (
    "(skipped IS NULL AND folded > 0 AND waiting = 0 AND queued = folded AND acked = folded AND gap_from IS NULL"
    " AND held IS NULL AND known AND lost = lost_before)"
)
"""The condition that the endpoint has all of a stream's current generation. Bytes of earlier ones may be lost."""
_MOVING = (
    "(waiting > 0 OR queued != folded OR gap_from IS NOT NULL OR held IS NOT NULL OR NOT known OR unconfirmed > 0)"
)
_PARKED = "stream.id IN (SELECT segment.stream FROM segment WHERE segment.parked IS NOT NULL)"
MISSING = f"lost + iif({_MOVING} OR {_PARKED}, 0, folded - acked)"
"""Bytes that exist nowhere any more: placeholders, and bytes that are neither acknowledged nor on their way."""


class State(IntEnum):
    """How safe a session or a stream is. Of several states, the highest counts."""

    SAFE = 0
    """The endpoint has all of it."""
    DROPPED = 1
    """The user gave up the bytes that the endpoint lacks (`sessiond queue drop`)."""
    EXPIRED = 2
    """The endpoint had it, and let it go because its owner keeps sessions for some days only."""
    ARCHIVED = 3
    """The tool's file is gone and only the built-in archive has it; it is being copied to the endpoint."""
    WAITING = 4
    """It is on its way: in the outbox or in the tool's file, or the endpoint has not been asked about it yet."""
    PARKED = 5
    """The endpoint rejects a part of it."""
    LOST = 6
    """A part of it exists nowhere that sessiond can reach."""

    @property
    def word(self) -> str:
        """The state as commands print it."""
        return self.name.lower()


_STREAM_STATE = (
    f"CASE WHEN {MISSING} > accepted AND {MISSING} > accepted + let_go THEN {State.LOST:d}"
    f" WHEN {_PARKED} THEN {State.PARKED:d} WHEN {_MOVING} THEN {State.WAITING:d}"
    f" WHEN {MISSING} > accepted THEN {State.EXPIRED:d} ELSE {State.DROPPED:d} END"
)
_STATE_IF_EXPIRED = (
    f"CASE WHEN {_PARKED} THEN {State.PARKED:d} WHEN waiting > 0 OR queued != folded THEN {State.WAITING:d}"
    f" ELSE {State.EXPIRED:d} END"
)
"""The state of a stream whose session the endpoint let go: it has no byte of the stream, but queued ones are pushed."""
_RECORD_STATE = (
    f"CASE WHEN session.parked IS NOT NULL THEN {State.PARKED:d} WHEN revision > pushed THEN {State.WAITING:d}"
    f" WHEN dropped = revision THEN {State.DROPPED:d} ELSE {State.SAFE:d} END"
)
# The streams of a session are adjacent in the index, so that grouping needs no sorting. A session without an unsafe
# stream is found by the indexes of unpushed records.
_BY_STREAMS = (
    f"SELECT session.id, uuid, tool, gone_ms, max(worst, {_RECORD_STATE}) AS state, missing, unsent"
    f" FROM (SELECT session, max({_STREAM_STATE}) AS worst, sum({MISSING}) AS missing,"
    f" sum(max(folded - acked, 0)) AS unsent FROM stream INDEXED BY stream_unsafe WHERE {UNSAFE} GROUP BY session)"
    " AS streams CROSS JOIN session ON session.id = streams.session WHERE record IS NOT NULL AND expired_ms IS NULL"
)
_ALONE = (
    f"session.id NOT IN (SELECT session FROM stream INDEXED BY stream_unsafe WHERE {UNSAFE})"
    " AND record IS NOT NULL AND expired_ms IS NULL"
)
_BY_RECORDS = " UNION ALL ".join(
    f"SELECT session.id, uuid, tool, gone_ms, {state:d}, 0, 0 FROM session WHERE {condition} AND {_ALONE}"
    for state, condition in (
        (State.WAITING, "revision > pushed AND parked IS NULL"),
        (State.PARKED, "parked IS NOT NULL"),
        (State.DROPPED, "dropped = revision AND revision <= pushed AND parked IS NULL"),
    )
)
_EXPIRED = (
    f"SELECT id, uuid, tool, gone_ms, max({_RECORD_STATE}, CASE"
    " WHEN id IN (SELECT session FROM stream WHERE id IN (SELECT stream FROM segment WHERE parked IS NOT NULL))"
    f" THEN {State.PARKED:d} WHEN id IN (SELECT session FROM stream WHERE waiting > 0 AND held IS NULL UNION ALL"
    " SELECT session FROM stream WHERE queued < folded OR gap_from IS NOT NULL OR held IS NOT NULL)"
    f" THEN {State.WAITING:d} ELSE {State.EXPIRED:d} END), 0, 0 FROM session"
    " WHERE expired_ms > 0 AND record IS NOT NULL"
)
"""Sessions that the endpoint let go. Whatever was acknowledged of their streams, it has no byte of them."""
_SESSIONS = (
    f"SELECT id, uuid, tool, missing, unsent, iif(gone_ms IS NOT NULL AND state = {State.WAITING:d} AND EXISTS"
    " (SELECT 1 FROM archived WHERE archived.session = uuid AND NOT copied),"
    f" {State.ARCHIVED:d}, state) AS state FROM ({_BY_STREAMS} UNION ALL {_BY_RECORDS} UNION ALL {_EXPIRED})"
)
"""The sessions that are not safe, each once."""


class Counts(FrozenRecord):
    """Sessions by state. Each captured session is in exactly one state; `only_here` counts across states."""

    captured: int = 0
    acknowledged: int = 0
    """Captured sessions that are safe: the endpoint has the newest record and each byte."""
    waiting: int = 0
    archived: int = 0
    parked: int = 0
    lost: int = 0
    dropped: int = 0
    expired: int = 0
    """Sessions that the endpoint let go because it keeps sessions for some days only."""
    expired_gone: int = 0
    """Those of them that the tool has deleted as well."""
    only_here: int = 0
    """Captured sessions whose tool deleted its files: sessiond has the only copies. Without those of `expired_gone`."""
    unsent_bytes: int = 0
    """Transcript bytes of waiting and archived sessions that are still to be pushed."""
    archived_bytes: int = 0
    """Those of `unsent_bytes` that are copied from the archive, because the tool deleted its files."""
    lost_bytes: int = 0

    @property
    def settled(self) -> bool:
        """Whether the endpoint has every captured session, except what the user gave up or it does not keep."""
        return self.captured == self.acknowledged + self.dropped + self.expired

    def unanswered(self) -> Self:
        """Return the same counts for an endpoint that has not answered yet: nothing is safe there."""
        waiting = self.waiting + self.acknowledged + self.dropped + self.expired
        only_here = self.only_here + self.expired_gone
        return self.replace(acknowledged=0, dropped=0, expired=0, expired_gone=0, waiting=waiting, only_here=only_here)


class StreamSafety(FrozenRecord):
    """One stream of a session: bytes captured, acknowledged by the endpoint, and missing everywhere."""

    name: str
    state: State
    captured: int
    safe: int
    lost: int


class Unsafe(FrozenRecord):
    """A session that is not safe, with the bytes that the endpoint lacks and the bytes that are lost."""

    session: str
    tool: str
    state: State
    unsent_bytes: int
    lost_bytes: int


class Safety:
    """Computes what is safe. Only reads.

    `url` is the address of the configured endpoint, "" for the built-in archive, and None for the endpoint that the
    spool was last bound to. At an endpoint that has not answered yet nothing is safe: every session waits.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def total(self, url: str | None = None, *, tools: dict[str, Counts] | None = None) -> Counts:
        """Return the counts of all tools together; `tools` are the counts of each one, if already known."""
        counts = self.tools(url) if tools is None else tools
        sums = dict.fromkeys(vars(Counts()), 0)
        for each in counts.values():
            for name, value in vars(each).items():
                sums[name] += value
        return Counts(**sums)

    def tools(self, url: str | None = None) -> dict[str, Counts]:
        """Return the counts of each tool that has sessions."""
        counts = {
            tool: {"captured": sessions, "acknowledged": sessions}
            for tool, sessions in self._db.execute("SELECT tool, sessions FROM tally WHERE sessions > 0")
        }
        for tool, here, gone in self._db.execute(
            "SELECT tool, count(*) - count(expired_ms), count(expired_ms) FROM session"
            " WHERE gone_ms IS NOT NULL AND record IS NOT NULL GROUP BY tool"
        ):
            counts[tool] |= {"only_here": here, "expired_gone": gone}
        for tool, state, sessions, missing, unsent in self._db.execute(
            f"SELECT tool, state, count(*), sum(missing), sum(unsent) FROM ({_SESSIONS}) GROUP BY tool, state"
        ):
            count = counts[tool]
            count["acknowledged"] -= sessions
            count[State(state).word] = sessions
            if state in (State.WAITING, State.ARCHIVED):
                count["unsent_bytes"] = count.get("unsent_bytes", 0) + unsent
            if state == State.ARCHIVED:
                count["archived_bytes"] = unsent
            if state == State.LOST:
                count["lost_bytes"] = missing
        bound = self.bound(url)
        made = {tool: Counts(**counts[tool]) for tool in sorted(counts)}
        return made if bound else {tool: each.unanswered() for tool, each in made.items()}

    def bound(self, url: str | None = None) -> bool:
        """Return whether the acknowledgements in the spool came from the endpoint at `url`."""
        if url is None:
            return True
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (BOUND,)).fetchone()
        return row is not None and row[0] == url

    def archive(self) -> ArchiveCounts:
        """Return the counts of the built-in archive, as far as it was listed."""
        return count_archive(self._db)

    def unsafe(self, *states: State, limit: int = -1) -> Iterator[Unsafe]:
        """Iterate over the sessions in one of `states` (any but SAFE if none is given), the worst first."""
        chosen = states or tuple(state for state in State if state is not State.SAFE)
        marks = ", ".join("?" * len(chosen))
        rows = self._db.execute(
            f"SELECT uuid, tool, state, unsent, missing FROM ({_SESSIONS}) WHERE state IN ({marks})"
            " ORDER BY state DESC, tool, id LIMIT ?",
            (*map(int, chosen), limit),
        )
        for session, tool, state, unsent, missing in rows:
            yield Unsafe(session=session, tool=tool, state=State(state), unsent_bytes=unsent, lost_bytes=missing)

    def states(self, url: str | None = None) -> tuple[dict[str, State], State]:
        """Return the state of sessions by id, and the state of all others: safe, or waiting if nothing is safe."""
        others = State.SAFE if self.bound(url) else State.WAITING
        return {each.session: max(each.state, others) for each in self.unsafe()}, others

    def session(self, number: int, url: str | None = None) -> State:
        """Return the state of one session, by its row number."""
        row = self._db.execute(f"SELECT state FROM ({_SESSIONS}) WHERE id = ?", (number,)).fetchone()
        state = State.SAFE if row is None else State(row[0])
        return state if self.bound(url) else max(state, State.WAITING)

    def streams(self, session: int, url: str | None = None) -> list[StreamSafety]:
        """Return the state of each stream of a session, the oldest stream first."""
        bound = self.bound(url)
        rows = self._db.execute(
            f"SELECT name, iif(let_go_ms > 0, {_STATE_IF_EXPIRED}, iif({UNSAFE}, {_STREAM_STATE}, {State.SAFE:d})),"
            f" folded, iif(known AND held IS NULL AND let_go_ms IS NULL, acked, 0), max(0, {MISSING} - let_go)"
            " FROM stream, (SELECT expired_ms AS let_go_ms FROM session WHERE id = ?) WHERE session = ? ORDER BY id",
            (session, session),
        )
        return [
            StreamSafety(
                name=name,
                state=State(state) if bound else max(State(state), State.WAITING),
                captured=captured,
                safe=safe if bound else 0,
                lost=lost,
            )
            for name, state, captured, safe, lost in rows
        ]
