"""The result of `verify`."""

from __future__ import annotations

import msgspec

from sessiond.spool.archive_counts import ArchiveCounts
from sessiond.spool.safety import State
from sessiond.text import count

REASONS = {
    State.WAITING: "is on its way to the endpoint",
    State.ARCHIVED: "is only in the built-in archive so far",
    State.PARKED: "has a part that the endpoint refuses: sessiond queue",
    State.LOST: "has bytes that are neither in the tool's file nor at the endpoint: sessiond queue",
}
"""Why a session is not safe, by its state."""


class VerifiedTool(msgspec.Struct, frozen=True, kw_only=True):
    """The result for one tool."""

    tool: str
    sessions: int
    safe: int
    """Sessions that the endpoint has completely: it was asked now."""
    not_kept: int
    """Sessions that the endpoint let go, because it keeps sessions for some days only."""
    given_up: int
    """Sessions of which the user dropped bytes that the endpoint lacks (`sessiond queue drop`)."""
    files: int
    """Files of the tool that were compared with what was captured."""
    not_captured: int
    """Files that are new, have changed, or can't be read."""
    by_digest: int
    """Streams of which the endpoint states the digest of what was pushed."""
    by_length: int
    """Streams of which only the lengths were compared, because no digest is known on one of the two sides."""
    compared: int
    """Streams whose bytes were read from the endpoint and compared (`--deep`)."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not safe."""

    tool: str
    session: str | None
    path: str | None
    what: str


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """The result, as `--json` prints it. `complete`: whether everything is safe."""

    complete: bool
    records: bool
    """Whether the records were compared too; a token that only pushes can't read them."""
    tools: list[VerifiedTool]
    problems: list[Problem]
    repaired: int
    """Problems that were found first and are solved now (`--repair`)."""


def archive_problem(archive: ArchiveCounts) -> str | None:
    """Return what is not safe of the built-in archive beside the configured endpoint; None if the endpoint has it."""
    if archive.problem is not None:
        return f"the built-in archive can't be read: {archive.problem}"
    if not archive.listed:
        return "the built-in archive was not compared with the endpoint yet"
    if not archive.pending:
        return None
    sessions = count(archive.pending, "session")
    reason = "" if archive.reason is None else f": {archive.reason}"
    return f"the endpoint does not have {sessions} of the built-in archive yet{reason}"
