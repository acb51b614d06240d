"""Loads the state that a batch of pushes names, with a few statements for the whole batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

from sessiond import clock
from sessiond.endpoint.server import expired, records, streams, usage
from sessiond.endpoint.server.checkpoints import Recall
from sessiond.endpoint.server.database import Database, placeholders
from sessiond.endpoint.server.digests import Digests
from sessiond.endpoint.server.reading import same_in_rows
from sessiond.endpoint.server.state import MachineState, Quota, State, TokenState, Touched
from sessiond.endpoint.server.stream_state import GenerationState, SessionKey, StreamName, StreamState
from sessiond.endpoint.stream_digest import StreamDigest

KEYS = 1000
"""Keys of one statement."""


class StoredLookup:
    """Reads from the store what few pushes need. `db` is in the batch's transaction."""

    def __init__(self, db: Database, known: Digests[StreamDigest]) -> None:
        self._db = db
        self.digest = Recall(db, known).digest

    def owner(self, stream: int, generation: int, keep: int) -> int:
        """Return the generation that has the last of the first `keep` bytes of a generation as its own."""
        return streams.owner(self._db, stream, generation, keep)

    def same(self, stream: int, generation: int, start: int, data: bytes) -> bool:
        """Return whether a generation has these bytes from `start` on; it has that many. Raises: NotComparable."""
        return same_in_rows(self._db, stream, generation, start, data)

    def count_streams(self, session: SessionKey, limit: int) -> int:
        """Return the number of streams of a session, up to `limit`."""
        return streams.count(self._db, *session, limit)

    def count_generations(self, stream: int, limit: int) -> int:
        """Return the number of generations of a stream, up to `limit`."""
        return streams.count_generations(self._db, stream, limit)

    def is_whole(self, session: SessionKey) -> bool:
        """Return whether the record of a whole session is stored, and not of its prompts only."""
        return records.is_whole(self._db, *session)


def load(db: Database, touched: Touched, quota: Quota, known: Digests[StreamDigest]) -> State:
    """Return the stored state of everything that is named. `known`: the digests in memory."""
    state = State(lookup=StoredLookup(db, known), quota=quota)
    state.quotas = usage.load(db, {user for user, _ in touched.devices})
    for digest, device, released in _in(
        db, "SELECT sha256, device, released FROM tokens WHERE sha256 IN", touched.tokens
    ):
        state.tokens[bytes(digest)] = TokenState(None if device is None else UUID(device), released)
    for user, device, batch in _joined(
        db, ("u", "d"), "SELECT u, d, batch", "devices WHERE user = u AND device = d", touched.devices
    ):
        state.batches[user, device] = batch
    for user, machine, device, opened in _joined(
        db, ("u", "m"), "SELECT u, m, device, open", "machines WHERE user = u AND machine = m", touched.machines
    ):
        state.machines[user, machine] = MachineState(device, bool(opened))
    key = "user = u AND machine = m AND session = s"
    for user, machine, session, revision, size in _joined(
        db, ("u", "m", "s"), "SELECT u, m, s, revision, length(envelope)", f"sessions WHERE {key}", touched.sessions
    ):
        state.revisions[user, machine, session], state.envelopes[user, machine, session] = revision, size
    for row in _joined(
        db,
        ("u", "m", "s"),
        "SELECT u, machine, s",
        "forgotten WHERE user = u AND session = s AND machine IN (m, '')",
        touched.sessions,
    ):
        state.forgotten.add(tuple(row))
    if bare := touched.sessions - state.revisions.keys():
        _load_expired(db, state, bare)
    _load_streams(db, state, touched)
    return state


def _load_expired(db: Database, state: State, bare: set[SessionKey]) -> None:
    """Load which sessions were let go. `bare` are those without a record, since no other one was."""
    state.oldest_ms = expired.oldest_ms(db, {user for user, _, _ in bare}, clock.now_ms())
    state.expired.update(
        tuple(row)
        for row in _joined(
            db, ("u", "m", "s"), "SELECT u, m, s", "expired WHERE user = u AND session = s AND machine = m", bare
        )
    )


def _load_streams(db: Database, state: State, touched: Touched) -> None:
    columns = "generation, previous, keep, base, length, sha256"
    for user, machine, session, name, number, *row in _joined(
        db,
        ("u", "m", "s", "n"),
        f"SELECT u, m, s, n, streams.stream, {columns}",
        "streams CROSS JOIN generations WHERE user = u AND machine = m AND session = s AND name = n"
        " AND generations.stream = streams.stream AND generation ="
        " (SELECT max(generation) FROM generations AS later WHERE later.stream = streams.stream)",
        touched.streams,
    ):
        stream = StreamState((user, machine, session, name), number)
        stream.current = _generation(row)
        stream.generations[stream.current.generation] = stream.current
        state.streams[stream.name] = stream
    for name_of, generation in _others(state, touched):
        stream = state.streams[name_of]
        found = db.execute(
            f"SELECT {columns} FROM generations WHERE stream = ? AND generation = ?",
            (stream.number, generation),
        ).fetchone()
        stream.generations[generation] = None if found is None else _generation(found)


def _others(state: State, touched: Touched) -> Iterator[tuple[StreamName, int]]:
    """Iterate over the named generations that are not the current ones, but may be stored."""
    for name, generation in touched.generations:
        stream = state.streams.get(name)
        if stream is not None and stream.current is not None and generation < stream.current.generation:
            yield name, generation


def _generation(row: list[Any]) -> GenerationState:
    generation, previous, keep, base, length, sha256 = row
    return GenerationState(generation, previous, keep, base, length, sha256, stored=length, tails=[], passed=[])


def _in(db: Database, select: str, values: Iterable[bytes]) -> Iterator[tuple[bytes, str | None, str]]:
    rest = list(values)
    for at in range(0, len(rest), KEYS):
        part = rest[at : at + KEYS]
        # A few different lengths, so that the prepared statements are used again.
        part += part[-1:] * ((1 << (len(part) - 1).bit_length()) - len(part))
        yield from db.execute(f"{select} ({placeholders(len(part))})", part)


def _joined(
    db: Database, names: tuple[str, ...], select: str, table: str, keys: Iterable[tuple[str, ...]]
) -> Iterator[Any]:
    """Iterate over the rows of a table that match the keys. CROSS JOIN: SQLite then begins with the keys."""
    rest = list(keys)
    sql = f"{select} FROM {db.join_keys(names)} CROSS JOIN {table}"
    for at in range(0, len(rest), KEYS):
        yield from db.execute(sql, db.key_parameters(rest[at : at + KEYS]))
