"""How a file that SQLite has open may be touched by other means: not at all.

SQLite guards a database with POSIX locks. They belong to the process, and closing *any* descriptor of the file
drops all of them, also those of other threads ("How To Corrupt An SQLite Database File", section 2.2). The next
process to close the database then believes that it is the last one and unlinks the write-ahead log: every later
commit goes into a deleted file. So a database is created before SQLite opens it, and looked at only with `stat`.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress

_CREATING = threading.Lock()


def create_private(path: str) -> os.stat_result:
    """Create an empty file of mode 0600 where none exists, and return what `stat` says of it.

    SQLite itself would create it with the umask, readable by others. An existing file is never opened; if others
    can read it and it is ours, its mode becomes 0600. A link is followed, as SQLite does.

    Raises: OSError.
    """
    path = os.path.realpath(path)
    # The lock spans creation and close: no other thread may connect to the new file before its descriptor is closed.
    with _CREATING:
        try:
            found = os.stat(path)
        except FileNotFoundError:
            with suppress(FileExistsError):  # another process was faster
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
            found = os.stat(path)
    if found.st_mode & 0o077 and found.st_uid == os.geteuid():
        os.chmod(path, 0o600)  # restored from a backup, say
    return found
