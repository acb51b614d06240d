"""Bearer tokens: 256 random bits, shown once and stored as a hash.

A token belongs to a user and gives no access to other users' data. It is bound to the first device that pushes with
it, until `rebind` releases it. Then another device may push with it, but no device from which it was released.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Mapping
from uuid import UUID

import msgspec

from sessiond import clock
from sessiond.endpoint.server import audit
from sessiond.endpoint.server.database import Database
from sessiond.endpoint.server.store import Store
from sessiond.endpoint.server.users import DEFAULT_USER, check_user
from sessiond.errors import NotFound, SessiondError

PREFIX = "sd_"
"""Lets secret scanners recognize our tokens."""
PUSH, READ, ADMIN = SCOPES = ("push", "read", "admin")
"""`push`: push as the token's device. `read`: read what the user's machines pushed. `admin`: read or erase any
user's."""
DEFAULT_SCOPES = (PUSH, READ)


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """An accepted token without its secret, which is not stored. Times are unix milliseconds."""

    name: str
    user: str
    scopes: list[str]
    device: str | None
    """The device that it is bound to; None until the first push."""
    made_ms: int
    used_ms: int | None
    """The last use, up to a minute too early; None: never used."""
    expires_ms: int | None
    """None: never."""


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """The access that a token gives."""

    user: str
    scopes: frozenset[str]
    name: str | None = None
    """The token's name, or that of a user of single sign-on. None: the token of `--token-file`, which is never bound to
    a device."""
    digest: bytes = b""
    """The hash of its secret; empty for what is not in the store."""
    device: UUID | None = None
    released: str = ""
    """The devices that it was released from, separated by commas."""
    expires_ms: int | None = None
    """None: never."""

    @property
    def is_expired(self) -> bool:
        """Whether the token has expired by now."""
        return self.expires_ms is not None and self.expires_ms <= clock.now_ms()

    def check_device(self, device: UUID) -> None:
        """Raise WrongDevice unless a device may push with the token."""
        if self.name is None:
            return
        if str(device) in self.released.split(","):
            raise WrongDevice(
                f"the token {self.name} was released from this device: on the endpoint, add a token for it: sessiond"
                " serve token add"
            )
        if self.device not in (None, device):
            raise WrongDevice(
                f"the token {self.name} belongs to another device: on the endpoint, add a token for this device, or"
                f" release this token: sessiond serve token rebind {self.name}"
            )

    def owns(self, device: UUID | None) -> bool:
        """Return whether a device is the token's own. Only then may an answer say anything about the device."""
        return device is not None and (self.name is None or device == self.device)


class Expired(SessiondError):
    """The token has expired."""


class WrongDevice(SessiondError):
    """The token belongs to another device than the one that pushes with it, or was released from that one."""


class Revoked(SessiondError):
    """The token was revoked after the request had begun."""


def generate() -> str:
    """Return a new secret of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def add(
    store: Store,
    name: str,
    secret: str | None = None,
    *,
    user: str = DEFAULT_USER,
    scopes: Collection[str] = DEFAULT_SCOPES,
    lifetime: float | None = None,
) -> str:
    """Add a token and return its secret, which is not stored and can't be shown again.

    `lifetime`: seconds until it expires; None: never.

    Raises:
        SessiondError: a token of that name exists, or a name or a scope is not valid.
    """
    if not name.strip() or not name.isprintable():
        raise SessiondError("a token needs a printable name", hint="name it after the machine that will use it")
    check_owner(user, scopes)
    secret = secret or generate()
    now_ms = clock.now_ms()
    expires_ms = None if lifetime is None else now_ms + int(lifetime * 1000)
    with store.write() as db:
        if db.execute("SELECT 1 FROM tokens WHERE name = ?", (name,)).fetchone():
            raise SessiondError(
                f"a token named {name} exists", hint=f"revoke it first: sessiond serve token revoke {name}"
            )
        db.execute(
            "INSERT INTO tokens (name, sha256, made_ms, user, scopes, expires_ms) VALUES (?, ?, ?, ?, ?, ?)",
            (name, hash_secret(secret), now_ms, user, join(scopes), expires_ms),
        )
        audit.record(db, audit.operator(), "token.add", name, f"user {user}, scope {join(scopes)}")
    return secret


def check_owner(user: str, scopes: Collection[str]) -> None:
    """Raise SessiondError unless a user's name and the scopes of a token are valid."""
    check_user(user)
    if not scopes or not set(scopes) <= set(SCOPES):
        raise SessiondError(f"scopes are {', '.join(SCOPES)}", hint="such as --scope push,read")


