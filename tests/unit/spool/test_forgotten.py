"""Tombstones, and what is left at an endpoint of excluded projects."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest

from sessiond.spool import Spool
from sessiond.spool.forgotten import KEPT_MS, count_erasures
from sessiond.spool.safety import BOUND_ENDPOINT

FIRST = UUID(int=1)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with closing(Spool(str(tmp_path))) as made:
        yield made


@pytest.mark.parametrize("everywhere", [True, False])
def test_an_order_to_erase_everywhere_is_not_taken_back_by_one_for_here(spool: Spool, everywhere: bool) -> None:
    spool.forgotten.order([str(FIRST)], 1, everywhere=everywhere)
    spool.forgotten.order([str(FIRST)], 2, everywhere=False)
    assert spool.forgotten.due(9, archive=False) == ([str(FIRST)] if everywhere else [])
    spool.forgotten.order([str(FIRST)], 3, everywhere=True)
    assert spool.forgotten.due(9, archive=False) == [str(FIRST)]


@pytest.mark.parametrize(("pushed", "acked", "left"), [(0, 0, False), (1, 0, True), (0, 7, True)])
def test_only_what_the_endpoint_has_of_an_excluded_session_is_noted(
    spool: Spool, pushed: int, acked: int, left: bool
) -> None:
    session = spool.catalog.add_session(FIRST, "codex", "one")
    stream = spool.catalog.add_stream(session, "main", thread=True, known=True)
    spool.connection.execute("UPDATE session SET pushed = ?", (pushed,))
    spool.connection.execute("UPDATE stream SET folded = 9, acked = ? WHERE id = ?", (acked, stream.id))
    spool.set_meta(BOUND_ENDPOINT, "the endpoint's id")
    spool.forgotten.note_left(session)
    spool.catalog.forget_session(session)
    assert spool.forgotten.left_at_endpoint() == ([str(FIRST)] if left else [])


def test_a_session_that_two_endpoints_have_still_to_erase_counts_once(spool: Spool) -> None:
    spool.forgotten.order([str(FIRST)], 1, everywhere=True)
    erasures = count_erasures(spool.connection, archive=True)
    assert (erasures.endpoint, erasures.archive, erasures.waiting) == (1, 1, 1)
    spool.forgotten.order([str(UUID(int=2))], 1, everywhere=False)
    assert count_erasures(spool.connection, archive=True).waiting == 2
    assert count_erasures(spool.connection, archive=False).waiting == 1


def test_what_an_endpoint_lists_as_erased_is_kept_for_a_while_in_the_archive_too(spool: Spool) -> None:
    """Until then nothing is due there; an order of the user makes it due at once."""
    spool.forgotten.learn(str(FIRST), 5)
    assert (spool.forgotten.due(9, archive=True), spool.forgotten.due(9, archive=False)) == ([], [])
    assert count_erasures(spool.connection, archive=True).kept == 1
    assert count_erasures(spool.connection, archive=False).kept == 0
    assert spool.forgotten.expire(4 + KEPT_MS) == 0
    assert spool.forgotten.expire(5 + KEPT_MS) == 1
    assert spool.forgotten.due(9, archive=True) == [str(FIRST)]
    second = str(UUID(int=2))
    spool.forgotten.learn(second, 5)
    spool.forgotten.order([second], 6, everywhere=False)
    assert spool.forgotten.due(9, archive=True) == [str(FIRST), second]


def test_an_order_of_the_user_is_not_weakened_by_what_an_endpoint_lists(spool: Spool) -> None:
    """The session stays to be erased at once, here and at each endpoint."""
    spool.forgotten.order([str(FIRST)], 5, everywhere=True)
    spool.forgotten.learn(str(FIRST), 6)
    assert not spool.forgotten.is_kept(str(FIRST))
    assert not spool.forgotten.release(str(FIRST))
    assert spool.forgotten.due(9, archive=False) == [str(FIRST)]
    spool.forgotten.confirm(str(FIRST), 7, archive=False)
    spool.catalog.change_endpoint("one", "another")
    assert spool.forgotten.due(9, archive=False) == [str(FIRST)]


def test_tombstones_of_an_earlier_version_are_read(spool: Spool) -> None:
    """A damaged spool may have its tables: what was erased stays so."""
    spool.forgotten.order([str(FIRST)], 5, everywhere=True)
    for column in ("learned", "kept_until_ms"):
        spool.connection.execute(f"ALTER TABLE forgotten DROP COLUMN {column}")
    assert spool.forgotten.rows() == [(str(FIRST), 1, 5, None, None, 0, None)]
