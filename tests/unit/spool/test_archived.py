"""The archive's sessions in the spool: which are to be copied, and what counts as acknowledged afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest

from sessiond.spool import Spool
from sessiond.spool.archive_counts import count_archive
from sessiond.spool.archived import ArchivedSession, CopiedStream
from sessiond.spool.rows import StreamState

FIRST, SECOND = UUID(int=1), UUID(int=2)
ARCHIVE, ENDPOINT = "the archive's id", "the endpoint's id"


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with closing(Spool(str(tmp_path))) as made:
        yield made


def entry(session: UUID, *, machine: str = "ada", size: int = 100, active_ms: int = 5_000) -> ArchivedSession:
    return ArchivedSession(session=session, machine_id=machine, bytes=size, active_ms=active_ms)


def pending(spool: Spool) -> list[tuple[UUID, str]]:
    return [(each.session, each.machine_id) for each in spool.archived.pending(10)]


def captured(spool: Spool) -> StreamState:
    """Capture a stream of 100 bytes in generation 1, of which the archive acknowledged 80, and leave the archive."""
    catalog = spool.catalog
    stream = catalog.add_stream(catalog.add_session(FIRST, "codex", "one"), "main", thread=True, known=True)
    stream.generation, stream.folded, stream.queued = 1, 100, 100
    catalog.save_stream(stream)
    catalog.set_position(stream.id, 1, 100, 80, None)
    catalog.change_endpoint(ARCHIVE, ENDPOINT)
    return catalog.stream(stream.id)


def copied(spool: Spool, lengths: dict[int, int], shift: int = 0) -> StreamState:
    """Mark the session of `captured` as copied; return its stream."""
    spool.archived.mark_copied(entry(FIRST), ARCHIVE, [CopiedStream(name="main", lengths=lengths, shift=shift)])
    found = spool.catalog.find_stream(FIRST, "main")
    assert found is not None
    return found


def test_sessions_wait_no_longer_for_an_archive_that_can_not_be_read(spool: Spool) -> None:
    """Their own files are pushed then. A retry includes those that were not copied, and no others."""
    spool.archived.add([entry(FIRST), entry(SECOND)])
    spool.archived.mark_copied(entry(FIRST), ARCHIVE, [])
    spool.archived.fail("the archive is damaged")
    assert not spool.archived.has_pending()
    assert count_archive(spool.connection).problem == "the archive is damaged"
    assert spool.archived.retry() == 1
    assert pending(spool) == [(SECOND, "ada")]
    assert count_archive(spool.connection).problem is None


def test_a_refused_session_stops_no_other(spool: Spool) -> None:
    """A refusal concerns one session of one machine; another machine's session with the same id goes on."""
    spool.archived.add([entry(FIRST), entry(FIRST, machine="bob"), entry(SECOND)])
    spool.archived.refuse(entry(FIRST), "too large")
    assert sorted(pending(spool)) == [(FIRST, "bob"), (SECOND, "ada")]
    counts = count_archive(spool.connection)
    assert (counts.sessions, counts.pending, counts.refused, counts.reason) == (3, 3, 1, "too large")


def test_a_copy_of_one_machine_is_not_that_of_another(spool: Spool) -> None:
    """Both have sessions with this id."""
    spool.archived.add([entry(FIRST), entry(FIRST, machine="bob", size=30)])
    spool.archived.mark_copied(entry(FIRST), ARCHIVE, [])
    assert pending(spool) == [(FIRST, "bob")]
    counts = count_archive(spool.connection)
    assert (counts.bytes, counts.pending_bytes, counts.only_bytes, counts.only_pending_bytes) == (130, 30, 130, 30)


def test_a_session_without_a_record_is_copied_again_only_if_it_grew(spool: Spool) -> None:
    spool.archived.add_unlisted([entry(FIRST), entry(SECOND)])
    for each in (FIRST, SECOND):
        spool.archived.mark_copied(entry(each), ARCHIVE, [])
    spool.archived.add_unlisted([entry(FIRST), entry(SECOND, size=101)])
    assert pending(spool) == [(SECOND, "ada")]


def test_the_most_recently_active_sessions_are_copied_first(spool: Spool) -> None:
    """A session that continued since the archive was replaced is as recent as its last activity."""
    third = UUID(int=3)
    number = spool.catalog.add_session(FIRST, "codex", "one")
    spool.connection.execute("UPDATE session SET active_ms = 9000 WHERE id = ?", (number,))
    spool.archived.add([entry(FIRST, active_ms=1_000), entry(SECOND, active_ms=8_000), entry(third, active_ms=7_000)])
    assert [each.session for each in spool.archived.pending(2)] == [FIRST, SECOND]
    assert [each.session for each in spool.archived.pending(9, since_ms=8_000)] == [FIRST, SECOND]
    assert spool.archived.pending(1)[0].active_ms == 9_000