def join(scopes: Collection[str]) -> str:
    """Return scopes as they are stored."""
    return ",".join(each for each in SCOPES if each in scopes)


def list_tokens(store: Store) -> list[Token]:
    """Return all tokens by name."""
    with store.read() as db:
        rows = db.execute("SELECT name, user, scopes, device, made_ms, used_ms, expires_ms FROM tokens ORDER BY name")
        return [
            Token(
                name=row[0],
                user=row[1],
                scopes=row[2].split(","),
                device=row[3],
                made_ms=row[4],
                used_ms=row[5],
                expires_ms=row[6],
            )
            for row in rows
        ]


def revoke(store: Store, name: str) -> None:
    """Remove a token. A running endpoint refuses it from the next request on.

    Raises:
        NotFound: no token has that name.
    """
    with store.write() as db:
        if not db.execute("DELETE FROM tokens WHERE name = ?", (name,)).rowcount:
            raise _unknown(name)
        audit.record(db, audit.operator(), "token.revoke", name)


def rebind(store: Store, name: str) -> None:
    """Release a token from its device. The next other device that pushes with it gets it.

    The device itself can't push with it again: a push that is on its way, or a daemon that still runs there, would
    take the token back. When this returns, no later push of the device is stored.

    Raises:
        NotFound: no token has that name.
    """
    with store.write() as db:
        row = db.execute(f"SELECT device, released FROM tokens WHERE name = ?{db.for_update}", (name,)).fetchone()
        if row is None:
            raise _unknown(name)
        released = [each for each in (*row[1].split(","), row[0]) if each]
        db.execute("UPDATE tokens SET device = NULL, released = ? WHERE name = ?", (",".join(released), name))
        audit.record(db, audit.operator(), "token.rebind", name, f"released from device {row[0] or 'none'}")


def find(db: Database, secret: str, others: Mapping[bytes, Access]) -> Access | None:
    """Return the access that a secret gives; None if there is no such token.

    `others`: accesses by the hash of secrets that are not in the store. The hash of 256 random bits is looked up in an
    index. The time of a lookup reveals nothing useful about a guess, and does not depend on the number of tokens.

    Raises:
        Expired: the token has expired.
    """
    digest = hash_secret(secret)
    row = db.execute(
        "SELECT name, user, scopes, device, released, expires_ms FROM tokens WHERE sha256 = ?", (digest,)
    ).fetchone()
    if row is None:
        return others.get(digest)
    name, user, scopes, device, released, expires_ms = row
    found = Access(
        user=user,
        scopes=frozenset(scopes.split(",")),
        name=name,
        digest=digest,
        device=None if device is None else UUID(device),
        released=released,
        expires_ms=expires_ms,
    )
    if found.is_expired:
        raise Expired("the token has expired", hint="add another one: sessiond serve token add")
    return found


def bind(db: Database, access: Access, device: UUID) -> None:
    """Bind a token to the device that pushes with it, in the transaction of that push.

    The token is looked up again: since the request began it may have been revoked, released, or bound by another push.

    Raises:
        WrongDevice: the token belongs to another device, or was released from this one.
        Revoked: the token was revoked.
    """
    if access.name is None:
        return
    row = db.execute(
        f"SELECT device, released FROM tokens WHERE sha256 = ?{db.for_update}", (access.digest,)
    ).fetchone()
    if row is None:
        raise Revoked("the token is not accepted")
    bound = None if row[0] is None else UUID(row[0])
    msgspec.structs.replace(access, device=bound, released=row[1]).check_device(device)
    if bound is None:
        db.execute("UPDATE tokens SET device = ? WHERE sha256 = ?", (str(device), access.digest))


def confirm(db: Database, access: Access) -> None:
    """Raise Revoked if a token was revoked after the request began."""
    known = db.execute("SELECT 1 FROM tokens WHERE sha256 = ?", (access.digest,)).fetchone()
    if access.name is not None and known is None:
        raise Revoked("the token is not accepted")


def hash_secret(secret: str) -> bytes:
    """Return the hash by which a secret is stored and found."""
    # A slow hash protects passwords, which can be guessed. 256 random bits can't be, even with a fast hash.
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def _unknown(name: str) -> NotFound:
    return NotFound(f"no token is named {name}", hint="see `sessiond serve token list`")
