"""The spool in numbers, for `status` and `sources`: cheap at any size.

Triggers keep a tally of all sessions. All other numbers come from partial indexes of what is unsent or unusual. These
indexes cover their queries, since reading the table would read pages full of records.
"""

from __future__ import annotations

import json
from itertools import pairwise

from sessiond.frozen_record import FrozenRecord
from sessiond.spool.archive_counts import ArchiveCounts
from sessiond.spool.safety import Counts, Safety

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from uuid import UUID

_HAS_RECORD = "session.id NOT IN (SELECT id FROM session WHERE record IS NULL)"
"""Used instead of `record IS NOT NULL`, which no index covers."""
_DUE = f"revision > pushed AND session.parked IS NULL AND {_HAS_RECORD}"
_UNSENT = (
    "SELECT id FROM session WHERE revision > pushed AND parked IS NULL"
    " UNION SELECT id FROM session WHERE parked IS NOT NULL"
    " UNION SELECT session FROM stream WHERE waiting > 0 AND held IS NULL"
    " UNION SELECT session FROM stream WHERE queued < folded OR gap_from IS NOT NULL OR held IS NOT NULL"
    " UNION SELECT session FROM segment JOIN stream ON stream.id = segment.stream WHERE segment.parked IS NOT NULL"
)


class ToolCount(FrozenRecord):
    """The sessions of one tool in the spool."""

    tool: str
    sessions: int = 0
    ongoing: int = 0
    counts: Counts = Counts()
    """Its sessions by state; see safety.py."""
    active_ms: int | None = None
    """When its newest session was last active."""
    damaged: int = 0
    """Records that could not be decoded. They are captured and pushed all the same."""
    troubled: int = 0
    """Files that can't be read."""
    unknown: list[str] = []  # noqa: RUF012 - each has its own
    """Record types that its source does not know."""
    unknown_since: str | None = None
    """The tool's version in the oldest session with unknown record types."""


class Totals(Counts):
    """The sessions of all tools, by state at the configured endpoint."""

    ongoing: int
    archive: ArchiveCounts = ArchiveCounts()
    """The built-in archive, while another endpoint is configured."""
    oldest_ms: int | None
    """When the oldest unacknowledged item was captured."""
    unprotected: int
    """Streams whose transcript waits in the tool's file without a pin: the tool's clean-up could delete it."""

    @property
    def complete(self) -> bool:
        """Whether the endpoint has everything, except what the user gave up."""
        return self.settled and not self.archive.pending and self.archive.problem is None


class Trouble(FrozenRecord):
    """A file that can't be read, and why."""

    tool: str
    path: str
    reason: str


class Waiting(FrozenRecord):
    """The contents of the outbox: sessions and segments to push, their bytes, the oldest one, and parked items."""

    sessions: int
    segments: int
    bytes: int
    oldest_ms: int | None
    parked: int
    behind: int
    """Streams whose transcript still waits in its file."""
    behind_bytes: int
    parked_reason: str | None = None
    """The reason that all parked items have in common; None if there are several."""


class Queued(FrozenRecord):
    """The items of a session that are neither acknowledged nor parked."""

    session: UUID
    tool: str
    title: str | None
    record: bool
    """Whether its newest record waits."""
    segments: int
    bytes: int
    """Compressed bytes."""
    oldest_ms: int | None


