"""The way of a push: admission, decoding, storing with others, and the device's dictionary.

Live pushes and bulk pushes never wait for the same resources. A live push is what a running session writes: a line or
a few. A bulk push is a part of a backlog, and may take a hundred megabytes of memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial

import anyio
import anyio.to_thread
import msgspec

from sessiond.endpoint import dictionary
from sessiond.endpoint.erasure import Receipt
from sessiond.endpoint.server import body
from sessiond.endpoint.server.admission import Admission
from sessiond.endpoint.server.batcher import Batcher
from sessiond.endpoint.server.decision import Sender
from sessiond.endpoint.server.dictionaries import Dictionaries, Pusher, copy_head
from sessiond.endpoint.server.erase import Order, erase
from sessiond.endpoint.server.last_uses import LastUses
from sessiond.endpoint.server.metrics import metric
from sessiond.endpoint.server.problems import HttpError
from sessiond.endpoint.server.push import PushOutcome, PushRequest
from sessiond.endpoint.server.store import Store
from sessiond.endpoint.server.upkeep import Upkeep
from sessiond.endpoint.wire import Limits

LIVE_SENT = 64 << 10
LIVE_DECODED = 512 << 10
"""Bytes of the largest live push, as sent and decoded. A larger one is a bulk push."""
PUSHES_OF_ONE = 16
"""Pushes of one client that are being handled at the same time."""
LIVE_WAITING = 1024
BULK_WAITING = 64
"""Pushes that are being handled at the same time. More than LIVE_WAITING connections are never open."""
BULK_AT_ONCE = 4
"""Bulk pushes that are in memory as decoded lines. Of live pushes, those are as many as one transaction stores."""


class ReceivedPush(msgspec.Struct, frozen=True, kw_only=True):
    """A push whose body is complete. `client` identifies whose share of the endpoint it uses."""

    sent: bytes
    encoding: str
    sender: Sender
    client: str

    @property
    def pusher(self) -> Pusher:
        """The user and the device."""
        return self.sender.access.user, self.sender.device


class _Body:
    """The body of a push, which decodes to at most `limit` bytes."""

    def __init__(self, received: ReceivedPush, dictionaries: Dictionaries, limits: Limits, limit: int) -> None:
        self._received, self._dictionaries, self._limits, self._limit = received, dictionaries, limits, limit
        self.next_dictionary = b""
        """The device's dictionary after this push. Set by `lines`."""

    def lines(self) -> list[bytes]:
        """Decode the lines. Raises: HttpError: 400, 413 or 415, the body can't be decoded."""
        known, sent, encoding = b"", self._received.sent, self._received.encoding
        if encoding == dictionary.ENCODING:
            known, sent = self._dictionaries.split(sent, self._received.pusher)
            encoding = "zstd"
        head = bytearray()
        decoded = copy_head(body.decode(sent, encoding, self._limit, known), head)
        lines = body.split_lines(decoded, self._limits.items)
        self.next_dictionary = dictionary.extended(known, bytes(head))
        return lines


class Pushes:
    """Handles the pushes of all devices. Use it from one event loop only."""

    def __init__(self, store: Store, limits: Limits, uses: LastUses) -> None:
        self._store, self._limits = store, limits
        self._batcher = Batcher(store, uses)
        self.upkeep = Upkeep(store)
        self._dictionaries = Dictionaries()
        self.lines: Counter[str] = Counter()
        """Lines so far by result: `stored`, `duplicate`, or the type of the problem."""
        self.sent_bytes = 0
        """Bytes of the bodies of stored pushes so far, as sent."""
        self._live = Admission(LIVE_WAITING, PUSHES_OF_ONE)
        self._bulk = Admission(BULK_WAITING, PUSHES_OF_ONE)
        self._bulk_at_once = anyio.Semaphore(BULK_AT_ONCE)
        self._bulk_threads = anyio.CapacityLimiter(BULK_AT_ONCE)

    async def store(self, received: ReceivedPush) -> PushOutcome:
        """Store the lines of a push and return their results, once they are on the disk.

        Raises:
            HttpError: 503, too many pushes are waiting; 400, 413 or 415, the body can't be decoded.
            WrongDevice, Revoked, StateError: see `Batcher.store`.
        """
        if len(received.sent) <= LIVE_SENT:
            try:
                return await self._store_live(received)
            except HttpError as error:
                if error.status != 413:
                    raise
        return await self._store_bulk(received)

    def metrics(self) -> Iterator[str]:
        """Iterate the lines of the metrics of pushes."""
        lines = [({"result": result}, count) for result, count in self.lines.items()]
        waiting = [({"class": name}, count) for name, count in self._batcher.waiting.items()]
        yield from metric("sessiond_push_lines_total", "counter", "Lines of pushes by their result.", lines)
        yield from metric("sessiond_push_bytes_total", "counter", "Bytes of pushes, as sent.", [({}, self.sent_bytes)])
        yield from metric(
            "sessiond_push_transactions_total", "counter", "Transactions of pushes.", [({}, self._batcher.transactions)]
        )
        yield from metric("sessiond_pushes_waiting", "gauge", "Pushes that wait for a transaction.", waiting)

    async def erase(self, order: Order, client: str) -> Receipt:
        """Erase a session, and the dictionaries that may have bytes of it. Raises: see `erase.erase`."""
        with self._bulk.admitted(client):
            receipt = await anyio.to_thread.run_sync(partial(erase, self._store, order), limiter=self._bulk_threads)
        self._dictionaries.clear(order.user or order.access.user)  # they have the last bytes that were pushed
        return receipt

    async def _store_live(self, received: ReceivedPush) -> PushOutcome:
        sent = _Body(received, self._dictionaries, self._limits, min(LIVE_DECODED, self._limits.decoded))
        push = PushRequest(self._store, self._limits, received.sender, sent.lines)
        with self._live.admitted(received.client):
            outcome = await self._batcher.store(push, live=True)
            if outcome.uncompared:
                outcome = outcome.with_compared(await self._store_compared(push))
            return self._stored(received, sent, outcome)

    async def _store_compared(self, push: PushRequest) -> PushOutcome:
        """Compare a repeated live push with bytes in the object store, and store it once more.

        An object store may take seconds. So this has neither a transaction nor the thread of live pushes. Lines that
        were stored the first time are duplicates now.
        """
        async with self._bulk_at_once:
            await anyio.to_thread.run_sync(push.compare, limiter=self._bulk_threads)
            return await self._batcher.store(push, live=False)

    async def _store_bulk(self, received: ReceivedPush) -> PushOutcome:
        sent = _Body(received, self._dictionaries, self._limits, self._limits.decoded)
        push = PushRequest(self._store, self._limits, received.sender)
        with self._bulk.admitted(received.client):
            async with self._bulk_at_once:
                await anyio.to_thread.run_sync(lambda: push.prepare(sent.lines()), limiter=self._bulk_threads)
                return self._stored(received, sent, await self._batcher.store(push, live=False))

    def _stored(self, received: ReceivedPush, sent: _Body, outcome: PushOutcome) -> PushOutcome:
        if outcome.results:
            self.upkeep.note_push()
            self.sent_bytes += len(received.sent)
            self.lines.update(each.problem.type if each.problem else each.status for each in outcome.results)
            self._dictionaries.keep(received.pusher, sent.next_dictionary)
        return outcome
