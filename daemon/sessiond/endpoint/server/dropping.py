"""Removes sessions from a store in a directory, without tombstones: a later push may bring them back.

The daemon runs this as a process for the built-in archive (`archive.keep`), when another endpoint has the sessions:

    python -m sessiond.endpoint.server.dropping DIRECTORY < sessions.json

The input is a JSON list of pairs: machine id and session id.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sessiond.decoding import json_decoder
from sessiond.endpoint.server import changes
from sessiond.endpoint.server.erase import erase_rows
from sessiond.endpoint.server.lock import StoreLock
from sessiond.endpoint.server.sqlite_store import SqliteStore
from sessiond.endpoint.server.users import DEFAULT_USER
from sessiond.errors import SessiondError

AT_ONCE = 20
"""Sessions that are removed in one transaction."""


def drop_sessions(directory: str, sessions: Sequence[tuple[str, str]]) -> int:
    """Remove sessions of the default user, each given by its machine and id; return how many bytes they had.

    The file becomes smaller once at least half of it is unused. A kill leaves a valid store with some of them.

    Raises: AlreadyRunning, a process serves the store. StateError.
    """
    size = 0
    with StoreLock(directory):
        store = SqliteStore(directory)
        try:
            for at in range(0, len(sessions), AT_ONCE):
                with store.write() as db:
                    freed = 0
                    for machine, session in sessions[at : at + AT_ONCE]:
                        receipt, held = erase_rows(db, store, DEFAULT_USER, session, [machine])
                        size, freed = size + receipt.bytes, freed + held
                    changes.take_positions(db, DEFAULT_USER, 0, -freed)
                    store.expect_scrub(db)
            store.scrub()
            store.compact()
        finally:
            store.close()
    return size


def main() -> int:
    """Remove the sessions of the standard input from the store that the first argument names."""
    try:
        drop_sessions(sys.argv[1], json_decoder(list[tuple[str, str]]).decode(sys.stdin.buffer.read()))
    except SessiondError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
