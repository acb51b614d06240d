"""The users of an endpoint, to whom all data belongs."""

from __future__ import annotations

from sessiond.errors import SessiondError

DEFAULT_USER = "default"
"""The user of tokens that were added without `--user`, and of all data in a store of version 1."""
MAX_NAME = 100


def check_user(name: str) -> None:
    """Raise SessiondError unless the name of a user or a tenant is valid."""
    if not name.isprintable() or not name or name.split() != [name] or len(name) > MAX_NAME:
        raise SessiondError(
            "a user's name has no spaces and only printable characters", hint=f"such as ada; {MAX_NAME} at most"
        )
