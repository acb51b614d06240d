"""The upload thread: pushes the outbox, then the built-in archive, to the endpoint."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from msgspec.structs import replace

from sessiond.clock import now_ms
from sessiond.config import Backlog, Token
from sessiond.daemon.archive_copy import ArchiveCopy
from sessiond.daemon.backlog import RECENT_MS
from sessiond.daemon.endpoint_state import Cause, EndpointState
from sessiond.daemon.resources import Resources
from sessiond.daemon.throttle import PUSHING, Throttle
from sessiond.device import installation
from sessiond.endpoint.read_client import ReadClient
from sessiond.endpoint.retry import RetryingClient
from sessiond.errors import EndpointError, StateFull, Unreachable
from sessiond.logs import log
from sessiond.upload import BATCH_BYTES, BatchResult, UploadContext, begin_run, bind, unbind_changed_endpoint, upload

PAUSED_CHECK = 900.0
"""Seconds between two checks whether the user's pause has ended. Its end wakes the loop anyway."""
LAST_PUSH = 5.0
"""Seconds that the last push before the end may take."""


class UploadLoop:
    """The loop that pushes. A failure is stored in the spool with the time of the next attempt."""

    def __init__(
        self,
        resources: Resources,
        url: str,
        token: Token | None,
        on_room: Callable[[], None],
        throttle: Throttle | None = None,
    ) -> None:
        """`on_room` is called when the outbox has room again, or when a stream has to be read again.

        Without a throttle the backlog is never delayed.
        """
        endpoint, spool = resources.config.endpoint, resources.spool
        self._resources = resources
        self._on_room = on_room
        self._throttle = throttle or Throttle(PUSHING)
        self._throttled = False
        """Whether the rest of the outbox waits for the throttle."""
        self._client = ReadClient(
            url,
            token.reveal() if token else None,
            device_id=resources.device.device_id,
            timeout=endpoint.timeout,
            ca_file=endpoint.ca_file or None,
        )
        self._retrying = RetryingClient(self._client, sleep=self._sleep)
        self._wake = threading.Condition()
        self._woken = True
        self._causes: set[Cause] = set()
        """Why to try sooner than planned. Other threads add to it."""
        self._stopping = self._paused = self._streams_wait = False
        self._context = UploadContext(
            spool=spool,
            client=self._retrying,
            machine_id=resources.machine_id,
            device_id=resources.device.device_id,
            installation=installation(resources.directory),
            runs=begin_run(spool),
            now_ms=now_ms,
            settled=self._settled,
            address=endpoint.url,
        )
        unbind_changed_endpoint(spool, endpoint.url)
        self._archive = ArchiveCopy(resources, self._context, self._client)
        self._state = EndpointState(resources, url, token)
        self.iterations = 0
        """Incremented on each iteration; lets the watchdog tell a hung thread from an idle one."""

    def run(self) -> None:
        """Push until `stop()`."""
        self._state.store()  # `status` shows the address before anything was pushed
        while not self._stopping:
            self.iterations += 1
            self._apply_causes()
            if not self._paused and self._state.wait_ms() <= 0 and self.push_all():
                continue
            with self._wake:
                if not self._woken and not self._stopping:
                    self._wake.wait(self._idle_seconds())
                self._woken = False

    def _idle_seconds(self) -> float | None:
        """Return the seconds until the next push is due; None if only another thread can give a reason for one."""
        if self._paused:
            return PAUSED_CHECK
        if self._state.health.next_attempt_ms is not None:
            return max(self._state.wait_ms(), 0) / 1000
        if self._throttled:
            return self._throttle.seconds_until_open()
        # Otherwise a quiet machine would trust an endpoint that was restored from a backup until its next push.
        return self._retrying.seconds_until_identification()

    def wake(self) -> None:
        """Push what was captured; any thread may call it."""
        with self._wake:
            self._woken = True
            self._wake.notify()

    def retry_sooner(self, cause: Cause) -> None:
        """Try again sooner than planned; any thread may call it."""
        with self._wake:
            self._causes.add(cause)
        self.wake()

    def _apply_causes(self) -> None:
        """Apply requests of other threads. One that arrives during a push that then fails is applied after it."""
        with self._wake:
            causes, self._causes = self._causes, set()
        self._state.try_sooner(causes)

    def set_paused(self, paused: bool) -> None:
        """Pause or resume pushing, as the user asked; any thread may call it."""
        if paused != self._paused:
            self._paused = paused
            self.wake()

    def apply_limits(self, limits: Backlog) -> None:
        """Replace the limits of the backlog; any thread may call it."""
        self._throttle.apply_limits(limits)
        self.wake()

    def stop(self) -> None:
        """End the loop after the current push; any thread may call it."""
        self._stopping = True
        self.wake()

    def close(self) -> None:
        """Close the connection, and stop serving the archive."""
        self._archive.close()
        self._client.close()

    def last_push(self) -> None:
        """Push once more before the end, if the last push succeeded. The rest stays in the outbox."""
        if self._state.health.next_attempt_ms is None and not self._paused:
            until = time.monotonic() + LAST_PUSH
            self._client.limit(LAST_PUSH)
            while time.monotonic() < until and self._push().more:
                pass

    def push_all(self) -> bool:
        """Push one batch; return whether more can be pushed at once."""
        self._apply_causes()
        result = self._push()
        return result.more and self._state.health.next_attempt_ms is None

    def _push(self) -> BatchResult:
        before = self._state.health
        self._state.start_push()
        try:
            if self._retrying.must_identify():
                bind(self._context)
                self._archive.prepare()
            result = self._push_next()
            self._resources.spool.shrink()
        except EndpointError as error:
            self._failed(error)
            return BatchResult()
        except StateFull as error:
            self._failed(Unreachable(str(error), hint=error.hint))
            return BatchResult()
        if result.healed:
            log.info("upload.healed", streams=result.healed)
        if result.healed or result.asked or (result.sessions + result.segments and self._streams_wait):
            self._on_room()
        self._state.succeeded(result, before)
        return result

    def _failed(self, error: EndpointError) -> None:
        # Another endpoint may answer next time, so it is asked for its id again.
        self._retrying.identify_again()
        self._state.failed(error)

    def _push_next(self) -> BatchResult:
        """Push a batch: recent sessions of the archive, then the outbox, then the rest of the archive."""
        since_ms = now_ms() - RECENT_MS
        if self._archive.pending(since_ms):
            try:
                return self._copied(self._archive.step(since_ms=since_ms))
            except EndpointError:
                # New sessions must not wait for one that can't be copied now.
                result = self._push_outbox(since_ms)
                if result.sessions or result.segments or result.asked:
                    return replace(result, more=True)
                raise
        result = self._push_outbox(since_ms)
        if result.more or not self._archive.pending():
            if not result.more:
                self._archive.close()
            return result
        if result.sessions or result.segments:
            return replace(result, more=True)  # the archive is next
        return self._copy_backlog(result)

    def _push_outbox(self, since_ms: int) -> BatchResult:
        """Push a batch of the outbox, the newest first. While the backlog is throttled, push only live changes."""
        throttle = self._throttle
        with self._resources.spool.reading():
            backlog = self._resources.spool.outbox.has_backlog(since_ms)
        self._throttled = backlog and not throttle.allows()
        self._state.set_waits(throttle.reason if backlog else None)
        if not backlog:
            # The limit on time excludes what joined the backlog since the check.
            result = upload(self._context, since_ms=since_ms, live_ms=since_ms)
            if not result.more:
                throttle.finish_backlog()
            return result
        if self._throttled or throttle.limits_upload:
            result = upload(self._context, since_ms=since_ms, live_ms=since_ms)
            if self._throttled or result.more or result.sessions or result.segments:
                return result
        before = self._client.sent_bytes
        result = upload(self._context, live_ms=since_ms, size=throttle.batch_size(BATCH_BYTES))
        throttle.record_sent(self._client.sent_bytes - before)
        return result

    def _settled(self, result: BatchResult) -> None:
        """Store the endpoint's health in the transaction that removes what it acknowledged from the outbox."""
        self._streams_wait = self._resources.spool.catalog.has_behind()
        if result.sessions + result.segments:
            self._state.acknowledged(result.bytes)

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        with self._wake:
            while not self._stopping and (left := until - time.monotonic()) > 0:
                self._wake.wait(left)

    def _copy_backlog(self, result: BatchResult) -> BatchResult:
        """Copy a batch of the archive as the throttle allows."""
        self._throttled = not self._throttle.allows()
        if self._throttled:
            return result
        before = self._client.sent_bytes
        copied = self._copied(self._archive.step(size=self._throttle.batch_size(BATCH_BYTES)))
        self._throttle.record_sent(self._client.sent_bytes - before)
        return copied

    def _copied(self, result: BatchResult) -> BatchResult:
        """Store the progress. Streams that waited for these sessions can be asked about now."""
        self._settled(result)
        return replace(result, more=True)
