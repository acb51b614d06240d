"""The upload thread: pushes the outbox, then the built-in archive, to the endpoint."""

from __future__ import annotations

import time

from sessiond.daemon.messages import ConfigChanged, EraseForgotten, Hold, Inboxes, MoreRoom, Retry
from sessiond.daemon.pusher import Pusher
from sessiond.upload import BatchResult

PAUSED_CHECK = 900.0
"""Seconds between two checks whether the user's pause has ended. Its end wakes the loop anyway."""
LAST_PUSH = 5.0
"""Seconds that the last push before the end may take."""


class UploadLoop:
    """The loop that pushes. Other threads send it messages."""

    def __init__(self, pusher: Pusher, inboxes: Inboxes) -> None:
        self.pusher = pusher
        self._inboxes = inboxes
        self._paused = False
        self.iterations = 0
        """Incremented on each iteration; lets the watchdog tell a hung thread from an idle one."""

    def run(self) -> None:
        """Push until Stop."""
        self.pusher.state.store()  # `status` shows the address before anything was pushed
        while not self._inboxes.upload.stopped:
            self.step()

    def step(self) -> None:
        """Push one batch if one is due, or wait for a message or the time of the next attempt."""
        self.iterations += 1
        self.apply_messages()
        if not self._paused and self.pusher.state.wait_ms() <= 0:
            pace_left = self.pusher.pace_left()
            if pace_left:
                self._inboxes.upload.wait(pace_left)
                return
            if self.push_all():
                return
        self._inboxes.upload.wait(self.idle_seconds())

    def idle_seconds(self) -> float | None:
        """Return the seconds until the next push is due; None if only a message can give a reason for one."""
        return PAUSED_CHECK if self._paused else self.pusher.idle_seconds()

    def apply_messages(self) -> None:
        """Apply the messages of other threads. One that arrives during a push that then fails is applied after it."""
        causes = set()
        for message in self._inboxes.upload.take():
            if isinstance(message, Retry):
                causes.add(message.cause)
            elif isinstance(message, Hold):
                self._paused = message.paused
            elif isinstance(message, ConfigChanged):
                self.pusher.throttle.apply_limits(message.limits)
        self.pusher.try_sooner(causes)

    def push_all(self) -> bool:
        """Push one batch; return whether more can be pushed at once."""
        result = self.pusher.push()
        self.notify_capture(result)
        return result.more and self.pusher.state.health.next_attempt_ms is None

    def notify_capture(self, result: BatchResult) -> None:
        """Send the capture loop what follows for it from a push."""
        if result.forgotten:
            self._inboxes.capture.put(EraseForgotten())
        if self.pusher.makes_room():
            self._inboxes.capture.put(MoreRoom())

    def last_push(self) -> None:
        """Push once more before the end, if the last push succeeded. The rest stays in the outbox."""
        failing = self.pusher.state.health.next_attempt_ms is not None
        self.apply_messages()  # the user may have paused pushing just before
        if failing or self._paused:
            return
        until = time.monotonic() + LAST_PUSH
        self.pusher.client.limit(LAST_PUSH)
        while time.monotonic() < until and self.pusher.push().more:
            pass
