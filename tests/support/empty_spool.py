"""A spool without sessions, made once: creating its tables takes longer than many tests."""

from __future__ import annotations

import os
import tempfile
from functools import cache

from sessiond.spool import NAME, Spool


@cache
def _content() -> bytes:
    """Return the file of a spool that was opened and closed. All new spools have the same content."""
    with tempfile.TemporaryDirectory() as state:
        Spool(state).close()
        with open(os.path.join(state, NAME), "rb") as file:
            return file.read()


def put_spool(state: str) -> None:
    """Make the spool of a state directory that has none, with the rights that the daemon gives it."""
    try:
        descriptor = os.open(os.path.join(state, NAME), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with open(descriptor, "wb") as file:
        file.write(_content())
