"""Compares once a day what is called safe with what the endpoint has, one request between two pushes.

First the revisions of all records and the lengths of all streams, then the bytes of a part of the streams.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from sessiond.clock import now_ms
from sessiond.endpoint.read_client import ReadClient
from sessiond.errors import EndpointError, StateFull
from sessiond.logs import log
from sessiond.spool import Spool
from sessiond.spool.sizes import SIZES, count_sizes, read_sizes
from sessiond.spool.verification import BEGUN, EACH_MS, RESULT, last_check_ms, read_verification, verification_value
from sessiond.upload.read_back import ReadBack, part_of_day, read_back
from sessiond.upload.verify import apply_comparison, compare

RETRY_SECONDS = 3600.0
"""Seconds after which a check that failed is tried again."""


class PeriodicCheck:
    """The check. Only the upload thread uses it, when it has nothing to push.

    `address` is the configured one, "" for the built-in archive. A check of another endpoint does not count.
    """

    def __init__(
        self,
        spool: Spool,
        client: ReadClient,
        machine_id: str,
        address: str,
        digest: Callable[..., bytes],
        is_metered: Callable[[], bool] = lambda: False,
    ) -> None:
        """`digest` is that of the extents. While the network is metered, no bytes are read."""
        self._spool, self._client = spool, client
        self._machine_id, self._address = machine_id, address
        self._digest, self._is_metered = digest, is_metered
        self._steps: Iterator[bool] | None = None
        self._counting: Iterator[None] | None = None
        sizes = read_sizes(spool.meta(SIZES))
        self._counted_ms = 0 if sizes is None else sizes.at_ms
        self._failed_at: float | None = None
        checked_ms = last_check_ms(spool, address)
        if checked_ms is None:
            # The first check is a day later: what was pushed just now was acknowledged just now.
            checked_ms = now_ms()
            with suppress(StateFull):  # a full disk delays the check, and must not keep the daemon from starting
                spool.set_meta(BEGUN, f"{address} {checked_ms}")
        self._checked_ms = checked_ms

    def step(self) -> bool:
        """Send the next request of a check that is due; return whether the check goes on. A failure is not raised."""
        if self._counting is not None or not 0 <= now_ms() - self._counted_ms < EACH_MS:
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
            self._steps, self._failed_at = None, time.monotonic()
        return False

    def _compare(self) -> Iterator[bool]:
        """Compare, and yield True after each request. What the endpoint lacks is pushed after the last one."""
        for result in compare(self._spool, self._client, self._machine_id):
            if not result.done:
                yield True
        # Before bytes are read: if that fails, the lists need not be compared again before tomorrow.
        self._checked_ms = now_ms()
        apply_comparison(self._spool, result, self._address, self._checked_ms)
        log.info("verification.ended", sessions=len(result.sessions), incomplete=len(result.incomplete))
        read = ReadBack()
        if not self._is_metered():
            budget = part_of_day(self._spool)
            for read in read_back(self._spool, self._client, self._machine_id, self._digest, budget):  # noqa: B007
                yield True
            last = read_verification(self._spool.meta(RESULT))
            if last is not None:
                last = last.replace(read_bytes=read.read_bytes, different=read.different)
                self._spool.set_meta(RESULT, verification_value(last))
            log.info("verification.compared", bytes=read.read_bytes, streams=read.different)
        yield bool(result.wrong or read.different)

    def _count(self) -> bool:
        """Count a part of what was captured, for `status`; return whether there is more to count or to compare."""
        self._counting = self._counting or count_sizes(self._spool, now_ms())
        for _ in self._counting:
            return True
        self._counting, self._counted_ms = None, now_ms()
        return self._is_due()

    def _is_due(self) -> bool:
        if self._failed_at is not None and time.monotonic() - self._failed_at < RETRY_SECONDS:
            return False
        return not 0 <= now_ms() - self._checked_ms < EACH_MS
