"""Reads from the file of the built-in archive what a push would ask its process for.

Starting that process takes most of the time of a `sync` that has nothing to push.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

from sessiond.state import ARCHIVE

TYPE_CHECKING = False  # `status` imports this
if TYPE_CHECKING:
    from uuid import UUID

ARCHIVE_LIMIT = "archive.max_bytes"
"""Meta key: the limit of the archive that the last daemon started; 0: none."""
ARCHIVE_KEEP = "archive.keep"
"""Meta key: seconds after which sessions of the archive are old, by the last daemon whose endpoint it is; "": never."""
USER = "default"
"""The user that the archive's own token belongs to."""


def archive_position(directory: str, device_id: UUID) -> tuple[str, str | None] | None:
    """Return the id of the archive in a state directory, and the name of the last batch of a device.

    The name is None if the device has not pushed. The result is None if there is no archive that can be read.
    """
    path = os.path.join(directory, ARCHIVE, "endpoint.db")
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    try:
        with closing(sqlite3.connect(f"file:{quoted}?mode=ro", uri=True, timeout=1.0)) as store:
            identity = store.execute("SELECT value FROM facts WHERE name = 'endpoint_id'").fetchone()
            batch = store.execute(
                "SELECT batch FROM devices WHERE user = ? AND device = ?", (USER, str(device_id))
            ).fetchone()
    except sqlite3.Error:
        return None
    return None if identity is None else (str(identity[0]), None if batch is None else str(batch[0]))


def archive_bytes(directory: str) -> int:
    """Return the bytes that the archive uses of its limit: its file without free pages. 0 if it can't be read."""
    path = os.path.join(directory, ARCHIVE, "endpoint.db")
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    try:
        with closing(sqlite3.connect(f"file:{quoted}?mode=ro", uri=True, timeout=0.03)) as store:
            pages, free, size = (
                store.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
            )
    except sqlite3.Error:
        return 0
    return int((pages - free) * size)
