"""Pushing: the one thread that brings the outbox to the endpoint, and waits when that can't be."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import StrEnum

from msgspec.structs import replace

from sessiond.config import Backlog, Token
from sessiond.daemon import outage
from sessiond.daemon.archive_copy import ArchiveCopy
from sessiond.daemon.backlog import RECENT_MS
from sessiond.daemon.resources import Resources, now_ms
from sessiond.daemon.throttle import PUSHING, Throttle
from sessiond.device import installation
from sessiond.endpoint.read_client import ReadClient
from sessiond.errors import EndpointError, StateFull, Unreachable
from sessiond.logs import log
from sessiond.spool import health
from sessiond.upload import BATCH_BYTES, BatchResult, UploadContext, begin_run, bind, unbind_changed_endpoint, upload

HELD = 900.0
"""Seconds between two looks at whether the user's pause of pushing has ended; its end wakes the loop anyway."""
BIND_AGAIN = 3600.0
"""Seconds after which a push asks again who answers: an endpoint that was restored from a backup meanwhile."""
IMPATIENT = 5.0
"""Seconds between two tries while what was reached differs from what is expected (healing)."""
LONGEST = 3_960_000
"""Milliseconds that a wait may have: the longest Retry-After that is obeyed, with its jitter."""
LAST = 5.0
"""Seconds that the last push before the end may take."""


class Cause(StrEnum):
    """Why a push is tried sooner than was planned."""

    USER = "user"
    """The user asks for it, and says nothing about the cause of the failure."""
    SETUP = "setup"
    """The token or the configuration changed: the waits begin with the shortest one again."""
    NETWORK = "network"