def test_what_the_archive_acknowledged_and_has_counts_at_the_endpoint(spool: Spool) -> None:
    """It counts under the endpoint's number of the generation."""
    before = captured(spool)
    assert (before.generation, before.acked, before.unproven) == (1, 0, True)
    after = copied(spool, {0: 50, 1: 90}, shift=2)
    assert (after.generation, after.acked, after.unproven) == (3, 80, False)


def test_what_a_restored_archive_lacks_is_not_called_safe(spool: Spool) -> None:
    captured(spool)
    assert copied(spool, {1: 70}).acked == 70


def test_a_generation_that_the_archive_lacks_is_compared_with_the_endpoint(spool: Spool) -> None:
    """The copy of an earlier generation shows nothing about the current one."""
    captured(spool)
    after = copied(spool, {0: 50})
    assert (after.generation, after.acked, after.unproven) == (1, 0, True)


@pytest.mark.parametrize(("shift", "acked"), [(0, 80), (2, 0)])
def test_a_stream_with_queued_items_keeps_its_number(spool: Spool, shift: int, acked: int) -> None:
    """Queued items have the old number, so the stream is compared with an endpoint that uses another one."""
    stream = captured(spool)
    spool.outbox.add(stream.id, 1, 80, 20, b"a frame", 5_000)
    after = copied(spool, {1: 90}, shift)
    assert (after.generation, after.acked, after.unproven) == (1, acked, acked == 0)


def test_an_endpoint_that_comes_back_lacks_what_it_never_acknowledged(spool: Spool) -> None:
    """Each endpoint lacks its own part of the bytes that a rewrite destroyed."""
    stream = captured(spool)
    spool.catalog.set_position(stream.id, 1, 100, 50, None)
    spool.catalog.leave_generation(stream.id, 1, [(50, 100)])

    def lost() -> int:
        return int(spool.connection.execute("SELECT lost FROM stream").fetchone()[0])

    assert lost() == 50
    spool.catalog.change_endpoint(ENDPOINT, ARCHIVE)
    assert lost() == 20
    assert spool.catalog.stream(stream.id).acked == 80
    spool.catalog.change_endpoint(ARCHIVE, ENDPOINT)
    assert lost() == 50


def test_a_session_that_is_not_to_be_copied_waits_no_longer(spool: Spool) -> None:
    """The user erased it. One of the same id on another machine is another session."""
    spool.archived.add([entry(FIRST), entry(FIRST, machine="bob"), entry(SECOND)])
    spool.archived.remove(entry(FIRST))
    assert sorted(pending(spool)) == [(FIRST, "bob"), (SECOND, "ada")]


def test_only_the_session_that_the_endpoint_lacks_is_copied_again(spool: Spool) -> None:
    others = [entry(FIRST, machine="bob"), entry(SECOND)]
    spool.archived.add([entry(FIRST), *others])
    for each in (entry(FIRST), *others):
        spool.archived.mark_copied(each, ARCHIVE, [])
    spool.archived.copy_again(entry(FIRST))
    assert pending(spool) == [(FIRST, "ada")]


def test_what_the_archive_dropped_is_not_safe_there_any_more(spool: Spool) -> None:
    """Of another session, what the archive acknowledged counts as before when it is the endpoint again."""
    stream = captured(spool)
    spool.archived.add([entry(FIRST), entry(SECOND)])
    spool.archived.mark_dropped(entry(SECOND), ARCHIVE)
    assert pending(spool) == [(FIRST, "ada")]
    spool.catalog.change_endpoint(ENDPOINT, ARCHIVE)
    assert spool.catalog.stream(stream.id).acked == 80
    spool.catalog.change_endpoint(ARCHIVE, ENDPOINT)
    spool.archived.mark_dropped(entry(FIRST), ARCHIVE)
    assert pending(spool) == []
    spool.catalog.change_endpoint(ENDPOINT, ARCHIVE)
    assert spool.catalog.stream(stream.id).acked == 0


def test_only_copied_sessions_that_are_old_on_both_sides_may_be_dropped(spool: Spool) -> None:
    """One that goes on here is recent, whatever the archive has of it. One that is not copied exists nowhere else."""
    number = spool.catalog.add_session(SECOND, "codex", "two")
    spool.connection.execute("UPDATE session SET active_ms = 9000 WHERE id = ?", (number,))
    third, fourth = UUID(int=3), UUID(int=4)
    spool.archived.add([entry(FIRST), entry(SECOND), entry(third, active_ms=7_000), entry(fourth)])
    for session in (FIRST, SECOND, third):
        spool.archived.mark_copied(entry(session), ARCHIVE, [])

    def old(before_ms: int, limit: int = 9) -> list[UUID]:
        return sorted(each.session for each in spool.archived.old(before_ms, limit))

    assert old(5_000) == []
    assert old(5_001) == old(7_000) == [FIRST]
    assert old(9_000) == [FIRST, third]
    assert old(9_001) == [FIRST, SECOND, third]
    assert len(old(9_001, 2)) == 2
