"""OpenClaw, whose agents are Pi's: docs/formats/openclaw.md."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar

import msgspec

from sessiond import zstd
from sessiond.session import Entry
from sessiond.sources.base import Memory, Projection, Root, Rows, SideFiles, Unit, UserDirs
from sessiond.sources.objects import encode, without_nulls
from sessiond.sources.pi import Pi
from sessiond.sources.records import UUID
from sessiond.sources.rows import as_json, column_or, columns, select

# Events are only added; rewriting a session's events gives it a new generation.
HEADS = """
    SELECT session_id, printf('%s %s %s %s', {status},
        (SELECT max(seq) FROM transcript_events WHERE session_id = w.session_id),
        (SELECT generation FROM transcript_rewrite_watermarks WHERE session_id = w.session_id),
        (SELECT coalesce(label, display_name) FROM session_nodes WHERE session_key = w.session_key))
    FROM session_windows w WHERE EXISTS (SELECT 1 FROM transcript_events WHERE session_id = w.session_id)
"""
TABLES = (
    ("session_windows", "previous_session_id"),
    ("session_nodes", "display_name"),
    ("transcript_events", "event_zstd"),
    ("transcript_rewrite_watermarks", "generation"),
)
"""Tables that a listing needs, each with a column of the version that is read. The tool creates them one by one."""
HEAD = """
    SELECT coalesce(n.label, n.display_name), coalesce(n.fork_source_session_id,
        CASE WHEN w.reason IN ('fork', 'rewind', 'compaction') THEN w.previous_session_id END,
        (SELECT current_session_id FROM session_nodes WHERE session_key = coalesce(n.spawned_by, n.parent_session_key)))
    FROM session_windows w JOIN session_nodes n USING (session_key) WHERE session_id = ?
"""
WINDOW = "window"
OF_WINDOW = b'{"type":"window"'
STATE = columns(
    "reason session_scope previous_session_id created_at started_at ended_at status chat_type channel model_provider"
    " model agent_harness_id"
)
EVENTS = "SELECT event_json, event_zstd FROM transcript_events WHERE session_id = ? ORDER BY seq"
EVENT_LIMIT = 4 << 20
"""Bytes of an unpacked event; the table has the same limit."""


class OpenClaw(Pi):
    """Transcripts of OpenClaw's agents, in Pi's format: rows since summer 2026, JSON lines before."""

    tool: ClassVar[str] = "openclaw"
    variables: ClassVar[tuple[str, ...]] = ("OPENCLAW_STATE_DIR",)
    versions: ClassVar[tuple[str, ...]] = ("April 2026", "2026.9.6")
    id_columns: ClassVar[tuple[tuple[str, str], ...]] = (("session_windows", "session_id"),)
    gaps: ClassVar[tuple[str, ...]] = (
        "no version or branch is stored; the files have no parent, and their titles (sessions.json) are not read",
        "transcripts that were reset, deleted or packed away as a whole before they were captured",
        "what a chat's members are called, and the settings of a session (entry_json), which may hold keys",
        "auth-profiles.json, which holds keys",
    )
    session_like: ClassVar[str] = r"[^/]+/(?:sessions/.+\.jsonl|agent/[^/]+\.sqlite)(?:\.[\w.-]+)?"
    projection_version: ClassVar[int] = 2
    # Each topic of a chat has a transcript of its own. *.trajectory.jsonl and sessions.json are no sessions.
    files: ClassVar[re.Pattern[str]] = re.compile(
        rf"[^/]+/sessions/(?P<id>{UUID}(?:-topic-[\w-]+)?)\.jsonl|(?P<store>[^/]+/agent/openclaw-agent\.sqlite)(?:-wal)?",
        re.ASCII,
    )
    side_files: ClassVar[tuple[SideFiles, ...]] = (
        SideFiles(rf"[^/]+/sessions/(?P<id>{UUID}(?:-topic-[\w-]+)?)\.(?P<name>trajectory\.jsonl)", "trajectories"),
    )

    def roots(self, dirs: UserDirs) -> Iterable[Root]:
        """Return the agents of OPENCLAW_STATE_DIR, ~/.openclaw, and the directories of the tool's former names."""
        defaults = [f"{dirs.home}/{name}" for name in (".openclaw", ".clawdbot", ".qclaw")]
        for base in dirs.with_override("OPENCLAW_STATE_DIR", *defaults):
            yield Root(path=f"{base}/agents", depth=2, skip=frozenset(["qmd"]))

    def unit(self, relative: str) -> Unit | None:
        """Return the unit of an agent's database, or of an older file, which is a stream of the same session."""
        unit = super().unit(relative)
        return msgspec.structs.replace(unit, stream="jsonl") if unit and unit.native_id else unit

    def sessions(self, database: Rows) -> Iterable[tuple[str, str]]:
        """List sessions by the index of their events; a session that was packed away has none."""
        if all(database.has(table, column) for table, column in TABLES):
            yield from database.rows(HEADS.format(status=column_or(database, "session_windows", "status")))

    def projections(self, database: Rows, native_id: str) -> Iterable[Projection]:
        """Project a session's events to the lines of the older files."""
        for title, parent in list(database.rows(HEAD, native_id)):
            records = [_record(*event) for event in database.rows(EVENTS, native_id)]
            origin = None if parent == native_id else parent
            yield Projection(native_id=native_id, parent=origin, records=records, metadata=Entry(title=title))
            for state in list(select(database, "session_windows", STATE, "WHERE session_id = ?", native_id)):
                record = encode({"type": WINDOW, **without_nulls(state)})
                yield Projection(native_id=native_id, records=[record], stream=WINDOW)

    def decode(self, record: bytes, memory: Memory) -> Entry | None:
        """Decode a line of Pi's format. Data about the session as a whole is not a line of it."""
        return None if record.startswith(OF_WINDOW) else super().decode(record, memory)


def _record(event: str | None, packed: bytes | None) -> bytes:
    """Return an event as a record. Raises: ValueError if it can't be unpacked."""
    if packed is not None:
        try:
            return b"".join(zstd.decompress_stream(iter([packed]), EVENT_LIMIT))
        except zstd.Undecodable as error:
            raise ValueError(str(error)) from error
    return bytes(as_json(event) or b"{}")


SOURCES = (OpenClaw(),)
