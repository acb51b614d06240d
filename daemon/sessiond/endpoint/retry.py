"""A client that tries again: after a transient failure, and in halves where a request is refused as a whole.

Longer waits, which outlast a push and a restart, are decided in `daemon/outage.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar
from uuid import UUID

import msgspec

from sessiond.endpoint import wire
from sessiond.endpoint.client import Client
from sessiond.endpoint.push_size import PushSize
from sessiond.errors import EndpointError, Rejected, TooLarge, Unreachable

if TYPE_CHECKING:
    import tenacity

TRIES = 3
"""Attempts of one push. Longer waits are stored in the spool, so that they survive a restart."""
FIRST_WAIT, LONGEST_WAIT = 0.3, 3.0
"""Seconds: the longest wait before the second attempt, and before any later one (full jitter)."""
IDENTIFY_AGAIN = 3600.0
"""Seconds after which the endpoint is asked again who it is: it may have been restored from a backup meanwhile."""
Item = TypeVar("Item")


class Part(msgspec.Struct, Generic[Item], frozen=True, kw_only=True):
    """Items that were pushed in one request, with the endpoint's answer; or one item that it refuses."""

    items: Sequence[Item]
    answer: wire.PushAnswer | None = None
    refusal: EndpointError | None = None
    """Why a request with this item alone was refused as a whole. The endpoint may be at fault, not the item."""


class RetryingClient:
    """Wraps a client. Every request of the upload thread that stores something goes through it."""

    def __init__(
        self,
        client: Client,
        *,
        sleep: Callable[[float], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`sleep` waits between two attempts; it may return early when the daemon stops."""
        self._client = client
        self._sleep = sleep
        self._monotonic = monotonic
        self._retrying: tenacity.Retrying | None = None
        self._identified_at: float | None = None
        self._endpoint: UUID | None = None
        self._size = PushSize()
        self.features: frozenset[str] = frozenset()
        """What the endpoint supported when it was identified last."""
        self.push_interval = 0.0
        """Seconds that the endpoint asked for between two pushes when it was identified last."""

    @property
    def url(self) -> str:
        """The endpoint's address."""
        return self._client.url

    def about(self) -> wire.About:
        """Return the endpoint's id, limits and features, in one attempt. Raises: EndpointError."""
        self._identified_at = None
        about = self._client.about()
        self._identified_at = self._monotonic()
        self.features = frozenset(about.features)
        self.push_interval = about.pace.seconds if about.pace else 0.0
        if about.endpoint_id != self._endpoint:
            self._endpoint, self._size = about.endpoint_id, PushSize()
        return about

    def seconds_until_identification(self) -> float | None:
        """Return the seconds until `about` has to be asked again, 0 if at once; None if only another push is due then.

        Another endpoint may answer after each failure, so the time is not known then: the next push asks first.
        """
        if self._identified_at is None:
            return None
        return max(self._identified_at + IDENTIFY_AGAIN - self._monotonic(), 0.0)

    def must_identify(self) -> bool:
        """Return whether to ask `about` before the next push: at first, after a failure, on request, and hourly."""
        return not self.seconds_until_identification()

    def identify_again(self) -> None:
        """Ask for `about` again before the next push."""
        self._identified_at = None

    def offsets(self, machine_id: str, streams: Sequence[wire.StreamKey]) -> list[wire.RemotePosition | None]:
        """Return the endpoint's positions in streams, in one attempt; see `Client.offsets`. Raises: EndpointError."""
        return self._client.offsets(machine_id, streams)

    def push(
        self,
        items: Sequence[Item],
        prepare: Callable[[Sequence[Item]], tuple[list[wire.Push], str]],
        weigh: Callable[[Item], int] = lambda _: 1,
    ) -> Iterator[Part[Item]]:
        """Push items; yield each part with its answer, in order.

        A request that is refused as a whole (TooLarge, Rejected) is halved until the refused item is alone: a proxy
        may accept less at once than the endpoint, and one item may be what it objects to. What was accepted and refused
        is remembered for the next push (`PushSize`). If the endpoint refuses everything, the last items are not tried.

        `prepare` returns the lines of a part and the id of its push. It is called for each request, after the caller
        has applied the answer to the part before: the id depends on it. `weigh` returns about how much of a request
        an item is.

        Raises: EndpointError, another failure than a refusal. The parts yielded before it are stored.
        """
        size = self._size
        stack = [items] if items else []
        try:
            while stack and not size.hopeless:
                part = stack.pop()
                count = size.fitting(part, weigh)
                if count < len(part):
                    stack.append(part[count:])
                    part = part[:count]
                lines, batch = prepare(part)
                weight = sum(map(weigh, part))
                try:
                    answer = self._retry(self._client.push, lines, batch)
                except (TooLarge, Rejected) as error:
                    size.refuse(weight, alone=len(part) == 1)
                    if len(part) == 1:
                        yield Part(items=part, refusal=error)
                    else:
                        half = len(part) // 2
                        stack += [part[half:], part[:half]]
                    continue
                except EndpointError:
                    self.identify_again()
                    raise
                size.accept(weight)
                yield Part(items=part, answer=answer)
        finally:
            size.end()

    def _retry(
        self, push: Callable[[Sequence[wire.Push], str], wire.PushAnswer], lines: list[wire.Push], batch: str
    ) -> wire.PushAnswer:
        # Built once: building the policy takes longer than using it. Imported late: a daemon with nothing to push does
        # not need it.
        if self._retrying is None:
            import tenacity

            self._retrying = tenacity.Retrying(
                retry=tenacity.retry_if_exception(is_retried),
                stop=tenacity.stop_after_attempt(TRIES),
                wait=tenacity.wait_random_exponential(multiplier=FIRST_WAIT, max=LONGEST_WAIT),
                sleep=self._sleep,
                reraise=True,
            )
        return self._retrying(push, lines, batch)

    def limit(self, timeout: float) -> None:
        """Lower the timeout of later requests to `timeout` seconds, because the daemon is shutting down."""
        self._client.limit(timeout)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def is_retried(error: BaseException) -> bool:
    """Return whether a push is tried again at once: after a failure that is transient, unless a wait was asked for."""
    return isinstance(error, Unreachable) and error.retry_after is None