class UploadLoop:
    """The loop that pushes. A failure is kept in the spool with the time of the next try: a restart keeps it."""

    def __init__(
        self,
        resources: Resources,
        url: str,
        token: Token | None,
        room: Callable[[], None],
        throttle: Throttle | None = None,
    ) -> None:
        """`room` is called when the outbox has room again, or a stream has to be read again.

        Without a `restraint` nothing holds the backlog back.
        """
        self._resources = resources
        self._room = room
        self._throttle = throttle or Throttle(PUSHING)
        self._rests = False
        """Whether what is left in the outbox waits for the restraint."""
        self._client = ReadClient(
            url,
            token.reveal() if token else None,
            device_id=resources.device.device_id,
            timeout=resources.config.endpoint.timeout,
            ca_file=resources.config.endpoint.ca_file or None,
        )
        self._wake = threading.Condition()
        self._woken = True
        self._causes: set[Cause] = set()
        """Why to try sooner than was planned; taken by `_heed`."""
        self._stopping = False
        self._bound = False
        self._bound_at = 0.0
        self._setting = UploadContext(
            spool=resources.spool,
            client=self._client,
            machine_id=resources.machine_id,
            device_id=resources.device.device_id,
            installation=installation(resources.directory),
            runs=begin_run(resources.spool),
            now_ms=now_ms,
            sleep=self._sleep,
            settled=self._settled,
            address=resources.config.endpoint.url,
        )
        unbind_changed_endpoint(resources.spool, resources.config.endpoint.url)
        self._archive = ArchiveCopy(resources, self._setting, self._client)
        old = health.read_endpoint(resources.spool)
        archive = not resources.config.endpoint.url
        last_ack_ms = old.last_ack_ms if archive and old.archive else None
        fresh = health.EndpointHealth(url=url, archive=archive, last_ack_ms=last_ack_ms)
        key = bytes.fromhex(resources.device.key)
        self._setup = outage.setup_digest(url, token, resources.config.endpoint.ca_file, key)
        stored = resources.spool.meta(health.SETUP)
        self._health = outage.at_start(old, self._setup, stored) if old.url == url else fresh
        self._began = 0.0
        self._wanted = False
        """Whether a stream waits for room in the outbox, or for another read of its file."""
        self._noted, self._until = 0, 0
        """The next attempt as it was noted, and when that is by the monotonic clock."""
        self._healing = 0
        self._held = False
        self.iterations = 0
        """Grows with each turn of the loop."""

    def run(self) -> None:
        """Push until `stop()`."""
        self._keep()  # where it goes is to be seen before anything was pushed
        while not self._stopping:
            self.iterations += 1
            self._heed()
            if not self._held and self._wait_ms() <= 0 and self.push_all():
                continue
            with self._wake:
                if not self._woken and not self._stopping:
                    self._wake.wait(self._left())
                self._woken = False

    def _left(self) -> float | None:
        """Tell how many seconds nothing is due, after what the last push has set; None: until somebody wakes us."""
        if self._held:
            return HELD
        if self._health.next_attempt_ms is not None:
            return max(self._wait_ms(), 0) / 1000
        return self._throttle.left() if self._rests else None

    def _wait_ms(self) -> int:
        due = self._health.next_attempt_ms
        if due is None:
            return 0
        # By the wall clock it is due after a sleep of the machine too; by the other one, which nobody sets, after a
        # wall clock was set back by years.
        left, now = due - now_ms(), int(time.monotonic() * 1000)
        if self._noted != due:
            self._noted, self._until = due, now + min(left, LONGEST)
        return min(left, self._until - now)

    def captured(self) -> None:
        """Push what was captured; any thread may call it."""
        with self._wake:
            self._woken = True
            self._wake.notify()

    def retry_sooner(self, cause: Cause) -> None:
        """Try again sooner than was planned; any thread may call it."""
        with self._wake:
            self._causes.add(cause)
        self.captured()

    def _heed(self) -> None:
        """Act on what other threads asked for. What is asked during a push that then fails is not lost by that."""
        with self._wake:
            causes, self._causes = self._causes, set()
        if Cause.SETUP in causes:
            self._health = outage.after_change(self._health)
        elif Cause.USER in causes:
            self._health = self._health.replace(next_attempt_ms=None)
        elif Cause.NETWORK in causes:
            tried_ms = now_ms() - int((time.monotonic() - self._began) * 1000)
            self._health = outage.after_network_change(self._health, tried_ms, now_ms())

    def hold(self, held: bool) -> None:
        """Push nothing while `held`, since the user has paused it; any thread may call it."""
        if held != self._held:
            self._held = held
            self.captured()

    def apply_limits(self, settings: Backlog) -> None:
        """Hold the backlog back in another way; any thread may call it."""
        self._throttle.apply(settings)
        self.captured()

    def stop(self) -> None:
        """End the loop after what is under way; any thread may call it."""
        self._stopping = True
        self.captured()

    def close(self) -> None:
        """Close the connection."""
        self._archive.close()
        self._client.close()

    def last_push(self) -> None:
        """Push once more before the end, if the endpoint is well; the rest stays in the outbox."""
        if self._health.next_attempt_ms is None and not self._held:
            until = time.monotonic() + LAST
            self._client.limit(LAST)
            while time.monotonic() < until and self._push().more:
                pass

    def push_all(self) -> bool:
        """Push until the outbox is empty; False where the endpoint took nothing or nothing was to be done."""
        self._heed()
        pushed = self._push()
        return pushed.more and self._health.next_attempt_ms is None

    def _push(self) -> BatchResult:
        self._began, before = time.monotonic(), self._health
        try:
            if not self._bound or self._setting.bind_again or self._began - self._bound_at > BIND_AGAIN:
                bind(self._setting)
                self._bound, self._bound_at = True, time.monotonic()
                self._archive.prepare()
            pushed = self._upload()
            self._resources.spool.shrink()
        except EndpointError as error:
            self._failed(error)
            return BatchResult()
        except StateFull as error:
            self._failed(Unreachable(str(error), hint=error.hint))
            return BatchResult()
        self._succeeded(pushed, before)
        return pushed

    def _upload(self) -> BatchResult:
        """Push a batch: from the archive what is live in it, then the outbox, then what else the archive has."""
        since_ms = now_ms() - RECENT_MS
        if self._archive.pending(since_ms):
            try:
                return self._copied(self._archive.step(since_ms=since_ms))
            except EndpointError:
                pushed = self._upload_outbox(since_ms)  # what is new does not wait for what can't be copied now
                if pushed.sessions or pushed.segments or pushed.asked:
                    return replace(pushed, more=True)
                raise
        pushed = self._upload_outbox(since_ms)
        if pushed.more or not self._archive.pending():
            if not pushed.more:
                self._archive.close()
            return pushed
        if pushed.sessions or pushed.segments:
            return replace(pushed, more=True)  # the archive is next
        return self._copy_backlog(pushed)

    def _copy_backlog(self, pushed: BatchResult) -> BatchResult:
        """Copy a batch of the archive as the throttle allows."""
        self._rests = not self._throttle.open()
        if self._rests:
            return pushed
        before = self._client.sent_bytes
        copied = self._copied(self._archive.step(size=self._throttle.batch(BATCH_BYTES)))
        self._throttle.sent(self._client.sent_bytes - before)
        return copied

    def _copied(self, pushed: BatchResult) -> BatchResult:
        """Note what was copied; streams that waited for it can be asked about now."""
        self._settled(pushed)
        return replace(pushed, more=True)

    def _upload_outbox(self, since_ms: int) -> BatchResult:
        """Push a batch: all that waits, the newest first, or only what is live while the backlog has to wait."""
        throttle = self._throttle
        with self._resources.spool.reading():
            backlog = self._resources.spool.outbox.has_backlog(since_ms)
        self._rests = backlog and not throttle.open()
        if self._health.waits != (waits := throttle.reason if backlog else None):
            self._health = self._health.replace(waits=waits)
            self._keep()
        if not backlog:
            pushed = upload(self._setting, since_ms=since_ms, live_ms=since_ms)  # nor what came to the backlog since
            if not pushed.more:
                throttle.done()
            return pushed
        if self._rests or throttle.limited:
            pushed = upload(self._setting, since_ms=since_ms, live_ms=since_ms)
            if self._rests or pushed.more or pushed.sessions or pushed.segments:
                return pushed
        before = self._client.sent_bytes
        pushed = upload(self._setting, live_ms=since_ms, size=throttle.batch(BATCH_BYTES))
        throttle.sent(self._client.sent_bytes - before)
        return pushed

    def _settled(self, pushed: BatchResult) -> None:
        """Keep how the endpoint is in the transaction of what it acknowledged: one of its own costs as much again."""
        self._wanted = self._resources.spool.catalog.has_behind()
        if pushed.sessions + pushed.segments:
            self._health = self._well(now_ms()).paced(self._health, pushed.bytes)
            health.write(self._resources.spool, self._health)

    def _well(self, last_ack_ms: int | None) -> health.EndpointHealth:
        return outage.after_success(self._health, last_ack_ms, int((time.monotonic() - self._began) * 1000))

    def _succeeded(self, pushed: BatchResult, before: health.EndpointHealth) -> None:
        done = pushed.sessions + pushed.segments
        if pushed.healed:
            log.info("upload.healed", streams=pushed.healed)
        if pushed.healed or pushed.asked or (done and self._wanted):
            self._room()
        if done:
            log.info(
                "upload.acked",
                sessions=pushed.sessions,
                segments=pushed.segments,
                bytes=pushed.bytes,
                seconds=round(time.monotonic() - self._began, 3),
            )
        if pushed.parked:
            log.warning("upload.parked", reason=f"{pushed.parked} items, see `sessiond queue`")
        if before.failures:
            since = (now_ms() - (before.failing_since_ms or now_ms())) / 1000
            log.info("upload.resumed", endpoint=before.url, seconds=round(since, 1))
            if not done:
                self._health = self._well(before.last_ack_ms)
                self._keep()
        # An endpoint that only ever contradicts itself must not keep us busy. That it stores the new revisions and
        # the starts of generations which healing makes is no progress.
        self._healing = self._healing + 1 if pushed.healed and not pushed.bytes else 0
        due = now_ms() + int(IMPATIENT * 1000 * self._healing) if self._healing > 2 else None
        if self._health.next_attempt_ms != due:
            self._health = self._health.replace(next_attempt_ms=due)
            self._keep()

    def _failed(self, error: EndpointError) -> None:
        now = now_ms()
        self._health, self._bound = outage.after_failure(self._health, error, now), False
        wait = round(((self._health.next_attempt_ms or now) - now) / 1000, 1)
        if self._health.paused:
            log.error("upload.paused", endpoint=self._health.url, reason=str(error), hint=error.hint, retry_in=wait)
        else:
            log.warning("upload.failed", endpoint=self._health.url, reason=str(error), retry_in=wait)
        self._keep()

    def _keep(self) -> None:
        try:
            with self._resources.spool.transaction():
                health.write(self._resources.spool, self._health)
                if self._resources.spool.meta(health.SETUP) != self._setup:
                    self._resources.spool.set_meta(health.SETUP, self._setup)
        except StateFull as error:
            log.error("spool.filled", reason=str(error))  # it is known here; status learns it from the lock

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        with self._wake:
            while not self._stopping and (left := until - time.monotonic()) > 0:
                self._wake.wait(left)
