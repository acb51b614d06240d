"""Compares copies that may not be ours with what was queued, one request between two pushes."""

from __future__ import annotations

from collections.abc import Iterator

from sessiond.errors import EndpointError
from sessiond.logs import log
from sessiond.upload import UploadContext
from sessiond.upload.confirm import confirm

RETRY_SECONDS = 600.0
"""Seconds after which a comparison that failed is tried again."""


class Confirmation:
    """The comparison. Only the upload thread uses it, when it has nothing to push."""

    def __init__(self, context: UploadContext) -> None:
        self._context = context
        self._steps: Iterator[None] | None = None
        self._failed_at: float | None = None

    def step(self) -> bool:
        """Send the next request; return whether more follow. A failure is not raised."""
        if self.idle_seconds():
            return False
        self._steps, self._failed_at = self._steps or confirm(self._context), None
        try:
            next(self._steps)
        except StopIteration:
            self._steps = None
            return False
        except EndpointError as error:
            log.warning("upload.uncompared", reason=str(error))
            self._steps, self._failed_at = None, self._context.clock.monotonic()
            return False
        return True

    def try_again(self) -> None:
        """Try again at the next step, whatever failed before."""
        self._failed_at = None

    def idle_seconds(self) -> float | None:
        """Return the seconds until the next attempt after a failure, 0 if it is due; None if nothing has failed."""
        if self._failed_at is None:
            return None
        return max(0.0, self._failed_at + RETRY_SECONDS - self._context.clock.monotonic())
