"""The bytes that each user and each tenant holds: a running sum, changed in the transaction that changes the data.

It counts what a user can compare with the files of the tools: transcripts before compression, and records. So it does
not depend on how well a store compresses, or when. Each row also counts a little, so that rows without bytes can't fill
the disk: see `recount`.

Several processes may serve one PostgreSQL. Each transaction compares the quota with the committed sum, so transactions
at the same moment can exceed the quota by the bytes that they store. The sum itself is exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sessiond.endpoint.server.database import Database
from sessiond.endpoint.server.state import Quota

ROW_SIZE = 1024
"""Bytes that a machine, a device, a stream, a tombstone or an expired session counts. Names have up to 800 bytes."""
GENERATION_SIZE = 128
"""Bytes that a generation counts, in addition to the bytes that it does not share with an older one."""
RESERVE = 16
"""One part of this many of a quota is reserved for records, so that new sessions are still listed."""


def load(db: Database, users: Iterable[str]) -> dict[str, list[Quota]]:
    """Return the quotas of users and of their tenants. Users of the same tenant share its Quota."""
    found: dict[str, list[Quota]] = {}
    tenants: dict[str, Quota] = {}
    for user, quota, held, tenant, tenant_quota, tenant_held in db.execute(
        f"SELECT u, users.quota, users.held, tenant, tenants.quota, tenants.held FROM {db.join_keys(('u',))}"
        " CROSS JOIN users LEFT JOIN tenants USING (tenant) WHERE user = u"
        " AND (users.quota IS NOT NULL OR tenants.quota IS NOT NULL)",
        db.key_parameters([(user,) for user in users]),
    ):
        limits = found[user] = []
        if quota is not None:
            limits.append(_quota(quota, held, f"the quota of user {user}"))
        if tenant_quota is not None:
            limits.append(
                tenants.setdefault(tenant, _quota(tenant_quota, tenant_held, "the quota of the user's tenant"))
            )
    return found


def add_to_tenants(db: Database, held: Mapping[str, int]) -> None:
    """Add what the users of tenants have more, or fewer, to the sums of these tenants.

    In PostgreSQL, the rows of the tenants stay locked until the transaction ends, so this is its last statement.
    """
    for tenant, size in sorted(held.items()):
        if size:
            db.execute("UPDATE tenants SET held = held + ? WHERE tenant = ?", (size, tenant))


def held_by_session(db: Database, user: str, machine: str, session: str) -> int:
    """Return the bytes that the record and the streams of a session of one machine count."""
    key = "user = ? AND machine = ? AND session = ?"
    statements = (
        f"SELECT coalesce(sum(length(envelope)), 0) FROM sessions WHERE {key}",
        f"SELECT count(*) * {ROW_SIZE} FROM streams WHERE {key}",
        f"SELECT coalesce(sum(generations.length - keep + {GENERATION_SIZE}), 0) FROM streams"
        f" JOIN generations USING (stream) WHERE {key}",
    )
    return sum(int(db.execute(each, (user, machine, session)).fetchone()[0]) for each in statements)


def recount(db: Database, user: str) -> int:
    """Return the bytes that a user holds, counted from all rows. The running sum always equals it."""
    statements = (
        "SELECT coalesce(sum(length(envelope)), 0) FROM sessions WHERE user = ?",
        f"SELECT coalesce(sum(generations.length - keep + {GENERATION_SIZE}), 0) FROM streams"
        " JOIN generations USING (stream) WHERE user = ?",
        *(
            f"SELECT count(*) * {ROW_SIZE} FROM {table} WHERE user = ?"
            for table in ("machines", "devices", "streams", "forgotten", "expired")
        ),
    )
    return sum(int(db.execute(statement, (user,)).fetchone()[0]) for statement in statements)


def _quota(limit: int, held: int, name: str) -> Quota:
    return Quota(limit - held, limit // RESERVE, name)
