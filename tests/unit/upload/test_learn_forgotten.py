"""The list of erased sessions that an endpoint answers."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from sessiond.endpoint.erasure import ForgottenAnswer, ForgottenSession
from sessiond.errors import NotFound
from sessiond.spool import Spool
from sessiond.spool.forgotten import KEPT_MS
from sessiond.spool.safety import BOUND, BOUND_ENDPOINT
from sessiond.upload import forgotten
from sessiond.upload.forgotten import learn_forgotten

CAPTURED = [str(uuid.UUID(int=number)) for number in range(3)]
ELSEWHERE = str(uuid.UUID(int=9))


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    """Yield a spool with three captured sessions."""
    with closing(Spool(str(tmp_path))) as made:
        made.set_meta(BOUND_ENDPOINT, "first")
        made.connection.executemany(
            "INSERT INTO session (uuid, tool, native_id, revision) VALUES (?, 'codex', ?, 1)",
            [(session, session) for session in CAPTURED],
        )
        yield made


class Endpoint:
    """Answers pages of erased sessions: the page after a position, the next position, and whether more follow."""

    def __init__(self, pages: Mapping[str | None, tuple[list[str], str, bool]]) -> None:
        self.pages, self.asked = pages, list[str | None]()

    def __call__(self, since: str | None) -> ForgottenAnswer:
        self.asked.append(since)
        if since not in self.pages:
            raise NotFound("no such position")
        sessions, following, more = self.pages[since]
        erased = [ForgottenSession(machine_id=None, id=uuid.UUID(session)) for session in sessions]
        return ForgottenAnswer(forgotten=erased, next=following, more=more)


def tombstones(spool: Spool) -> list[str]:
    return [row[0] for row in spool.connection.execute("SELECT session FROM forgotten ORDER BY session")]


def test_a_list_without_an_end_is_left_for_later(tmp_path: Path) -> None:
    """A lying endpoint always has more: pushing goes on, and the list is read on from there the next time."""
    asked: list[str | None] = []

    def list_forgotten(since: str | None) -> ForgottenAnswer:
        asked.append(since)
        return ForgottenAnswer(forgotten=[], next=str(len(asked)), more=True)

    with closing(Spool(str(tmp_path))) as spool:
        assert learn_forgotten(spool, list_forgotten, 0, "testbox") == 0
        assert len(asked) == forgotten.MOST_PAGES
        assert (spool.meta(forgotten.POSITION) or "").endswith(f" {forgotten.MOST_PAGES}")


def test_a_list_that_does_not_move_on_is_read_once(spool: Spool) -> None:
    endpoint = Endpoint({None: ([], "1", True), "1": ([], "1", True)})
    assert learn_forgotten(spool, endpoint, 0, "here") == 0
    assert endpoint.asked == [None, "1"]


def test_all_pages_are_read_and_only_captured_sessions_get_a_tombstone(spool: Spool) -> None:
    """The next time the list is read on from its end, and a session that has a tombstone is not new."""
    endpoint = Endpoint(
        {None: ([CAPTURED[0], ELSEWHERE], "1", True), "1": ([CAPTURED[1]], "2", False), "2": (CAPTURED, "3", False)}
    )
    assert learn_forgotten(spool, endpoint, 5, "here") == 2
    assert tombstones(spool) == CAPTURED[:2]
    rows = spool.connection.execute("SELECT DISTINCT learned, kept_until_ms FROM forgotten").fetchall()
    assert rows == [(1, 5 + KEPT_MS)]
    assert learn_forgotten(spool, endpoint, 6, "here") == 1
    assert endpoint.asked == [None, "1", "2"]
    assert tombstones(spool) == CAPTURED


def test_an_order_of_the_user_stays_one(spool: Spool) -> None:
    """The endpoint lists what this machine had erased there: nothing of it is kept for a while because of that."""
    with spool.transaction():
        spool.forgotten.order(CAPTURED[:1], 5, everywhere=True)
    assert learn_forgotten(spool, Endpoint({None: (CAPTURED[:1], "1", False)}), 6, "here") == 0
    assert not spool.forgotten.is_kept(CAPTURED[0])


@pytest.mark.parametrize(
    "change",
    [
        lambda spool: spool.set_meta(BOUND_ENDPOINT, "second"),
        lambda spool: spool.set_meta(forgotten.POSITION, "first 0 a-position-that-it-does-not-know"),
    ],
    ids=["another endpoint", "one that was restored from an older copy"],
)
def test_the_list_of_an_endpoint_that_does_not_know_the_position_is_read_whole(
    spool: Spool, change: Callable[[Spool], None]
) -> None:
    assert learn_forgotten(spool, Endpoint({None: (CAPTURED[:1], "1", False)}), 0, "here") == 1
    change(spool)
    assert learn_forgotten(spool, Endpoint({None: (CAPTURED[1:], "1", False)}), 0, "here") == 2
    assert tombstones(spool) == CAPTURED


def test_an_endpoint_without_such_a_list_is_no_error(spool: Spool) -> None:
    """It is one of an earlier version. A later one is asked from the beginning."""
    endpoint = Endpoint({})
    assert learn_forgotten(spool, endpoint, 0, "here") == 0
    assert endpoint.asked == [None]
    assert spool.meta(forgotten.POSITION) is None


@pytest.fixture(params=[False, True], ids=["endpoint", "archive"])
def archive(request: pytest.FixtureRequest, spool: Spool) -> bool:
    """Return whether the built-in archive is the endpoint. CAPTURED[0] was erased there."""
    archive = bool(request.param)
    with spool.transaction():
        spool.set_meta(BOUND, "" if archive else "https://sync.example")
        spool.forgotten.order(CAPTURED[:1], 5, everywhere=True)
        spool.forgotten.confirm(CAPTURED[0], 5, archive=archive)
    return archive


def test_an_erasure_that_is_not_listed_is_ordered_again(spool: Spool, archive: bool) -> None:
    """The endpoint was restored from a copy of before it, and the position before it is known there."""
    learn_forgotten(spool, Endpoint({None: ([ELSEWHERE], "1", False)}), 6, "here")
    assert spool.forgotten.due(9, archive=archive) == CAPTURED[:1]


def test_an_erasure_that_was_listed_is_not_ordered_again(spool: Spool, archive: bool) -> None:
    endpoint = Endpoint({None: (CAPTURED[:1], "1", False), "1": ([], "1", False)})
    for now_ms in (6, 7):
        learn_forgotten(spool, endpoint, now_ms, "here")
        assert spool.forgotten.due(9, archive=archive) == []
    assert endpoint.asked == [None, "1"]


def test_an_erasure_on_a_later_page_is_not_ordered_again(spool: Spool, archive: bool) -> None:
    endpoint = Endpoint({None: ([], "1", True), "1": (CAPTURED[:1], "2", False)})
    learn_forgotten(spool, endpoint, 6, "here")
    assert spool.forgotten.due(9, archive=archive) == []


def test_nothing_is_ordered_again_before_the_end_of_the_list(spool: Spool, archive: bool) -> None:
    learn_forgotten(spool, Endpoint({None: ([], "1", True), "1": ([], "1", True)}), 6, "here")
    assert spool.forgotten.due(9, archive=archive) == []


def test_an_endpoint_that_is_restored_later_is_ordered_again(spool: Spool, archive: bool) -> None:
    """It does not know the position any more, and what it had listed counts no longer."""
    learn_forgotten(spool, Endpoint({None: (CAPTURED[:1], "2", False)}), 6, "here")
    endpoint = Endpoint({None: ([], "1", False)})
    learn_forgotten(spool, endpoint, 7, "here")
    assert endpoint.asked == ["2", None]
    assert spool.forgotten.due(9, archive=archive) == CAPTURED[:1]


def test_an_endpoint_that_has_grown_since_it_was_restored_is_found_within_a_day(spool: Spool, archive: bool) -> None:
    """Others pushed to it, so it knows the position again. The clock may also be set back."""
    learn_forgotten(spool, Endpoint({None: (CAPTURED[:1], "2", False)}), 6, "here")
    endpoint = Endpoint({None: ([], "3", False), "2": ([], "3", False), "3": ([], "3", False)})
    learn_forgotten(spool, endpoint, 5 + forgotten.WHOLE_MS, "here")
    assert spool.forgotten.due(9, archive=archive) == []
    learn_forgotten(spool, endpoint, 6 + forgotten.WHOLE_MS, "here")
    assert spool.forgotten.due(9, archive=archive) == CAPTURED[:1]
    spool.forgotten.confirm(CAPTURED[0], 8, archive=archive)
    learn_forgotten(spool, endpoint, 1, "here")
    assert endpoint.asked == ["2", None, None]


def test_without_an_erasure_the_list_is_not_read_from_its_beginning(spool: Spool) -> None:
    """Nor if the endpoint alone says that a session was erased: nobody here could have it erased again."""
    endpoint = Endpoint({None: (CAPTURED[:1], "1", False), "1": ([], "1", False)})
    for now_ms in (6, 6 + forgotten.WHOLE_MS):
        learn_forgotten(spool, endpoint, now_ms, "here")
    assert endpoint.asked == [None, "1"]
    assert spool.forgotten.due(9, archive=False) == []
