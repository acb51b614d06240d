"""Compares copies that may not be ours with what was queued, one request between two pushes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

from sessiond.endpoint.read_client import ReadClient
from sessiond.errors import EndpointError
from sessiond.logs import log
from sessiond.spool import Spool
from sessiond.upload.confirm import confirm

RETRY_SECONDS = 600.0
"""Seconds after which a comparison that failed is tried again."""


class Confirmation:
    """The comparison. Only the upload thread uses it, when it has nothing to push. `digest` is that of the extents."""

    def __init__(self, spool: Spool, client: ReadClient, machine_id: str, digest: Callable[..., bytes]) -> None:
        self._start = partial(confirm, spool, client, machine_id, digest)
        self._steps: Iterator[None] | None = None
        self._failed_at: float | None = None

    def step(self) -> bool:
        """Send the next request; return whether more follow. A failure is not raised."""
        if self.idle_seconds():
            return False
        self._steps, self._failed_at = self._steps or self._start(), None
        try:
            next(self._steps)
        except StopIteration:
            self._steps = None
            return False
        except EndpointError as error:
            log.warning("upload.uncompared", reason=str(error))
            self._steps, self._failed_at = None, time.monotonic()
            return False
        return True

    def try_again(self) -> None:
        """Try again at the next step, whatever failed before."""
        self._failed_at = None

    def idle_seconds(self) -> float | None:
        """Return the seconds until the next attempt after a failure, 0 if it is due; None if nothing has failed."""
        if self._failed_at is None:
            return None
        return max(0.0, self._failed_at + RETRY_SECONDS - time.monotonic())
