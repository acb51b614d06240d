"""The endpoint's state as `status` shows it, and when the next push is due. It survives restarts in the spool."""

from __future__ import annotations

from sessiond.config import Token
from sessiond.daemon import outage
from sessiond.daemon.messages import Cause
from sessiond.daemon.resources import Resources
from sessiond.errors import EndpointError, StateFull
from sessiond.logs import log
from sessiond.spool import health
from sessiond.upload import BatchResult

HEALING_WAIT = 5.0
"""Seconds added to the wait for each batch that only found differences, with no bytes stored in between."""
HEALED_AGAIN = 600.0
"""Seconds after which another one is no repetition any more."""
LONGEST = 3_960_000
"""Longest wait in milliseconds: the longest Retry-After that is obeyed, with its jitter."""


class EndpointState:
    """Health of the endpoint, changed by each push. Only the upload thread uses it."""

    def __init__(self, resources: Resources, url: str, token: Token | None) -> None:
        """Continue from what an earlier process stored about the same URL."""
        self._spool, self._clock = resources.spool, resources.clock
        endpoint = resources.config.endpoint
        self._setup = outage.setup_digest(url, token, endpoint.ca_file, bytes.fromhex(resources.device.key))
        old = health.read_endpoint(self._spool)
        if old.url == url:
            self.health = outage.at_start(old, self._setup, self._spool.meta(health.SETUP))
        else:
            archive = not endpoint.url
            last_ack_ms = old.last_ack_ms if archive and old.archive else None
            self.health = health.EndpointHealth(url=url, archive=archive, last_ack_ms=last_ack_ms)
        self._push_started = 0.0
        self._due_ms, self._due_monotonic_ms = 0, 0
        """The time of the next attempt by the wall clock, and by the monotonic clock."""
        self._healing = 0
        """Batches that only found differences, with no bytes stored in between."""
        self._healed_at: float | None = None
        """When the last one of them was, by the monotonic clock."""

    def wait_ms(self) -> int:
        """Return the milliseconds until the next attempt is due, 0 or less if it is due now.

        The wall clock makes it due after the machine slept. The monotonic clock, which can't be set, makes it due
        although the wall clock was set back by years.
        """
        due = self.health.next_attempt_ms
        if due is None:
            return 0
        left, now = due - self._clock.now_ms(), int(self._clock.monotonic() * 1000)
        if self._due_ms != due:
            self._due_ms, self._due_monotonic_ms = due, now + min(left, LONGEST)
        return min(left, self._due_monotonic_ms - now)

    def try_sooner(self, causes: set[Cause]) -> None:
        """End or shorten the wait for these reasons."""
        if Cause.SETUP in causes:
            self.health = outage.after_change(self.health)
        elif Cause.USER in causes:
            self.health = self.health.replace(next_attempt_ms=None)
        elif Cause.NETWORK in causes:
            tried_ms = self._clock.now_ms() - int(self._push_seconds() * 1000)
            self.health = outage.after_network_change(self.health, tried_ms, self._clock.now_ms())

    def start_push(self) -> None:
        """Note the start of a push, for its latency."""
        self._push_started = self._clock.monotonic()

    def acknowledged(self, size: int) -> None:
        """Store an acknowledgement of `size` bytes, in the transaction of the caller.

        A transaction of its own would double the cost of a push.
        """
        self.health = self._after_success(self._clock.now_ms()).paced(self.health, size)
        health.write(self._spool, self.health)

    def _after_success(self, last_ack_ms: int | None) -> health.EndpointHealth:
        return outage.after_success(self.health, last_ack_ms, int(self._push_seconds() * 1000))

    def _push_seconds(self) -> float:
        """Return how long the push has taken until now."""
        return self._clock.monotonic() - self._push_started

    def succeeded(self, result: BatchResult, before: health.EndpointHealth) -> None:
        """Update the state after a push that the endpoint answered; `before` is the state before the push."""
        done = result.sessions + result.segments
        if done:
            log.info(
                "upload.acked",
                sessions=result.sessions,
                segments=result.segments,
                bytes=result.bytes,
                seconds=round(self._push_seconds(), 3),
            )
        if result.parked:
            log.warning("upload.parked", reason=f"{result.parked} items, see `sessiond queue`")
        if before.failures:
            since = (self._clock.now_ms() - (before.failing_since_ms or self._clock.now_ms())) / 1000
            log.info("upload.resumed", endpoint=before.url, seconds=round(since, 1))
            if not done:
                self.health = self._after_success(before.last_ack_ms)
                self.store()
        due = self._after_healing(result)
        if self.health.next_attempt_ms != due:
            self.health = self.health.replace(next_attempt_ms=due)
            self.store()

    def _after_healing(self, result: BatchResult) -> int | None:
        """Return when the next push is due if the endpoint contradicts itself again and again; None: at any time.

        Only bytes are progress. Healing itself creates revisions, starts of generations and questions for positions,
        and pushes without a difference may lie between two with one.
        """
        if result.bytes:
            self._healing = 0
        elif result.healed:
            now, before = self._clock.monotonic(), self._healed_at
            self._healing = 1 if before is None or now - before > HEALED_AGAIN else self._healing + 1
            self._healed_at = now
            if self._healing > 2:
                return self._clock.now_ms() + int(HEALING_WAIT * 1000 * self._healing)
        return None

    def failed(self, error: EndpointError) -> None:
        """Update the state after a failed push, and set the time of the next attempt."""
        now = self._clock.now_ms()
        self.health = outage.after_failure(self.health, error, now)
        wait = round(((self.health.next_attempt_ms or now) - now) / 1000, 1)
        if self.health.paused:
            log.error("upload.paused", endpoint=self.health.url, reason=str(error), hint=error.hint, retry_in=wait)
        else:
            log.warning("upload.failed", endpoint=self.health.url, reason=str(error), retry_in=wait)
        self.store()

    def set_waits(self, reason: str | None) -> None:
        """Store why the backlog waits, None if it does not."""
        if self.health.waits != reason:
            self.health = self.health.replace(waits=reason)
            self.store()

    def store(self) -> None:
        """Write the state to the spool. On a full disk only the log reports it; `status` learns that from the lock."""
        try:
            with self._spool.transaction():
                health.write(self._spool, self.health)
                if self._spool.meta(health.SETUP) != self._setup:
                    self._spool.set_meta(health.SETUP, self._setup)
        except StateFull as error:
            log.error("spool.filled", reason=str(error))
