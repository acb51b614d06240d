"""Pushes one batch at a time: recent sessions first, the backlog as the throttle allows."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from sessiond.config import Token
from sessiond.daemon.archive_copy import ArchiveCopy
from sessiond.daemon.backlog import RECENT_MS
from sessiond.daemon.confirmation import Confirmation
from sessiond.daemon.endpoint_state import EndpointState
from sessiond.daemon.erasure import Erasure
from sessiond.daemon.messages import Cause
from sessiond.daemon.periodic_check import PeriodicCheck
from sessiond.daemon.resources import Resources
from sessiond.daemon.throttle import Throttle
from sessiond.device import installation
from sessiond.endpoint.erasure import FORGET
from sessiond.endpoint.read_client import ReadClient
from sessiond.endpoint.retry import RetryingClient
from sessiond.endpoint.transport import make_transport
from sessiond.errors import EndpointError, StateFull, Unreachable
from sessiond.ingest.catch_up import can_catch_up
from sessiond.logs import log
from sessiond.restored import RestoredSessions
from sessiond.upload import BATCH_BYTES, BatchResult, UploadContext, begin_run, bind, unbind_changed_endpoint, upload
from sessiond.upload.digests import PushDigests
from sessiond.upload.forgotten import learn_forgotten
from sessiond.upload.taken_name import retry_taken

if TYPE_CHECKING:
    import httpx


class Target(msgspec.Struct, frozen=True):
    """The endpoint to push to."""

    url: str
    token: Token | None
    network: httpx.BaseTransport | None = None
    """Replaces the connection to the network."""


class Pusher:
    """Pushes batches and keeps the endpoint's state. Only the upload thread uses it."""

    def __init__(
        self, resources: Resources, target: Target, throttle: Throttle, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """`sleep` waits between two attempts of one push; it may return early when the process ends."""
        endpoint, spool = resources.config.endpoint, resources.spool
        self._resources = resources
        self.throttle = throttle
        self.throttled = False
        """Whether the rest of the outbox waits for the throttle."""
        self.client = ReadClient(
            target.url,
            target.token.reveal() if target.token else None,
            device_id=resources.device.device_id,
            timeout=endpoint.timeout,
            transport=make_transport(target.url, endpoint.ca_file or None, network=target.network),
        )
        self.retrying = RetryingClient(self.client, sleep=sleep, monotonic=resources.clock.monotonic)
        self.context = UploadContext(
            spool=spool,
            client=self.retrying,
            reader=self.client,
            stream_digests=PushDigests(spool),
            machine_id=resources.machine_id,
            device_id=resources.device.device_id,
            restored=RestoredSessions(resources.directory),
            installation=installation(resources.directory),
            runs=begin_run(spool),
            digest=resources.ingest.digest,
            clock=resources.clock,
            settled=self._settled,
            address=endpoint.url,
        )
        unbind_changed_endpoint(spool, endpoint.url)
        self.archive = ArchiveCopy(resources, self.context)
        self.erasure = Erasure(self.context, self.archive.forget if self.archive.exists else None)
        self.check = PeriodicCheck(self.context, throttle.spares_network)
        self.confirmation = Confirmation(self.context)
        self._earliest = 0.0
        self.state = EndpointState(resources, target.url, target.token)

    def try_sooner(self, causes: set[Cause]) -> None:
        """End or shorten the wait for the next push for these reasons."""
        self.state.try_sooner(causes)
        if Cause.USER in causes:
            # `queue retry` may concern the archive, which is prepared after the endpoint was identified.
            self.retrying.identify_again()
            self.erasure.try_again()
            self.confirmation.try_again()

    def push(self) -> BatchResult:
        """Push one batch. A failure is stored in the spool with the time of the next attempt, and is not raised."""
        try:
            return self.attempt()
        except EndpointError as error:
            self.fail(error)
        except StateFull as error:
            self.fail(Unreachable(str(error), hint=error.hint))
        return BatchResult()

    def attempt(self) -> BatchResult:
        """Push one batch, whatever failed before.

        Raises: EndpointError, StateFull; what was not acknowledged stays in the outbox.
        """
        before, began = self.state.health, self.context.clock.monotonic()
        self.state.start_push()
        learned = self._identify() if self.retrying.must_identify() else 0
        result = self._push_next()
        more = self._step_others(idle=not result.more) or result.more
        result = replace(result, forgotten=result.forgotten + learned, more=more)
        self._resources.spool.shrink(result.bytes)
        if result.healed:
            log.info("upload.healed", streams=result.healed)
        # Varied, so that devices that began together, as after an outage, do not push together each time.
        self._earliest = began + self.retrying.push_interval * random.uniform(0.9, 1.1)  # noqa: S311
        self.state.succeeded(result, before)
        return result

    def _identify(self) -> int:
        """Ask which endpoint answers and what the user erased there; return how many erased sessions are new here."""
        spool, now_ms, learned = self.context.spool, self.context.clock.now_ms(), 0
        bind(self.context)
        retry_taken(self.context)
        if FORGET in self.retrying.features:
            learned = learn_forgotten(spool, self.client.forgotten, now_ms, self.context.machine_id)
        with spool.transaction():
            learned += spool.forgotten.expire(now_ms)
        self.archive.prepare()
        return learned

    def _step_others(self, *, idle: bool) -> bool:
        """Do one step of what is done between two pushes; return whether more follows.

        `idle`: nothing is left to push. Comparisons wait for that, and erasing does not.
        """
        if self.erasure.step() or (idle and self.archive.drop_old()):
            return True
        if self.archive.pending():
            return False
        self.archive.close()  # an erasure may have opened it
        return idle and (self.confirmation.step() or (not self.throttled and self.check.step()))

    def erase(self) -> None:
        """Erase forgotten sessions at the endpoint and in the archive, and push nothing. A failure is stored."""
        try:
            bind(self.context)
        except EndpointError as error:
            self.fail(error)
            with self._resources.spool.transaction():
                self._resources.spool.forgotten.fail(str(error), archive=self.state.health.archive)
            return
        while self.erasure.step():
            pass
        self.archive.close()

    def makes_room(self) -> bool:
        """Return whether waiting streams can be read on. A push that failed may have been stored in part."""
        return can_catch_up(self._resources.ingest)

    def pace_left(self) -> float:
        """Return the seconds until the endpoint wants the next push; 0 if at once."""
        return max(self._earliest - self.context.clock.monotonic(), 0.0) if self.retrying.push_interval else 0.0

    def idle_seconds(self) -> float | None:
        """Return the seconds until the next push is due; None if only another thread can give a reason for one."""
        if self.state.health.next_attempt_ms is not None:
            return max(self.state.wait_ms(), 0) / 1000
        if self.throttled:
            return self.throttle.seconds_until_open()
        # Otherwise a quiet machine would trust an endpoint that was restored from a backup until its next push.
        due = (
            self.retrying.seconds_until_identification(),
            self.erasure.idle_seconds(),
            self.confirmation.idle_seconds(),
            self.archive.idle_seconds(),
        )
        return min((seconds for seconds in due if seconds is not None), default=None)

    def fail(self, error: EndpointError) -> None:
        """Store a failed push and when the next one is due."""
        # Another endpoint may answer next time, so it is asked for its id again.
        self.retrying.identify_again()
        self.state.failed(error)

    def close(self) -> None:
        """Close the connection, and stop serving the archive."""
        self.archive.end()
        self.client.close()

    def _push_next(self) -> BatchResult:
        """Push a batch: recent sessions of the archive, then the outbox, then the rest of the archive."""
        since_ms = self.context.clock.now_ms() - RECENT_MS
        if self.archive.pending(since_ms):
            try:
                return self._copied(self.archive.step(since_ms=since_ms))
            except EndpointError:
                # New sessions must not wait for one that can't be copied now.
                result = self._push_outbox(since_ms)
                if result.sessions or result.segments or result.asked:
                    return replace(result, more=True)
                raise
        result = self._push_outbox(since_ms)
        if result.more or not self.archive.pending():
            if not result.more:
                self.archive.close()
            return result
        if result.sessions or result.segments:
            return replace(result, more=True)  # the archive is next
        return self._copy_backlog(result)

    def _push_outbox(self, since_ms: int) -> BatchResult:
        """Push a batch of the outbox, the newest first. While the backlog is throttled, push only live changes."""
        throttle = self.throttle
        with self._resources.spool.reading():
            backlog = self._resources.spool.outbox.has_backlog(since_ms)
        self.throttled = backlog and not throttle.allows()
        self.state.set_waits(throttle.reason if backlog else None)
        if not backlog:
            # The limit on time excludes what joined the backlog since the check.
            result = upload(self.context, since_ms=since_ms, live_ms=since_ms)
            if not result.more:
                throttle.finish_backlog()
            return result
        if self.throttled or throttle.limits_upload:
            result = upload(self.context, since_ms=since_ms, live_ms=since_ms)
            if self.throttled or result.more or result.sessions or result.segments:
                return result
        before = self.client.sent_bytes
        result = upload(self.context, live_ms=since_ms, size=throttle.batch_size(BATCH_BYTES))
        throttle.record_sent(self.client.sent_bytes - before)
        return result

    def _copy_backlog(self, result: BatchResult) -> BatchResult:
        """Copy a batch of the archive as the throttle allows."""
        self.throttled = not self.throttle.allows()
        if self.throttled:
            return result
        before = self.client.sent_bytes
        copied = self._copied(self.archive.step(size=self.throttle.batch_size(BATCH_BYTES)))
        self.throttle.record_sent(self.client.sent_bytes - before)
        return copied

    def _copied(self, result: BatchResult) -> BatchResult:
        """Store the progress. Streams that waited for these sessions can be asked about now."""
        self._settled(result)
        return replace(result, more=True)

    def _settled(self, result: BatchResult) -> None:
        """Store the endpoint's health in the transaction that removes what it acknowledged from the outbox."""
        if result.sessions + result.segments:
            self.state.acknowledged(result.bytes)
