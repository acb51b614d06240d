"""Copies the built-in archive to a configured endpoint, as long as the archive can be read."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sessiond.daemon.resources import Resources
from sessiond.endpoint.read_client import ReadClient
from sessiond.errors import ArchiveUnreadable
from sessiond.logs import log
from sessiond.state import has_archive
from sessiond.upload import BATCH_BYTES, BatchResult, UploadContext

if TYPE_CHECKING:
    from sessiond.transfer import Transfer

AGAIN = 600.0
"""Fewest seconds between two attempts to read an archive that could not be read; `prepare` makes the next one."""


class ArchiveCopy:
    """Copies the archive to the endpoint, in the upload thread. An archive that can't be read delays nothing else."""

    def __init__(self, resources: Resources, context: UploadContext, client: ReadClient) -> None:
        self._resources, self._context, self._client = resources, context, client
        self._transfer: Transfer | None = None
        self._configured = bool(resources.config.endpoint.url) and has_archive(resources.directory)
        self._failed_at: float | None = None
        with resources.spool.transaction():
            if self._configured:
                resources.spool.archived.retry()  # the cause of a refusal may be gone by now
            else:
                resources.spool.archived.clear()

    def prepare(self) -> None:
        """List the sessions to copy, unless they are listed for this endpoint already. Raises: EndpointError."""
        spool = self._resources.spool
        if not self._configured:
            return
        if self._failed_at is not None:
            if time.monotonic() - self._failed_at < AGAIN:
                return
            self._failed_at = None
            with spool.transaction():
                spool.archived.retry()
        try:
            with spool.reading():
                wanted = not spool.safety.archive().listed or spool.archived.has_pending()
            if wanted:
                self._transfer = self._transfer or self._make()
                self._transfer.prepare()
        except ArchiveUnreadable as error:
            self._fail(error)

    def pending(self, since_ms: int = 0) -> bool:
        """Return whether a session is still to be copied that was active since `since_ms`."""
        return self._transfer is not None and self._transfer.pending(since_ms)

    def step(self, *, since_ms: int = 0, size: int = BATCH_BYTES) -> BatchResult:
        """Copy one batch; see `Transfer.step`. Raises: EndpointError."""
        assert self._transfer is not None
        try:
            return self._transfer.step(since_ms=since_ms, size=size)
        except ArchiveUnreadable as error:
            self._fail(error)
            return BatchResult()

    def close(self) -> None:
        """Stop serving the archive; `prepare` starts it again if there is more to copy."""
        if self._transfer is not None:
            self._transfer.close()
            self._transfer = None

    def _make(self) -> Transfer:
        from sessiond.daemon.archive import open_archive  # late: few have an archive beside an endpoint
        from sessiond.transfer import Transfer

        resources = self._resources
        return Transfer(
            self._context,
            self._client,
            lambda: open_archive(resources.directory, resources.device.device_id),
            resources.ingest.masking.twin,  # the capture thread masks at the same time
        )

    def _fail(self, error: ArchiveUnreadable) -> None:
        """Continue without the archive. Its sessions are not safe until they are copied; `status` shows the reason."""
        log.error("archive.failed", reason=str(error))
        self._failed_at = time.monotonic()
        with self._resources.spool.transaction():
            self._resources.spool.archived.fail(str(error))
        self.close()
