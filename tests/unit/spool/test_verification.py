"""Which records and streams the endpoint has according to the spool, for `verify` and the daily comparison."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond.spool.verification import Claims
from support.harness import CLAUDE, SESSION, DaemonHarness, claude, daemon_harness


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path) as made:
        yield made


def claimed(harness: DaemonHarness) -> list[tuple[str, str]]:
    """Return the claimed records, with an empty name, and streams."""
    return [(claim.session, claim.name) for claim in Claims(harness.spool.connection).claims()]


def test_what_was_acknowledged_is_claimed(harness: DaemonHarness) -> None:
    """The record and the stream, until more of them is captured than acknowledged."""
    path = harness.write(CLAUDE, claude(SESSION, 1))
    harness.ingest(path)
    claims = Claims(harness.spool.connection)
    assert claimed(harness) == []
    assert claims.next_stream(0) is None
    harness.settle()
    assert claimed(harness) == [(SESSION, ""), (SESSION, "main")]
    first = claims.next_stream(0)
    assert first is not None
    assert (first.session, first.name) == (SESSION, "main")
    assert claims.stands(first)
    harness.ingest(harness.write(CLAUDE, claude(SESSION, 2)))
    assert claimed(harness) == []
    assert claims.next_stream(0) is None
    assert not claims.stands(first)
