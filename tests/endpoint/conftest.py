"""Fixtures of the endpoint's tests: a real endpoint on loopback, and lines to push to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from endpoint_lines import Pusher
from postgres import new_database

from sessiond.endpoint.server import Running, running
from sessiond.endpoint.server.opening import open_url
from sessiond.endpoint.server.run import running_store

ON_EACH_STORE = {
    "test_push",
    "test_generations",
    "test_users",
    "test_forget",
    "test_invites",
    "test_reads",
    "test_quotas",
    "test_audit",
}
"""Modules whose tests run on each kind of store."""
ON_SQLITE = {"test_its_bytes_are_in_no_file", "test_it_is_never_stored_again"}
"""Tests among them that read the files of a store in a directory, or open it again."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of the endpoint's fixture on each kind of store."""
    on_each = metafunc.module.__name__ in ON_EACH_STORE and metafunc.function.__name__ not in ON_SQLITE
    if "endpoint" in metafunc.fixturenames and on_each:
        metafunc.parametrize("endpoint", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def endpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    """Yield an endpoint with an empty store."""
    if getattr(request, "param", "sqlite") == "sqlite":
        with running(str(tmp_path / "endpoint")) as it:
            yield it
        return
    with new_database() as url, closing(open_url(url)) as store, running_store(store) as it:
        yield it


@pytest.fixture
def pusher(endpoint: Running) -> Iterator[Pusher]:
    """Yield a client of it that has the token."""
    with Pusher(endpoint.url, endpoint.token) as it:
        yield it
