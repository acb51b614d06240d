"""Fixtures of the endpoint's tests: a real endpoint on loopback, and lines to push to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from endpoint_lines import Pusher
from stores import KINDS, move_all, new_store

from sessiond.endpoint.server import Running, offloader
from sessiond.endpoint.server.run import running_store

ON_FOUR_STORES = {
    "test_damaged_chunks",
    "test_push",
    "test_generations",
    "test_forget",
    "test_stream_digests",
    "test_keep_days",
}
ON_TWO_STORES = {"test_users", "test_invites", "test_reads", "test_quotas", "test_audit"}
"""Modules whose tests run on several kinds of store. Those about bytes run on all."""
ON_SQLITE = {
    "test_damage_behind_the_first_step_is_named_by_the_second_answer",
    "test_its_bytes_are_in_no_file",
    "test_it_is_never_stored_again",
    "test_sharing_copies_nothing",
}
"""Tests among them that read the files of a store in a directory, or that are about its rows."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of the endpoint's fixture on each kind of store."""
    module = metafunc.module.__name__
    if "endpoint" not in metafunc.fixturenames or metafunc.function.__name__ in ON_SQLITE:
        return
    if module in ON_FOUR_STORES:
        metafunc.parametrize("endpoint", KINDS, indirect=True)
    elif module in ON_TWO_STORES:
        metafunc.parametrize("endpoint", [KINDS[0], KINDS[-1]], indirect=True)


@pytest.fixture
def endpoint(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """Yield an endpoint with an empty store. One with objects moves all bytes there after each push."""
    kind = getattr(request, "param", KINDS[0])
    with new_store(kind, tmp_path / "endpoint") as store, running_store(store) as it:
        if store.blobs is not None:
            monkeypatch.setattr(offloader, "SMALLEST", 1)
            monkeypatch.setattr(Pusher, "pushed", staticmethod(lambda: move_all(store)))
        yield it


@pytest.fixture
def pusher(endpoint: Running) -> Iterator[Pusher]:
    """Yield a client of it that has the token."""
    with Pusher(endpoint.url, endpoint.token) as it:
        yield it
