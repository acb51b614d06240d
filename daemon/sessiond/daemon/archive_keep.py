"""Removes old sessions from the built-in archive beside an endpoint that has them too: `archive.keep`.

Nothing is removed that might exist nowhere else. Each session is compared with the endpoint just before, in all its
generations; one that the endpoint lacks is copied there again instead.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from sessiond.clock import Clock
from sessiond.config.units import parse_backfill
from sessiond.errors import EndpointError
from sessiond.logs import log
from sessiond.spool import Spool
from sessiond.spool.archived import ArchivedSession
from sessiond.state import ARCHIVE

if TYPE_CHECKING:
    from sessiond.transfer import Transfer

AT_ONCE = 200
"""Sessions that are removed by one process."""
EACH_SECONDS = 3600.0
"""Seconds between two searches for sessions that have become old."""
GRACE = 5.0
"""Seconds that the process gets to end when the daemon ends, before it is killed. Its transactions survive that."""


class ArchiveKeep:
    """Removes what is older than `keep` ("all", "none", or an age as text), in steps on the upload thread."""

    def __init__(self, spool: Spool, directory: str, keep: str, clock: Clock) -> None:
        self._spool, self._clock = spool, clock
        self._store = os.path.join(directory, ARCHIVE)
        self._age = parse_backfill(keep)
        self._searched_at: float | None = None
        self._left: list[ArchivedSession] = []
        """Sessions to be compared with the endpoint."""
        self.confirmed: list[ArchivedSession] = []
        """Sessions that the endpoint has, which are removed next."""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether a process is removing sessions: the archive can't be served meanwhile."""
        return self._process is not None

    def wants_archive(self) -> bool:
        """Return whether there are old sessions to compare; search for them once an hour."""
        if self._age is None or self.running:
            return False
        if not self._left and not self.confirmed and self._is_due():
            self._searched_at = self._clock.monotonic()
            with self._spool.reading():
                self._left = self._spool.archived.old(self._clock.now_ms() - int(self._age * 1000), AT_ONCE)
        return bool(self._left)

    def compare_next(self, transfer: Transfer) -> None:
        """Compare one session with the endpoint."""
        session = self._left.pop()
        try:
            whole = transfer.is_whole(session)
        except EndpointError as error:
            self._give_up(error.message)
            return
        if whole:
            self.confirmed.append(session)
            return
        with self._spool.transaction():
            self._spool.archived.copy_again(session)

    def remove_confirmed(self) -> bool:
        """Start the process that removes what was compared; return whether there was something.

        The archive must not be served any more.
        """
        if not self.confirmed or self._left or self.running:
            return False
        pairs = [(each.machine_id, str(each.session)) for each in self.confirmed]
        command = [sys.executable, "-P", "-m", "sessiond.endpoint.server.dropping", self._store]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            self._give_up(str(error))
            return False
        assert self._process.stdin is not None
        with suppress(BrokenPipeError), self._process.stdin as pipe:
            pipe.write(msgspec.json.encode(pairs))
        self._process.stdin = None
        return True

    def finish(self, archive: str, *, wait: float = 0.0) -> bool:
        """Store what the process removed, if it has ended; return whether more may be old. `archive` is its id."""
        if self._process is None or (not wait and self._process.poll() is None):
            return False
        try:
            _, said = self._process.communicate(timeout=wait or GRACE)
        except subprocess.TimeoutExpired:
            return False
        code, self._process = self._process.returncode, None
        removed, self.confirmed = self.confirmed, []
        if code:
            self._give_up(said.decode(errors="replace").strip() or f"it ended with {code}")
            return False
        with self._spool.transaction():
            for session in removed:
                self._spool.archived.mark_dropped(session, archive)
        log.info("archive.dropped", sessions=len(removed), bytes=sum(each.bytes for each in removed))
        self._searched_at = None if len(removed) >= AT_ONCE else self._searched_at
        return True

    def close(self, archive: str) -> None:
        """End the process. What it has not removed is compared again later."""
        self.finish(archive, wait=GRACE)
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _is_due(self) -> bool:
        return self._searched_at is None or self._clock.monotonic() - self._searched_at >= EACH_SECONDS

    def _give_up(self, reason: str) -> None:
        log.warning("archive.kept", reason=reason)
        self._left, self.confirmed = [], []
