"""Live pushes wait for those of other devices, for a moment and only where others come."""

import asyncio
from collections.abc import Coroutine
from uuid import UUID

import pytest

from sessiond.endpoint.server import gathering
from sessiond.endpoint.server.gathering import Gathering

DEVICES = [UUID(int=number) for number in range(5)]


class Waiting:
    """Live pushes that wait, and a transaction that takes all of them."""

    def __init__(self, most: int = 100) -> None:
        self.gathering = Gathering(most)
        self.pushes = 0
        self.since = 0.0

    def push(self, *devices: UUID) -> None:
        """Add a push of each device."""
        for device in devices:
            if not self.pushes:
                self.since = asyncio.get_running_loop().time()
            self.pushes += 1
            self.gathering.note(device, self.pushes)

    async def gather(self) -> int:
        """Wait as the next transaction does; return the pushes that it stores."""
        await self.gathering.wait(self.pushes, self.since)
        stored, self.pushes = self.pushes, 0
        return stored


def run(test: Coroutine[None, None, None], monkeypatch: pytest.MonkeyPatch, linger: float) -> None:
    """Run a test in which pushes wait for `linger` seconds."""
    monkeypatch.setattr(gathering, "LINGER", linger)
    asyncio.run(test)


def test_a_device_that_pushes_alone_never_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long wait would not end within this test."""

    async def alone() -> None:
        waiting = Waiting()
        for _ in range(3):
            waiting.push(DEVICES[0])
            assert await waiting.gather() == 1

    run(alone(), monkeypatch, 1000)


def test_a_push_waits_until_the_other_devices_have_pushed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The transaction begins with the last of them."""

    async def together() -> None:
        waiting = Waiting()
        waiting.push(*DEVICES)
        assert await waiting.gather() == 5
        gathered = asyncio.create_task(waiting.gather())
        for device in DEVICES:
            await asyncio.sleep(0)
            assert not gathered.done()
            waiting.push(device)
        assert await gathered == 5

    run(together(), monkeypatch, 1000)


def test_a_transaction_is_not_awaited_beyond_what_it_may_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """More devices than `most` push all the time."""

    async def full() -> None:
        waiting = Waiting(most=3)
        waiting.push(*DEVICES)
        assert await waiting.gather() == 5
        waiting.push(*DEVICES[:3])
        assert await waiting.gather() == 3

    run(full(), monkeypatch, 1000)


def test_a_device_that_does_not_come_again_is_awaited_for_a_moment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first push waits no longer than LINGER, and the missing device is soon forgotten."""

    async def missing() -> None:
        waiting = Waiting()
        waiting.push(*DEVICES[:2])
        assert await waiting.gather() == 2
        waiting.push(DEVICES[0])
        begun = asyncio.get_running_loop().time()
        assert await waiting.gather() == 1
        assert asyncio.get_running_loop().time() - begun >= 0.04
        waiting.push(DEVICES[0])
        gathered = asyncio.create_task(waiting.gather())
        await asyncio.sleep(0)
        assert gathered.done()

    run(missing(), monkeypatch, 0.05)


def test_devices_that_stay_away_take_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """While bulk pushes wait, no live push waits for others. A client may send each push as another device."""

    async def many() -> None:
        waiting = Waiting()
        for number in range(1000):
            waiting.push(UUID(int=number))
        assert len(waiting.gathering._recent) <= 1

    run(many(), monkeypatch, -1)
