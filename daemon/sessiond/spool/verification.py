"""What the spool believes to be at the endpoint, to be compared with what is there; and the last result.

This module imports neither msgspec nor uuid, because `status` shows the last result.
"""

from __future__ import annotations

from sessiond.frozen_record import FrozenRecord, parse_object, to_json
from sessiond.spool.safety import CLAIMED

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterator

    from sessiond.spool import Spool

RESULT = "verification"
"""Meta key: the last result, as JSON."""
BEGUN = "verification.begun"
"""Meta key: the endpoint that was never compared yet, and since when it is configured."""
UNREADABLE = "verification.unreadable"
"""Meta key: why the token can't read the copies that are to be compared; removed when one was read."""
EACH_MS = 86_400_000
"""Milliseconds between two checks."""


class Verification(FrozenRecord):
    """The result of a comparison with the endpoint."""

    at_ms: int = 0
    url: str = ""
    """The address of the endpoint; "" for the built-in archive."""
    sessions: int = 0
    """Sessions that were compared: those that the spool calls safe."""
    incomplete: int = 0
    """Sessions of which the endpoint lacked something. It is pushed again."""
    read_bytes: int = 0
    """Bytes that were then read from the endpoint and compared with the digests of what was queued."""
    different: int = 0
    """Streams of which the endpoint had other bytes."""


class Claim(FrozenRecord):
    """A stream that is safe according to the spool; or the record of a session, if `stream` is None."""

    session: str
    tool: str
    number: int
    """The row of the session."""
    revision: int
    """The revision of the record that the endpoint acknowledged."""
    stream: int | None = None
    name: str = ""
    generation: int = 0
    acked: int = 0

    @property
    def position(self) -> tuple[int, int]:
        """The generation, and how many bytes of it the endpoint has acknowledged."""
        return self.generation, self.acked


class Claims:
    """Reads what is called safe, and takes it back. Writing methods run inside `Spool.transaction`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def claims(self, tool: str | None = None, sessions: Collection[str] | None = None) -> Iterator[Claim]:
        """Iterate over the records and streams that are at the endpoint according to the spool, session by session."""
        rows = self._db.execute(
            "SELECT session.uuid, tool, session.id, pushed, stream.id, name, generation, acked FROM session"
            f" LEFT JOIN stream ON stream.session = session.id AND {CLAIMED}"
            " WHERE record IS NOT NULL AND revision <= pushed AND session.parked IS NULL AND expired_ms IS NULL"
            " AND (? IS NULL OR tool = ?) ORDER BY session.id",
            (tool, tool),
        )
        previous = None
        for session, owner, number, pushed, stream, name, generation, acked in rows:
            if sessions is not None and session not in sessions:
                continue
            if session != previous:
                yield Claim(session=session, tool=owner, number=number, revision=pushed)
                previous = session
            if stream is not None:
                yield Claim(
                    session=session,
                    tool=owner,
                    number=number,
                    revision=pushed,
                    stream=stream,
                    name=name,
                    generation=generation,
                    acked=acked,
                )

    def next_stream(self, after: int) -> Claim | None:
        """Return the first stream that is at the endpoint according to the spool and whose row comes after `after`."""
        row = self._db.execute(
            "SELECT session.uuid, tool, session.id, pushed, stream.id, name, generation, acked FROM stream"
            f" CROSS JOIN session ON session.id = stream.session WHERE stream.id > ? AND {CLAIMED}"
            " AND record IS NOT NULL AND revision <= pushed AND session.parked IS NULL AND expired_ms IS NULL"
            " ORDER BY stream.id LIMIT 1",
            (after,),
        ).fetchone()
        if row is None:
            return None
        names = ("session", "tool", "number", "revision", "stream", "name", "generation", "acked")
        return Claim(**dict(zip(names, row, strict=True)))

    def stands(self, claim: Claim) -> bool:
        """Return whether the spool still claims the same of a stream: nothing more was captured or pushed of it."""
        row = self._db.execute(
            f"SELECT generation, acked FROM stream WHERE id = ? AND {CLAIMED}", (claim.stream,)
        ).fetchone()
        return row is not None and tuple(row) == claim.position

    def withdraw(self, claim: Claim) -> None:
        """Push a record again, or ask the endpoint how much it has of a stream; the rest is pushed again.

        A session that was erased meanwhile has no such row any more.
        """
        if claim.stream is None:
            self._db.execute(
                "UPDATE session SET pushed = 0, dropped = NULL WHERE id = ? AND uuid = ?", (claim.number, claim.session)
            )
        else:
            self._db.execute(
                "UPDATE stream SET known = 0 WHERE id = ?"
                " AND session = ? AND EXISTS (SELECT 1 FROM session WHERE id = ? AND uuid = ?)",
                (claim.stream, claim.number, claim.number, claim.session),
            )

    def distrust(self, claim: Claim) -> bool:
        """Trust no byte of a stream; return whether it is still in the claimed generation."""
        changed = self._db.execute(
            "UPDATE stream SET unproven = 1, acked = 0 WHERE id = ? AND generation = ?"
            " AND session = (SELECT id FROM session WHERE uuid = ?)",
            (claim.stream, claim.generation, claim.session),
        )
        return changed.rowcount > 0


def count_unreadable(spool: Spool) -> int:
    """Return the number of sessions whose copies at the endpoint are to be compared, if the token can't read them."""
    if spool.meta(UNREADABLE) is None:
        return 0
    query = "SELECT count(DISTINCT session) FROM stream WHERE unconfirmed > 0"
    return int(spool.connection.execute(query).fetchone()[0])


def read_verification(value: str | None) -> Verification | None:
    """Return the last result from its stored form; None if there is none."""
    if value is None:
        return None
    try:
        return Verification.from_json(parse_object(value))
    except ValueError:
        return None


def last_check_ms(spool: Spool, address: str) -> int | None:
    """Return when the endpoint at an address was last compared, or else since when it is configured, if known."""
    last = read_verification(spool.meta(RESULT))
    if last is not None and last.url == address:
        return last.at_ms
    known, _, since = (spool.meta(BEGUN) or "").rpartition(" ")
    return int(since) if since and known == address else None


def verification_value(result: Verification) -> str:
    """Return a result as it is stored."""
    return to_json(result)
