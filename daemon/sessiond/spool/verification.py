"""What the spool believes to be at the endpoint, to be compared with what is there; and the last result.

This module imports neither msgspec nor uuid, because `status` shows the last result.
"""

from __future__ import annotations

from sessiond.frozen_record import FrozenRecord, parse_object, to_json
from sessiond.spool.safety import CLAIMED, UNSAFE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterator
    from typing import Any

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
    streams: int = 0
    """Their streams that were compared."""
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
    bare: bool = False
    """Whether the session has no record yet: its streams are at the endpoint, which lists it nowhere."""

    @property
    def position(self) -> tuple[int, int]:
        """The generation, and how many bytes of it the endpoint has acknowledged."""
        return self.generation, self.acked


_COLUMNS = "session.uuid, tool, session.id, pushed, stream.id, name, generation, acked, record IS NULL"
_SETTLED = "(record IS NULL OR revision <= pushed) AND session.parked IS NULL AND expired_ms IS NULL"


def _claim(row: tuple[Any, ...]) -> Claim:
    session, tool, number, pushed, stream, name, generation, acked, bare = row
    return Claim(
        session=session,
        tool=tool,
        number=number,
        revision=pushed,
        stream=stream,
        name=name or "",
        generation=generation or 0,
        acked=acked or 0,
        bare=bool(bare),
    )


class Claims:
    """Reads what is called safe, and takes it back. Writing methods run inside `Spool.transaction`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def claims(self, tool: str | None = None, sessions: Collection[str] | None = None) -> Iterator[Claim]:
        """Iterate over the records and streams that are at the endpoint according to the spool, session by session."""
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM session LEFT JOIN stream ON stream.session = session.id AND {CLAIMED}"
            f" WHERE {_SETTLED} AND (? IS NULL OR tool = ?) ORDER BY session.id",
            (tool, tool),
        )
        previous = None
        for row in rows:
            claim = _claim(row)
            if sessions is not None and claim.session not in sessions:
                continue
            if claim.session != previous and not claim.bare:
                yield claim.replace(stream=None, name="", generation=0, acked=0)
            previous = claim.session
            if claim.stream is not None:
                yield claim

    def next_stream(self, after: int) -> Claim | None:
        """Return the first stream that is at the endpoint according to the spool and whose row comes after `after`."""
        row = self._db.execute(
            f"SELECT {_COLUMNS} FROM stream CROSS JOIN session ON session.id = stream.session"
            f" WHERE stream.id > ? AND {CLAIMED} AND {_SETTLED} ORDER BY stream.id LIMIT 1",
            (after,),
        ).fetchone()
        return None if row is None else _claim(row)

    def unsettled_bare(self) -> list[tuple[str, str]]:
        """Return (id, tool) of the sessions without a record of which the endpoint does not have all bytes."""
        rows = self._db.execute(
            "SELECT DISTINCT uuid, tool FROM session CROSS JOIN stream ON stream.session = session.id"
            f" WHERE record IS NULL AND {UNSAFE}"
        )
        return [(row[0], row[1]) for row in rows]

    def stands(self, claim: Claim) -> bool:
        """Return whether the spool still claims the same of a stream: nothing more was captured or pushed of it."""
        row = self._db.execute(
            "SELECT generation, acked FROM stream WHERE id = ?"
            f" AND session = (SELECT id FROM session WHERE uuid = ?) AND {CLAIMED}",
            (claim.stream, claim.session),
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
