"""Invitations: a code with which devices get tokens of their own (`sessiond serve invite`).

A code is stored as a hash, like a token. It is valid for a number of devices and until a time. A device that sends the
same code again, because the answer was lost or its configuration was deleted, gets another secret for the same token.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection

import msgspec

from sessiond import clock
from sessiond.endpoint.enrolment import EnrolAnswer, EnrolRequest
from sessiond.endpoint.server import audit, tokens
from sessiond.endpoint.server.database import Database
from sessiond.endpoint.server.problems import HttpError
from sessiond.endpoint.server.results import ItemError, check_machine
from sessiond.endpoint.server.store import Store
from sessiond.endpoint.server.users import DEFAULT_USER
from sessiond.errors import NotFound, SessiondError
from sessiond.text import count

PREFIX = "sdi_"
"""Distinguishes a code from a token."""
MAX_USES = 1_000_000
LOG_INTERVAL_MS = 60_000
"""A device that sends the same code again is written to the audit log, but not if its secret is newer than this."""


class Invite(msgspec.Struct, frozen=True, kw_only=True):
    """An invitation without its code. Times are unix milliseconds."""

    number: int
    user: str
    scopes: list[str]
    uses: int
    """Devices that may use it."""
    used: int
    made_ms: int
    expires_ms: int


def add(
    store: Store,
    *,
    user: str = DEFAULT_USER,
    scopes: Collection[str] = tokens.DEFAULT_SCOPES,
    uses: int = 1,
    lifetime: float,
) -> str:
    """Add an invitation and return its code, which is not stored and can't be shown again.

    `lifetime`: seconds until it expires. The tokens that it gives do not expire.

    Raises:
        SessiondError: the user's name or a scope is not valid.
    """
    tokens.check_owner(user, scopes)
    if not 1 <= uses <= MAX_USES:
        raise SessiondError(f"--uses must be 1 to {MAX_USES}, not {uses}")
    code, now_ms = PREFIX + secrets.token_urlsafe(24), clock.now_ms()
    digest, joined = tokens.hash_secret(code), tokens.join(scopes)
    with store.write() as db:
        (number,) = db.execute(
            "INSERT INTO invites (sha256, user, scopes, uses, used, made_ms, expires_ms) VALUES (?, ?, ?, ?, 0, ?, ?)"
            " RETURNING invite",
            (digest, user, joined, uses, now_ms, now_ms + int(lifetime * 1000)),
        ).fetchall()[0]
        shown = f"user {user}, scope {joined}, {count(uses, 'use')}"
        audit.record(db, audit.operator(), "invite.add", str(number), shown)
    return code


def list_invites(store: Store) -> list[Invite]:
    """Return all invitations, the oldest first."""
    with store.read() as db:
        rows = db.execute("SELECT invite, user, scopes, uses, used, made_ms, expires_ms FROM invites ORDER BY invite")
        return [
            Invite(
                number=row[0],
                user=row[1],
                scopes=row[2].split(","),
                uses=row[3],
                used=row[4],
                made_ms=row[5],
                expires_ms=row[6],
            )
            for row in rows
        ]


def revoke(store: Store, number: int) -> None:
    """Remove an invitation. The tokens that it gave stay valid.

    Raises:
        NotFound: there is no invitation with this number.
    """
    with store.write() as db:
        if not db.execute("DELETE FROM invites WHERE invite = ?", (number,)).rowcount:
            raise NotFound(f"no invitation has the number {number}", hint="see `sessiond serve invite list`")
        audit.record(db, audit.operator(), "invite.revoke", str(number))


def enrol(store: Store, request: EnrolRequest) -> EnrolAnswer:
    """Create a token that is bound to a device.

    Raises:
        HttpError: 403, the code is not valid; 400, the machine id is not.
    """
    try:
        machine = check_machine(request.machine_id, "machine_id")
    except ItemError as error:
        raise HttpError(400, "invalid", error.message) from error
    digest = tokens.hash_secret(request.code)
    with store.read() as db:
        _find(db, digest)  # so that a wrong code never takes the writer's turn
    secret, device = tokens.generate(), str(request.device_id)
    with store.write() as db:
        invite = _find(db, digest, db.for_update)
        row = db.execute(
            "SELECT name, made_ms FROM tokens WHERE invite = ? AND device = ?", (invite.number, device)
        ).fetchone()
        now_ms = clock.now_ms()
        if row is not None:
            name, made_ms = row
            db.execute(
                "UPDATE tokens SET sha256 = ?, made_ms = ? WHERE name = ?",
                (tokens.hash_secret(secret), now_ms, name),
            )
            # Without a limit, a device that repeats the request could fill the disk with entries.
            logged = not 0 <= now_ms - made_ms < LOG_INTERVAL_MS
        else:
            logged = True
            if invite.used >= invite.uses:
                raise _refused("it was used by as many devices as it is valid for")
            name = _name(db, machine)
            db.execute(
                "INSERT INTO tokens (name, sha256, made_ms, user, scopes, device, invite) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    name,
                    tokens.hash_secret(secret),
                    now_ms,
                    invite.user,
                    tokens.join(invite.scopes),
                    device,
                    invite.number,
                ),
            )
            db.execute("UPDATE invites SET used = used + 1 WHERE invite = ?", (invite.number,))
        if logged:
            detail = f"user {invite.user}, scope {tokens.join(invite.scopes)}, device {device}"
            audit.record(db, f"invitation {invite.number}", "enrol", name, detail)
    return EnrolAnswer(token=secret, name=name, user=invite.user)


def _find(db: Database, digest: bytes, lock: str = "") -> Invite:
    row = db.execute(
        f"SELECT invite, user, scopes, uses, used, made_ms, expires_ms FROM invites WHERE sha256 = ?{lock}", (digest,)
    ).fetchone()
    if row is None:
        raise _refused("no invitation has this code")
    number, user, scopes, uses, used, made_ms, expires_ms = row
    if expires_ms <= clock.now_ms():
        raise _refused("it has expired")
    return Invite(
        number=number,
        user=user,
        scopes=scopes.split(","),
        uses=uses,
        used=used,
        made_ms=made_ms,
        expires_ms=expires_ms,
    )


def _name(db: Database, machine: str) -> str:
    """Return a free name for a token. Its end is always random: it reveals nothing about the tokens of other users."""
    while True:
        name = f"{machine}-{secrets.token_hex(3)}"
        if not db.execute("SELECT 1 FROM tokens WHERE name = ?", (name,)).fetchone():
            return name


def _refused(why: str) -> HttpError:
    return HttpError(403, "invitation", f"the invitation is not accepted: {why}; ask for another one")
