"""Decides when the built-in archive is copied to the configured endpoint, and handles an archive that can't be read."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import UUID

from sessiond.daemon.archive_keep import ArchiveKeep
from sessiond.daemon.resources import Resources
from sessiond.endpoint.erasure import Receipt
from sessiond.errors import ArchiveUnreadable, StateFull
from sessiond.logs import log
from sessiond.spool.archive_counts import ARCHIVE_FILES
from sessiond.upload import BATCH_BYTES, BatchResult, UploadContext

if TYPE_CHECKING:
    from sessiond.transfer import Transfer

UNREADABLE_RETRY = 600.0
"""Seconds after which an archive that could not be read is tried again, at the next identification of the endpoint."""
DROPPING_CHECK = 1.0
"""Seconds between two checks whether the process that removes old sessions has ended."""
DROPPING_WAIT = 60.0
"""Seconds that an erasure waits for it."""
REFUSED_RETRY = 3600.0
"""Seconds after which sessions are tried again that the endpoint refused: its fault may have been repaired."""


class ArchiveCopy:
    """Copies the archive to the endpoint, on the upload thread. Pushing continues if the archive can't be read."""

    def __init__(self, resources: Resources, context: UploadContext) -> None:
        self._resources, self._context, self._clock = resources, context, context.clock
        self._transfer: Transfer | None = None
        self._configured = bool(resources.config.endpoint.url) and resources.archive.exists()
        self._failed_at: float | None = None
        self._retried_at = self._clock.monotonic()
        self._keep = ArchiveKeep(resources.spool, resources.directory, resources.config.archive.keep, context.clock)
        self._archive_id = ""
        """The archive's id as an endpoint, once it was opened."""
        self._files = ""
        """The archive's files before it was opened; see `state.archive_files`."""
        with resources.spool.transaction():
            if self._configured:
                resources.spool.archived.retry()  # the cause of a refusal may have been solved
            else:
                resources.spool.archived.clear()

    def prepare(self) -> None:
        """List what has to be copied: all of it at first, then what another process wrote to the archive.

        Raises: EndpointError.
        """
        spool = self._resources.spool
        if not self._configured or self._keep.running:
            return
        now = self._clock.monotonic()
        if self._failed_at is not None:
            with spool.reading():
                stored = spool.safety.archive().problem is not None
            if stored and now - self._failed_at < UNREADABLE_RETRY:  # `queue retry` removes the stored problem
                return
            self._failed_at = None
            self._retry()
        elif now - self._retried_at >= REFUSED_RETRY:
            self._retry()
        try:
            with spool.reading():
                wanted = not spool.safety.archive().listed or spool.archived.has_pending()
                known = spool.meta(ARCHIVE_FILES)
            files = self._resources.archive.files()
            if wanted or files != known:
                if self._transfer is None:
                    self._files = files
                self.transfer.prepare()
        except ArchiveUnreadable as error:
            self._fail(error)

    def _retry(self) -> None:
        self._retried_at = self._clock.monotonic()
        with self._resources.spool.transaction():
            self._resources.spool.archived.retry()

    def pending(self, since_ms: int = 0) -> bool:
        """Return whether there is a session to copy that was active at or after `since_ms`."""
        return self._transfer is not None and self._transfer.pending(since_ms)

    def step(self, *, since_ms: int = 0, size: int = BATCH_BYTES) -> BatchResult:
        """Copy one batch; see `Transfer.step`. Raises: EndpointError."""
        assert self._transfer is not None
        try:
            return self._transfer.step(since_ms=since_ms, size=size)
        except ArchiveUnreadable as error:
            self._fail(error)
            return BatchResult()

    def drop_old(self) -> bool:
        """Remove old sessions that the endpoint has too, in steps; return whether there is more to do at once."""
        if self._keep.finish(self._archive_id):
            return True
        if self._failed_at is not None or not self._configured or not self._keep.wants_archive():
            return False
        self._keep.compare_next(self.transfer)
        self._archive_id = self.transfer.archive_id
        if not self._keep.wants_archive():
            self.close()
            self._keep.remove_confirmed()
        return True

    def idle_seconds(self) -> float | None:
        """Return the seconds until `drop_old` is due again; None if only another push gives a reason for it."""
        return DROPPING_CHECK if self._keep.running else None

    @property
    def exists(self) -> bool:
        """Whether there is an archive beside the configured endpoint."""
        return self._configured

    def forget(self, session: UUID) -> Receipt:
        """Erase a session in the archive. Raises: ArchiveUnreadable."""
        self._keep.finish(self._archive_id, wait=DROPPING_WAIT)
        return self.transfer.forget(session)

    def close(self) -> None:
        """Stop serving the archive; `prepare` serves it again when there is more to copy."""
        if self._transfer is None:
            return
        self._transfer.close()
        self._transfer = None
        spool = self._resources.spool
        with spool.reading():
            copied = spool.safety.archive().listed and not spool.archived.has_pending()
        files = self._resources.archive.files()
        if copied and self._failed_at is None and files == self._files:
            # Nothing was written since before the list was made, so the list is complete. If these files differ
            # later, another process wrote to the archive. If they differ now, it is listed once more.
            with suppress(StateFull):
                spool.set_meta(ARCHIVE_FILES, files)

    def end(self) -> None:
        """Stop serving the archive, and end the process that removes old sessions."""
        self.close()
        self._keep.close(self._archive_id)

    @property
    def transfer(self) -> Transfer:
        """The copy from the archive, which is served when something of it is needed first, and until `close`."""
        from sessiond.transfer import Transfer  # late: most machines have no archive beside an endpoint

        if self._transfer is None:
            twin = self._resources.ingest.masking.twin  # the capture thread masks at the same time
            self._transfer = Transfer(self._context, self._resources.archive.open, twin)
        return self._transfer

    def _fail(self, error: ArchiveUnreadable) -> None:
        """Continue without the archive. What only the archive has is not counted as safe, with the reason."""
        log.error("archive.failed", reason=str(error))
        self._failed_at = self._clock.monotonic()
        self.close()
        with self._resources.spool.transaction():
            self._resources.spool.archived.fail(str(error))
