"""Compares once a day what is called safe with what the endpoint has, one request between two pushes.

First the revisions of all records and the lengths of all streams. Then the digests of a part of the streams, and the
bytes of some of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

from sessiond.errors import EndpointError, StateFull
from sessiond.logs import log
from sessiond.spool.health import read_capture_progress
from sessiond.spool.sizes import SIZES, count_sizes, read_sizes
from sessiond.spool.verification import BEGUN, EACH_MS, RESULT, last_check_ms, read_verification, verification_value
from sessiond.upload import UploadContext
from sessiond.upload.read_back import ReadBack, part_of_day, read_back
from sessiond.upload.verify import apply_comparison, compare

RETRY_SECONDS = 3600.0
"""Seconds after which a check that failed is tried again."""


class PeriodicCheck:
    """The check. Only the upload thread uses it, when it has nothing to push.

    A check of another endpoint than that of the context does not count.
    """

    def __init__(self, context: UploadContext, is_metered: Callable[[], bool] = lambda: False) -> None:
        """While the network is metered, neither digests nor bytes are compared."""
        self._context, self._is_metered = context, is_metered
        self._spool, self._clock = context.spool, context.clock
        self._steps: Iterator[bool] | None = None
        self._counting: Iterator[None] | None = None
        sizes = read_sizes(self._spool.meta(SIZES))
        self._counted_ms = 0 if sizes is None else sizes.at_ms
        self._partial = sizes is not None and sizes.partial
        self._failed_at: float | None = None
        checked_ms = last_check_ms(self._spool, context.address)
        if checked_ms is None:
            # The first check is a day later: what was pushed just now was acknowledged just now.
            checked_ms = self._clock.now_ms()
            with suppress(StateFull):  # a full disk delays the check, and must not keep the daemon from starting
                self._spool.set_meta(BEGUN, f"{context.address} {checked_ms}")
        self._checked_ms = checked_ms

    def step(self) -> bool:
        """Send the next request of a check that is due; return whether the check goes on. A failure is not raised."""
        if self._counting is not None or self._must_count():
            return self._count()
        if self._steps is None and not self._is_due():
            return False
        self._steps = self._steps or self._compare()
        try:
            return next(self._steps)
        except StopIteration:
            self._steps = None
        except EndpointError as error:
            log.warning("verification.failed", reason=str(error))
            self._steps, self._failed_at = None, self._clock.monotonic()
        return False

    def _compare(self) -> Iterator[bool]:
        """Compare, and yield True after each request. What the endpoint lacks is pushed after the last one."""
        context = self._context
        for result in compare(context.spool, context.reader, context.machine_id):
            if not result.done:
                yield True
        # Before bytes are read: if that fails, the lists need not be compared again before tomorrow.
        self._checked_ms = self._clock.now_ms()
        apply_comparison(self._spool, result, context.address, self._checked_ms)
        log.info("verification.ended", sessions=len(result.sessions), incomplete=len(result.incomplete))
        read = ReadBack()
        if not self._is_metered():
            budget = part_of_day(self._spool)
            for read in read_back(context, budget):  # noqa: B007
                yield True
            last = read_verification(self._spool.meta(RESULT))
            if last is not None:
                last = last.replace(read_bytes=read.read_bytes, different=read.different)
                self._spool.set_meta(RESULT, verification_value(last))
            log.info("verification.compared", bytes=read.read_bytes, streams=read.different)
        yield bool(result.wrong or read.different)

    def _count(self) -> bool:
        """Count a part of what was captured, for `status`; return whether there is more to count or to compare."""
        if self._counting is None:
            # Asked before the first part is counted: what is captured during the count may be in none of its parts.
            self._counting = count_sizes(self._spool, self._clock.now_ms(), waits=self._has_backlog())
        for _ in self._counting:
            return True
        sizes = read_sizes(self._spool.meta(SIZES))
        self._partial = sizes is not None and sizes.partial
        self._counting, self._counted_ms = None, self._clock.now_ms()
        return self._is_due()

    def _must_count(self) -> bool:
        """Return whether a day has passed, or the first backlog was captured, since the sizes were counted."""
        if not 0 <= self._clock.now_ms() - self._counted_ms < EACH_MS:
            return True
        return self._partial and not self._has_backlog()

    def _has_backlog(self) -> bool:
        """Return whether the capture has found files that it has not read, or has not looked for them yet."""
        capture = read_capture_progress(self._spool)
        return capture.discovered is None or capture.backlog > 0

    def _is_due(self) -> bool:
        if self._failed_at is not None and self._clock.monotonic() - self._failed_at < RETRY_SECONDS:
            return False
        return not 0 <= self._clock.now_ms() - self._checked_ms < EACH_MS
