"""Erases forgotten sessions at the endpoint and in the built-in archive, on the upload thread.

A failure here delays no push: a proxy may allow POST and refuse DELETE.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from sessiond.endpoint.erasure import Receipt
from sessiond.errors import ArchiveUnreadable, EndpointError
from sessiond.logs import log
from sessiond.upload import UploadContext

AT_ONCE = 50
"""Sessions that are erased between two pushes."""
RETRY_SECONDS = 600.0
"""Seconds between two attempts after one that failed."""


class Erasure:
    """Sends the requests that erase sessions."""

    def __init__(self, context: UploadContext, in_archive: Callable[[UUID], Receipt] | None) -> None:
        """`in_archive` erases a session in the archive beside the endpoint; None if there is none."""
        self._spool, self._clock = context.spool, context.clock
        at_endpoint = context.reader.forget
        # Without a configured address, the built-in archive is the endpoint.
        self._targets = [(False, at_endpoint), (True, in_archive)] if context.address else [(True, at_endpoint)]
        self._failed_at: float | None = None

    def step(self) -> bool:
        """Erase some sessions; return whether more are due now. A failure is stored and not raised."""
        if self.idle_seconds():
            return False
        self._failed_at = None
        more = False
        for archive, erase in self._targets:
            more |= erase is not None and self._erase(erase, archive=archive)
        return more

    def try_again(self) -> None:
        """Try again at the next step, whatever failed before."""
        self._failed_at = None

    def idle_seconds(self) -> float | None:
        """Return the seconds until the next attempt after a failure, 0 if it is due; None if nothing has failed."""
        if self._failed_at is None:
            return None
        return max(0.0, self._failed_at + RETRY_SECONDS - self._clock.monotonic())

    def _erase(self, erase: Callable[[UUID], Receipt], *, archive: bool) -> bool:
        with self._spool.reading():
            due = self._spool.forgotten.due(AT_ONCE + 1, archive=archive)
        size = left = 0
        try:
            for session in due[:AT_ONCE]:
                receipt = erase(UUID(session))
                size += receipt.bytes
                left += receipt.objects_left
                if receipt.objects_left:
                    continue  # the same request later, whose receipt says when they are gone
                # Only after the receipt: a kill before this repeats the request, which erases nothing then.
                with self._spool.transaction():
                    self._spool.forgotten.confirm(session, self._clock.now_ms(), archive=archive)
            if left:
                raise EndpointError("the endpoint's object store has not deleted all bytes of erased sessions yet")
        except (EndpointError, ArchiveUnreadable) as error:
            log.warning("erasure.failed", reason=str(error))
            self._failed_at = self._clock.monotonic()
            with self._spool.transaction():
                self._spool.forgotten.fail(str(error), archive=archive)
            return False
        if due:
            log.info("erasure.acked", sessions=len(due[:AT_ONCE]), bytes=size)
        return len(due) > AT_ONCE
