"""Fixtures of the endpoint's tests: a real endpoint on loopback, and lines to push to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from endpoint_lines import Pusher

from sessiond.endpoint.server import Running, running


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Running]:
    """Yield an endpoint with an empty store."""
    with running(str(tmp_path / "endpoint")) as it:
        yield it


@pytest.fixture
def pusher(endpoint: Running) -> Iterator[Pusher]:
    """Yield a client of it that has the token."""
    with Pusher(endpoint.url, endpoint.token) as it:
        yield it
