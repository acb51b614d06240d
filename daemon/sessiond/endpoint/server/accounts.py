"""The quotas of users, and the tenants: groups of users with a common quota (`sessiond serve user`, `serve tenant`).

A tenant limits only how much its users store together. They can't read each other's sessions.
"""

from __future__ import annotations

import msgspec

from sessiond.endpoint.server import audit
from sessiond.endpoint.server.database import Database
from sessiond.endpoint.server.store import Store
from sessiond.endpoint.server.users import check_user
from sessiond.errors import NotFound, SessiondError


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A user, the bytes that it holds (see `usage`), and their limit; None: no limit."""

    user: str
    tenant: str | None
    held: int
    quota: int | None
    keep_days: int | None
    """For how many days its sessions are kept; None: as for its tenant."""


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant, the bytes that its users hold together, and their limit; None: no limit."""

    tenant: str
    users: int
    held: int
    quota: int | None
    keep_days: int | None
    """For how many days the sessions of its users are kept; None: forever."""


def list_users(store: Store) -> list[User]:
    """Return all users that have a token, an invitation, a quota or data, by name."""
    with store.read() as db:
        rows = db.execute(
            "SELECT known.user, tenant, coalesce(held, 0), quota, keep_days FROM"
            " (SELECT user FROM users UNION SELECT user FROM tokens UNION SELECT user FROM invites) AS known"
            " LEFT JOIN users ON users.user = known.user ORDER BY known.user"
        )
        return [User(user=row[0], tenant=row[1], held=row[2], quota=row[3], keep_days=row[4]) for row in rows]


def list_tenants(store: Store) -> list[Tenant]:
    """Return all tenants by name."""
    with store.read() as db:
        rows = db.execute(
            "SELECT tenant, (SELECT count(*) FROM users WHERE users.tenant = tenants.tenant), held, quota, keep_days"
            " FROM tenants ORDER BY tenant"
        )
        return [Tenant(tenant=row[0], users=row[1], held=row[2], quota=row[3], keep_days=row[4]) for row in rows]


def set_user(
    store: Store,
    user: str,
    *,
    quota: int | msgspec.UnsetType | None = msgspec.UNSET,
    tenant: str | msgspec.UnsetType | None = msgspec.UNSET,
    keep_days: int | msgspec.UnsetType | None = msgspec.UNSET,
) -> None:
    """Change the quota, the tenant or the days that sessions are kept of a user; None removes it.

    What is stored stays, even if it exceeds the quota. Sessions that are too old are let go later (keeping.py).

    Raises:
        NotFound: nothing of this endpoint names the user, or there is no such tenant.
    """
    with store.write() as db:
        store.lock_user(db, user)
        if not _is_known(db, user):
            raise NotFound(
                f"no token or invitation is for user {user}",
                hint=f"add one first: sessiond serve token add NAME --user {user}",
            )
        db.execute("INSERT INTO users (user) VALUES (?) ON CONFLICT (user) DO NOTHING", (user,))
        if quota is not msgspec.UNSET:
            db.execute("UPDATE users SET quota = ? WHERE user = ?", (quota, user))
            audit.record(db, audit.operator(), "user.quota", user, audit.shown(quota))
        if tenant is not msgspec.UNSET:
            _move(db, user, tenant)
            audit.record(db, audit.operator(), "user.tenant", user, audit.shown(tenant))
        if keep_days is not msgspec.UNSET:
            db.execute("UPDATE users SET keep_days = ? WHERE user = ?", (keep_days, user))
            audit.record(db, audit.operator(), "user.keep_days", user, audit.shown(keep_days))


def _move(db: Database, user: str, tenant: str | None) -> None:
    """Move a user to a tenant, and its bytes from the sum of the old tenant to that of the new one."""
    held, old = db.execute("SELECT held, tenant FROM users WHERE user = ?", (user,)).fetchone()
    # Both stay locked, in one order: in PostgreSQL, another process may remove a tenant or move a user now.
    known = db.execute(
        f"SELECT tenant FROM tenants WHERE tenant IN (?, ?) ORDER BY tenant{db.for_update}", (old or "", tenant or "")
    ).fetchall()
    if tenant is not None and (tenant,) not in [tuple(row) for row in known]:
        raise NotFound(f"there is no tenant {tenant}", hint=f"add it: sessiond serve tenant set {tenant}")
    db.execute("UPDATE users SET tenant = ? WHERE user = ?", (tenant, user))
    for name, size in ((old, -held), (tenant, held)):
        db.execute("UPDATE tenants SET held = held + ? WHERE tenant = ?", (size, name))


def set_tenant(
    store: Store,
    tenant: str,
    *,
    quota: int | msgspec.UnsetType | None = msgspec.UNSET,
    keep_days: int | msgspec.UnsetType | None = msgspec.UNSET,
) -> None:
    """Add a tenant, or change its quota or the days that its users' sessions are kept; None removes either.

    Raises:
        SessiondError: the name is not valid.
    """
    check_user(tenant)
    with store.write() as db:
        db.execute("INSERT INTO tenants (tenant) VALUES (?) ON CONFLICT (tenant) DO NOTHING", (tenant,))
        if quota is not msgspec.UNSET:
            db.execute("UPDATE tenants SET quota = ? WHERE tenant = ?", (quota, tenant))
        shown = "" if quota is msgspec.UNSET else audit.shown(quota)
        audit.record(db, audit.operator(), "tenant.set", tenant, shown)
        if keep_days is not msgspec.UNSET:
            db.execute("UPDATE tenants SET keep_days = ? WHERE tenant = ?", (keep_days, tenant))
            audit.record(db, audit.operator(), "tenant.keep_days", tenant, audit.shown(keep_days))


def remove_tenant(store: Store, tenant: str) -> None:
    """Remove a tenant that has no users.

    Raises:
        NotFound: there is no such tenant.
        SessiondError: it has users.
    """
    with store.write() as db:
        row = db.execute(f"SELECT tenant FROM tenants WHERE tenant = ?{db.for_update}", (tenant,)).fetchone()
        if row is None:
            raise NotFound(f"there is no tenant {tenant}", hint="see `sessiond serve tenant list`")
        if db.execute("SELECT 1 FROM users WHERE tenant = ? LIMIT 1", (tenant,)).fetchone():
            raise SessiondError(
                f"tenant {tenant} has users", hint="move each: sessiond serve user set USER --tenant none"
            )
        db.execute("DELETE FROM tenants WHERE tenant = ?", (tenant,))
        audit.record(db, audit.operator(), "tenant.remove", tenant)


def _is_known(db: Database, user: str) -> bool:
    row = db.execute(
        "SELECT EXISTS (SELECT 1 FROM users WHERE user = :u) OR EXISTS (SELECT 1 FROM tokens WHERE user = :u)"
        " OR EXISTS (SELECT 1 FROM invites WHERE user = :u)",
        {"u": user},
    ).fetchone()
    return bool(row[0])
