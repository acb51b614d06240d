"""The comparison of copies that may not be ours: when a failed one is tried again."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from sessiond.daemon import confirmation
from sessiond.daemon.confirmation import RETRY_SECONDS, Confirmation
from sessiond.errors import Unreachable
from support.clock import ManualClock


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> tuple[Confirmation, list[str]]:
    """Return a comparison whose second request fails, and the list of its requests."""
    requests: list[str] = []

    def confirm(*_: object) -> Iterator[None]:
        requests.append("first")
        yield
        requests.append("second")
        raise Unreachable("the endpoint does not answer")

    monkeypatch.setattr(confirmation, "confirm", confirm)
    return Confirmation(SimpleNamespace(clock=ManualClock())), requests  # type: ignore[arg-type]


def test_a_comparison_that_failed_is_tried_again_later(failing: tuple[Confirmation, list[str]]) -> None:
    """Each failure is a request to an endpoint that may be in trouble."""
    made, requests = failing
    assert made.idle_seconds() is None
    assert [made.step(), made.step(), made.step()] == [True, False, False]
    left = made.idle_seconds()
    assert left == RETRY_SECONDS
    assert requests == ["first", "second"]


def test_the_user_can_ask_for_the_comparison(failing: tuple[Confirmation, list[str]]) -> None:
    """It begins at once then, whatever failed before."""
    made, requests = failing
    made.step()
    made.step()
    made.try_again()
    assert made.idle_seconds() is None
    assert made.step()
    assert requests == ["first", "second", "first"]
