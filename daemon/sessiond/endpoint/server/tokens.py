"""Bearer tokens: 256 random bits, shown once, kept as a hash."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
import time

import msgspec

from sessiond.endpoint.server.store import Store
from sessiond.errors import NotFound, SessiondError

PREFIX = "sd_"
"""Lets a secret scanner know our tokens."""


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A token that is accepted; the secret itself is not kept. `made_ms` is in unix milliseconds."""

    name: str
    made_ms: int


def make() -> str:
    """Make a secret of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def add(store: Store, name: str, secret: str | None = None) -> str:
    """Accept a new token under `name`, and return its secret: the only time that it is seen.

    Raises:
        SessiondError: a token of that name exists, or the name is empty.
    """
    if not name.strip() or not name.isprintable():
        raise SessiondError("a token needs a printable name", hint="name it after the machine that will use it")
    secret = secret or make()
    with store.write() as db:
        if db.execute("SELECT 1 FROM tokens WHERE name = ?", (name,)).fetchone():
            raise SessiondError(
                f"a token named {name} exists", hint=f"revoke it first: sessiond serve token revoke {name}"
            )
        db.execute("INSERT INTO tokens VALUES (?, ?, ?)", (name, _hash(secret), int(time.time() * 1000)))
    return secret


def every(store: Store) -> list[Token]:
    """List the tokens by name."""
    with store.read() as db:
        return [
            Token(name=row[0], made_ms=row[1]) for row in db.execute("SELECT name, made_ms FROM tokens ORDER BY name")
        ]


def revoke(store: Store, name: str) -> None:
    """Stop accepting a token; a running endpoint refuses it from the next request on.

    Raises:
        NotFound: no token goes by that name.
    """
    with store.write() as db:
        if not db.execute("DELETE FROM tokens WHERE name = ?", (name,)).rowcount:
            raise NotFound(f"no token is named {name}", hint="see sessiond serve token list")


def accepts(db: sqlite3.Connection, secret: str, others: tuple[bytes, ...] = ()) -> bool:
    """Tell whether a secret is one of the tokens (or of `others`, hashes of secrets that are not in the store).

    Every hash is compared, in constant time: how long it takes says nothing about how near a guess was.
    """
    given = _hash(secret)
    known = [*others, *(row[0] for row in db.execute("SELECT sha256 FROM tokens"))]
    return sum(hmac.compare_digest(given, each) for each in known) > 0


def hashed(secret: str) -> bytes:
    """Hash a secret for `accepts`."""
    return _hash(secret)


def _hash(secret: str) -> bytes:
    # A slow hash is for passwords: 256 random bits can't be searched, however fast the hash is.
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
