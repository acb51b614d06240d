"""The sequence of changes of each user, which other machines follow (`/v1/changes`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from sessiond.endpoint.erasure import ExpiredSession, ForgottenAnswer, ForgottenSession
from sessiond.endpoint.server import machines, streams, usage
from sessiond.endpoint.server.database import Database, placeholders
from sessiond.endpoint.server.expired import list_expired
from sessiond.endpoint.server.pages import AfterChange, UnknownPageToken, decode_token, encode_token
from sessiond.endpoint.server.raw_sessions import RawChanges, raw_sessions
from sessiond.endpoint.server.records import Held, Row, View, page
from sessiond.endpoint.server.stream_state import SessionKey
from sessiond.endpoint.server.tokens import READ, Access


def advance(db: Database, changed: Iterable[SessionKey], held: Mapping[str, int]) -> dict[SessionKey, int]:
    """Advance the users' sequences, and return the new positions of the changed sessions.

    `held`: bytes that users have more, or fewer, which are added to the sums of these users and their tenants.

    In PostgreSQL, the rows of these users stay locked until the transaction ends. So a position becomes visible only
    after all lower ones, and a client that follows the sequence misses none.
    """
    users: dict[str, list[SessionKey]] = {user: [] for user, size in held.items() if size}
    for key in changed:
        users.setdefault(key[0], []).append(key)
    positions: dict[SessionKey, int] = {}
    tenants: dict[str, int] = {}
    for user in sorted(users):  # in one order, so that two transactions can't wait for each other
        size = held.get(user, 0)
        last, tenant = _advance_user(db, user, len(users[user]), size)
        if tenant is not None:
            tenants[tenant] = tenants.get(tenant, 0) + size
        positions.update(zip(users[user], range(last - len(users[user]) + 1, last + 1), strict=True))
    usage.add_to_tenants(db, tenants)
    return positions


def take_positions(db: Database, user: str, count: int, held: int) -> int:
    """Advance a user's sequence by `count`, and return its last position. `held`: see `advance`."""
    last, tenant = _advance_user(db, user, count, held)
    if tenant is not None:
        usage.add_to_tenants(db, {tenant: held})
    return last


def _advance_user(db: Database, user: str, count: int, held: int) -> tuple[int, str | None]:
    """Change the row of a user; return the last position of the sequence, and the user's tenant."""
    rows = db.execute(
        "INSERT INTO users (user, change, held) VALUES (?, ?, ?) ON CONFLICT (user) DO UPDATE"
        " SET change = users.change + excluded.change, held = users.held + excluded.held RETURNING change, tenant",
        (user, count, held),
    )
    change, tenant = rows.fetchall()[0]
    return int(change), tenant


def move(db: Database, positions: Mapping[SessionKey, int]) -> None:
    """Move sessions to positions in their users' sequences. Those without a record are in none."""
    db.executemany(
        "UPDATE sessions SET change = ? WHERE user = ? AND machine = ? AND session = ?",
        [(position, *key) for key, position in positions.items()],
    )


def latest_change(db: Database, user: str) -> int:
    """Return the last position in the user's sequence of changes."""
    row = db.execute("SELECT change FROM users WHERE user = ?", (user,)).fetchone()
    return 0 if row is None else int(row[0])


def list_changes(db: Database, view: View, endpoint: UUID, since: str | None, limit: int) -> RawChanges:
    """Return a page of the sessions that changed or were erased after `since`, in the order of their last change.

    Raises:
        UnknownPageToken: `since` is from another endpoint, or newer than this store, which was restored from a backup.
    """
    latest = latest_change(db, view.user)
    position = _position(endpoint, since, latest)
    forgotten, expired, end = _removed(db, view.user, position, limit, latest)
    found = db.execute(
        "SELECT machine, session, revision, envelope, change FROM sessions WHERE user = ? AND change > ?"
        " AND change <= ? ORDER BY change LIMIT ?",
        (view.user, position, end, limit + 1),
    )

    def held(rows: Sequence[Row]) -> Held:
        found = streams.current_in(db, view.user, rows[0][4], rows[-1][4])
        return [found.get(row[4], []) for row in rows]

    sessions, last = page(found, limit, held, raw_sessions(view))
    seen = end if last is None else int(last[4])
    return RawChanges(
        sessions=sessions,
        next=encode_token(AfterChange(endpoint, seen)),
        more=last is not None or end < latest,
        forgotten=[each for change, each in forgotten if change <= seen],
        expired=[each for change, each in expired if change <= seen],
    )


def list_forgotten(
    db: Database, access: Access, device: UUID | None, endpoint: UUID, since: str | None, limit: int
) -> ForgottenAnswer:
    """Return a page of the sessions that were erased, or let go, after `since`.

    A token that only pushes sees those of its device.

    Raises:
        UnknownPageToken: as `list_changes`.
    """
    latest = latest_change(db, access.user)
    position = _position(endpoint, since, latest)
    owned = None if READ in access.scopes else machines.owned(db, access.user, str(device))
    forgotten, expired, end = _removed(db, access.user, position, limit, latest, owned)
    return ForgottenAnswer(
        forgotten=[each for change, each in forgotten if change <= end],
        expired=[each for change, each in expired if change <= end],
        next=encode_token(AfterChange(endpoint, end)),
        more=end < latest,
    )


def _removed(
    db: Database, user: str, after: int, limit: int, latest: int, owned: list[str] | None = None
) -> tuple[list[tuple[int, ForgottenSession]], list[tuple[int, ExpiredSession]], int]:
    """Return the sessions that were erased and those that were let go, and the position at which a page of them ends.

    Each has its position. Those behind the end are for the next page.
    """
    forgotten = [(row[0], _session(row)) for row in _forgotten(db, user, after, limit + 1, owned)]
    expired = list_expired(db, user, after, limit + 1, owned)
    positions = sorted(change for change, _ in [*forgotten, *expired])
    return forgotten, expired, latest if len(positions) <= limit else int(positions[limit - 1])


def _position(endpoint: UUID, since: str | None, latest: int) -> int:
    """Return the position that a page token stands for. Raises: UnknownPageToken."""
    position = AfterChange(endpoint, 0) if since is None else decode_token(since, AfterChange)
    if position.endpoint != endpoint or not 0 <= position.change <= latest:
        raise UnknownPageToken("this endpoint did not issue that position", hint="start again without it")
    return position.change


def _forgotten(
    db: Database, user: str, after: int, limit: int, owned: list[str] | None = None
) -> list[tuple[int, str, str]]:
    """Return (change, session, machine) of tombstones; '' is all machines. `owned`: only of these machines."""
    chosen = "machine = '' OR everywhere = 0" if owned is None else f"machine IN ({placeholders(len(owned))})"
    return db.execute(
        f"SELECT change, session, machine FROM forgotten WHERE user = ? AND change > ? AND ({chosen})"
        " ORDER BY change LIMIT ?",
        (user, after, *(owned or ()), limit),
    ).fetchall()


def _session(row: tuple[int, str, str]) -> ForgottenSession:
    return ForgottenSession(id=UUID(row[1]), machine_id=row[2] or None)