class Stats:
    """Counts what is captured and what is acknowledged. Only reads."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._safety = Safety(connection)

    def totals(self, url: str | None = None, tools: list[ToolCount] | None = None) -> Totals:
        """Return the totals of all tools. `url`: the endpoint (see Safety); `tools`: their counts, if known."""
        counts = None if tools is None else {each.tool: each.counts for each in tools}
        return Totals(
            **vars(self._safety.total(url, tools=counts)),
            ongoing=self._one("SELECT coalesce(sum(ongoing), 0) FROM tally"),
            archive=self._safety.archive(),
            # A revision is the time at which its record changed.
            oldest_ms=self._db.execute(
                "SELECT min(at) FROM (SELECT min(queued_ms) AS at FROM segment WHERE parked IS NULL"
                f" UNION ALL SELECT min(revision) FROM session WHERE {_DUE})"
            ).fetchone()[0],
            unprotected=self._one(
                "SELECT count(*) FROM stream WHERE queued < folded AND NOT EXISTS"
                " (SELECT 1 FROM file WHERE file.stream = stream.id AND pin IS NOT NULL)"
            ),
        )

    def _one(self, query: str) -> int:
        return int(self._db.execute(query).fetchone()[0])

    def tools(self, url: str | None = None) -> list[ToolCount]:
        """Return the counts of each known tool, by name. `url` is the configured endpoint; see Safety."""
        counts: dict[str, ToolCount] = {}
        safety = self._safety.tools(url)
        for tool, sessions, ongoing, active_ms in self._db.execute(
            "SELECT tool, sessions, ongoing,"
            " (SELECT active_ms FROM session WHERE record IS NOT NULL AND session.tool = tally.tool"
            " ORDER BY active_ms DESC LIMIT 1)"
            " FROM tally WHERE sessions > 0"
        ):
            counts[tool] = ToolCount(
                tool=tool, sessions=sessions, ongoing=ongoing, counts=safety[tool], active_ms=active_ms
            )
        for tool, troubled in self._db.execute(
            "SELECT tool, count(*) FROM file WHERE trouble IS NOT NULL AND gone_ms IS NULL GROUP BY tool"
        ):
            counts[tool] = counts.get(tool, ToolCount(tool=tool)).replace(troubled=troubled)
        for tool, unknown, damaged in self._db.execute(
            "SELECT tool, unknown, sum(damaged) FROM stream CROSS JOIN session ON session.id = stream.session"
            " WHERE damaged > 0 OR unknown IS NOT NULL GROUP BY tool, unknown"
        ):
            known = counts.get(tool, ToolCount(tool=tool))
            types = set(known.unknown) | set(json.loads(unknown) if unknown else ())
            counts[tool] = known.replace(damaged=known.damaged + damaged, unknown=sorted(types))
        for tool, version, _ in self._db.execute(
            "SELECT tool, json_extract(CAST(record AS TEXT), '$.tool_version'),"
            " min(json_extract(CAST(record AS TEXT), '$.started_at'))"
            " FROM stream CROSS JOIN session ON session.id = stream.session"  # this order: few streams match
            " WHERE unknown IS NOT NULL AND record IS NOT NULL GROUP BY tool"
        ):
            counts[tool] = counts[tool].replace(unknown_since=version)
        return [counts[tool] for tool in sorted(counts)]

    def waiting(self) -> Waiting:
        """Return the contents of the outbox, for `status`."""
        sessions = self._db.execute(f"SELECT count(*) FROM session WHERE {_DUE}").fetchone()[0]
        segments, size, oldest = self._db.execute(
            "SELECT count(*), coalesce(sum(size), 0), min(queued_ms) FROM segment WHERE parked IS NULL"
        ).fetchone()
        parked = self._db.execute(
            "SELECT (SELECT count(*) FROM segment WHERE parked IS NOT NULL)"
            " + (SELECT count(*) FROM session WHERE parked IS NOT NULL)"
        ).fetchone()[0]
        behind, behind_bytes = self._db.execute(
            "SELECT count(*), coalesce(sum(folded - queued), 0) FROM stream WHERE queued < folded"
        ).fetchone()
        return Waiting(
            sessions=sessions,
            segments=segments,
            bytes=size,
            oldest_ms=oldest,
            parked=parked,
            behind=behind,
            behind_bytes=behind_bytes,
            parked_reason=self._parked_reason() if parked else None,
        )

    def _parked_reason(self) -> str | None:
        reasons = self._db.execute(
            "SELECT parked FROM segment WHERE parked IS NOT NULL UNION SELECT parked FROM session"
            " WHERE parked IS NOT NULL LIMIT 2"
        ).fetchall()
        return str(reasons[0][0]) if len(reasons) == 1 else None

    def older(self, before_ms: int) -> tuple[int, int]:
        """Return how many sessions were last active before this time, and how many of them their tools deleted."""
        return (
            self._one(f"SELECT count(*) FROM session WHERE record IS NOT NULL AND active_ms < {before_ms:d}"),
            self._one(
                "SELECT count(*) FROM session WHERE gone_ms IS NOT NULL AND record IS NOT NULL"
                f" AND active_ms < {before_ms:d}"
            ),
        )

    def redactions(self) -> dict[str, int]:
        """Return the number of masked secrets by rule, most frequent first."""
        return dict(self._db.execute("SELECT rule, count FROM redaction ORDER BY count DESC, rule").fetchall())

    def ids(self, head: str) -> list[UUID]:
        """Return the sessions with a record whose id begins with `head`."""
        from uuid import UUID  # imported late, here and below: `status` needs no ids

        rows = self._db.execute(
            "SELECT uuid FROM session WHERE record IS NOT NULL AND uuid >= ? AND uuid < ?", (head, head + "\U0010ffff")
        )
        return [UUID(row[0]) for row in rows]

    def newest_ids(self, limit: int) -> list[str]:
        """Return the ids of the sessions that were active last."""
        rows = self._db.execute(
            "SELECT uuid FROM session WHERE record IS NOT NULL ORDER BY active_ms DESC LIMIT ?", (limit,)
        )
        return [row[0] for row in rows]

    def tool_names(self) -> list[str]:
        """Return the tools that have sessions."""
        return [row[0] for row in self._db.execute("SELECT tool FROM tally WHERE sessions > 0 ORDER BY tool")]

    def machine_names(self) -> list[str]:
        """Return the machine ids of the sessions."""
        rows = self._db.execute(
            "SELECT DISTINCT json_extract(CAST(record AS TEXT), '$.machine_id') FROM session WHERE record IS NOT NULL"
        )
        return sorted(row[0] for row in rows if row[0])

    def id_length(self, least: int) -> int:
        """Return the number of characters, at least `least`, at which the beginnings of all session ids differ."""
        # The index has them in order, so only neighbours can begin alike; DISTINCT would sort the beginnings again.
        ids = [row[0] for row in self._db.execute("SELECT uuid FROM session ORDER BY uuid")]
        length = least
        for one, other in pairwise(ids):
            while one[:length] == other[:length]:
                length += 1
        return length

    def queue(self) -> list[Queued]:
        """Return the sessions that have something to push, most recently active first."""
        from uuid import UUID

        rows = self._db.execute(
            f"SELECT uuid, tool, title, {_DUE}, count(segment.id), coalesce(sum(segment.size), 0),"
            " min(segment.queued_ms), revision FROM session"
            " LEFT JOIN stream ON stream.session = session.id AND stream.waiting > 0"
            " LEFT JOIN segment ON segment.stream = stream.id AND segment.parked IS NULL"
            f" WHERE session.id IN ({_UNSENT}) GROUP BY session.id ORDER BY active_ms DESC"
        )
        return [
            Queued(
                session=UUID(row[0]),
                tool=row[1],
                title=row[2],
                record=bool(row[3]),
                segments=row[4],
                bytes=row[5],
                oldest_ms=row[6] if row[6] is not None else row[7] if row[3] else None,
            )
            for row in rows
            if row[3] or row[4]
        ]

    def troubles(self, limit: int) -> list[Trouble]:
        """Return up to `limit` files that can't be read."""
        rows = self._db.execute(
            "SELECT tool, path, trouble FROM file WHERE trouble IS NOT NULL AND gone_ms IS NULL LIMIT ?", (limit,)
        )
        return [
            Trouble(tool=tool, path=path.decode("utf-8", "surrogateescape"), reason=trouble)
            for tool, path, trouble in rows
        ]

    def messageless(self) -> dict[str, list[str]]:
        """Return the captured files whose sessions have no message yet, and so no record, of each tool."""
        rows = self._db.execute(
            "SELECT session.tool, file.path FROM session JOIN stream ON stream.session = session.id"
            " JOIN file ON file.stream = stream.id"
            " WHERE session.record IS NULL AND file.gone_ms IS NULL ORDER BY file.path"
        )
        found: dict[str, list[str]] = {}
        for tool, path in rows:
            found.setdefault(tool, []).append(path.decode("utf-8", "surrogateescape"))
        return found
