"""Counts the sessions of the built-in archive, while another endpoint is configured and they are copied there."""

from __future__ import annotations

from sessiond.frozen_record import FrozenRecord

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3

ARCHIVE_LISTED = "archive.listed"
"""Meta key: the ids of the archive and of the endpoint for which the archive's sessions were listed."""
ARCHIVE_POSITION = "archive.position"
"""Meta key: up to where the archive's changes were listed."""
ARCHIVE_FILES = "archive.files"
"""Meta key: `state.archive_files` after everything was copied. If it differs, the archive has changed since."""
ARCHIVE_PROBLEM = "archive.problem"
"""Meta key: why the built-in archive can't be read and copied."""
_NO_FILE = (
    "NOT EXISTS (SELECT 1 FROM session WHERE uuid = archived.session AND id NOT IN"
    " (SELECT id FROM session WHERE gone_ms IS NOT NULL AND record IS NOT NULL)"
    " AND id NOT IN (SELECT id FROM session WHERE record IS NULL))"
)
"""Whether no tool has a file of an archived session. All of it is read from indexes, as the tables have long rows."""


class ArchiveCounts(FrozenRecord):
    """The built-in archive, while another endpoint is configured: its sessions are copied there."""

    listed: bool = False
    """Whether its sessions were listed for the configured endpoint. Before that, they are unknown."""
    sessions: int = 0
    pending: int = 0
    """Sessions that are not yet known to be complete at the endpoint."""
    bytes: int = 0
    pending_bytes: int = 0
    only_bytes: int = 0
    """Bytes of archived sessions whose tools have deleted the files; 0 once all are copied."""
    only_pending_bytes: int = 0
    """How many of these bytes are still to be copied."""
    refused: int = 0
    """Pending sessions that the endpoint rejects."""
    reason: str | None = None
    """Why the endpoint rejects one of them."""
    problem: str | None = None
    """Why the archive as a whole can't be read."""
    files: str | None = None
    """`state.archive_files` after all of it was copied. If it differs, the archive has changed since."""


def count_archive(db: sqlite3.Connection) -> ArchiveCounts:
    """Return the counts of the built-in archive, as far as it was listed."""
    sessions, size, pending, pending_size, refused, reason = db.execute(
        "SELECT count(*), coalesce(sum(bytes), 0), coalesce(sum(NOT copied), 0),"
        " coalesce(sum(iif(copied, 0, bytes)), 0), count(problem), max(problem) FROM archived"
    ).fetchone()
    only = only_pending = 0
    if pending:  # takes milliseconds with 10,000 sessions; not needed once all are copied
        only, only_pending = db.execute(
            f"SELECT coalesce(sum(bytes), 0), coalesce(sum(iif(copied, 0, bytes)), 0) FROM archived WHERE {_NO_FILE}"
        ).fetchone()
    problem, files = (
        db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        for key in (ARCHIVE_PROBLEM, ARCHIVE_FILES)
    )
    listed = db.execute(
        "SELECT substr(listed.value, -36) = bound.value FROM meta AS listed, meta AS bound"
        " WHERE listed.key = ? AND bound.key = 'endpoint'",
        (ARCHIVE_LISTED,),
    ).fetchone()
    return ArchiveCounts(
        listed=listed is not None and bool(listed[0]),
        sessions=sessions,
        bytes=size,
        pending=pending,
        pending_bytes=pending_size,
        only_bytes=only,
        only_pending_bytes=only_pending,
        refused=refused,
        reason=reason,
        problem=None if problem is None else str(problem[0]),
        files=None if files is None else str(files[0]),
    )
