"""How far streams were read, queued and acknowledged: which are read again first, and when one is reconciled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest
from msgspec.structs import replace

from sessiond.endpoint.wire import RemotePosition
from sessiond.errors import SpoolDamaged
from sessiond.spool import Spool
from sessiond.spool.confirmation import Confirmations
from sessiond.spool.rows import FileState, StreamState
from sessiond.spool.safety import State
from sessiond.spool.verification import Claim, Claims
from sessiond.upload.read_back import distrust

SESSION = UUID(int=1)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with closing(Spool(str(tmp_path))) as made:
        yield made


def add(spool: Spool, name: str = "main", *, folded: int = 100, queued: int = 100, rank: int = 0) -> StreamState:
    """Add a stream whose queued bytes the endpoint acknowledged."""
    stream = spool.catalog.add_stream(spool.catalog.add_session(SESSION, "codex", "one"), name, thread=True, known=True)
    stream.folded, stream.queued, stream.rank = folded, queued, rank
    spool.catalog.save_stream(stream)
    spool.catalog.set_position(stream.id, 0, queued, queued, None)
    return spool.catalog.stream(stream.id)


def position(length: int, generation: int = 0) -> RemotePosition:
    return RemotePosition(session=SESSION, stream="main", generation=generation, length=length, sha256=None)


def test_streams_that_the_endpoint_lacks_are_read_before_postponed_ones(spool: Spool) -> None:
    """Items that fill the outbox may be waiting behind it."""
    full = add(spool, "full", queued=50, rank=9)
    gap, held = add(spool, "gap", rank=1), add(spool, "held", rank=2)
    add(spool, "complete", rank=10)
    assert not spool.catalog.has_behind(urgent=True)
    assert spool.catalog.has_behind()
    spool.catalog.set_position(gap.id, 0, 100, 100, (10, 50))
    assert spool.catalog.has_behind(urgent=True)
    spool.catalog.set_remote_position(held.id, position(60))
    assert spool.catalog.behind(9) == [held.id, gap.id, full.id]
    assert spool.catalog.behind(1) == [held.id]


def test_a_position_to_reconcile_is_urgent(spool: Spool) -> None:
    """Nothing else of the stream is sent before it is reconciled."""
    stream = add(spool)
    assert not spool.catalog.has_behind()
    spool.catalog.set_remote_position(stream.id, position(60))
    assert spool.catalog.has_behind(urgent=True)


def test_progress_grows_with_each_step_of_a_repair(spool: Spool) -> None:
    """If it did not grow, the capture would take a repair of many steps for one that is stuck."""
    stream = add(spool)
    spool.catalog.set_position(stream.id, 0, 100, 100, (10, 50))
    spool.catalog.set_remote_position(stream.id, position(60))
    steps = [spool.catalog.progress(stream.id)]
    spool.catalog.set_remote_position(stream.id, None)
    steps.append(spool.catalog.progress(stream.id))
    for filled in (30, 50):
        spool.catalog.fill_gap(stream.id, 50, filled)
        steps.append(spool.catalog.progress(stream.id))
    assert steps == [(59, True), (60, True), (80, True), (100, False)]
    assert spool.catalog.progress(stream.id + 1) == (0, False)


def test_a_gap_is_filled_up_to_its_end(spool: Spool) -> None:
    """A step that belongs to an earlier gap changes nothing."""
    stream = add(spool)
    spool.catalog.set_position(stream.id, 0, 100, 100, (10, 50))
    spool.catalog.fill_gap(stream.id, 51, 40)
    assert spool.catalog.stream(stream.id).gap == (10, 50)
    spool.catalog.fill_gap(stream.id, 50, 49)
    assert spool.catalog.stream(stream.id).gap == (49, 50)
    spool.catalog.fill_gap(stream.id, 50, 50)
    assert spool.catalog.stream(stream.id).gap is None


@pytest.mark.parametrize(
    ("change", "length", "generation", "reconciled"),
    [
        ("", 100, 0, True),
        ("", 99, 0, False),
        ("", 101, 0, False),
        ("", 100, 1, False),
        ("acked = 99", 100, 0, False),
        ("folded = 101", 100, 0, False),
        ("queued = 99", 100, 0, False),
        ("waiting = 1", 100, 0, False),
        ("lost = 1", 100, 0, False),
        ("unproven = 1", 100, 0, False),
    ],
)
def test_only_exactly_what_was_acknowledged_needs_no_comparison(
    spool: Spool, change: str, length: int, generation: int, reconciled: bool
) -> None:
    """Anything else at the endpoint is compared with the file before it is trusted."""
    stream = add(spool)
    spool.connection.execute(f"UPDATE stream SET {change or 'known = 0'}")
    spool.catalog.set_unknown(stream.id)
    spool.catalog.set_remote_position(stream.id, position(length, generation))
    after = spool.catalog.stream(stream.id)
    assert after.known
    assert after.remote_position == (None if reconciled else position(length, generation))


def test_a_reconciled_stream_is_trusted(spool: Spool) -> None:
    stream = add(spool)
    spool.connection.execute("UPDATE stream SET unproven = 1, known = 0")
    spool.catalog.set_remote_position(stream.id, None)
    after = spool.catalog.stream(stream.id)
    assert (after.known, after.unproven, after.remote_position) == (True, False, None)


@pytest.mark.parametrize("change", ["generation = 1", "folded = 101", "queued = 99", "acked = 99", "held"])
def test_a_position_that_another_thread_changed_is_noticed(spool: Spool, change: str) -> None:
    """A step that was computed from the old position must not be stored."""
    stream = add(spool)
    assert spool.catalog.is_at(stream)
    if change == "held":
        spool.catalog.set_remote_position(stream.id, position(60))
    else:
        spool.connection.execute(f"UPDATE stream SET {change}")
    assert not spool.catalog.is_at(stream)
    assert spool.catalog.is_at(spool.catalog.stream(stream.id))
    spool.connection.execute("DELETE FROM stream")
    assert not spool.catalog.is_at(stream)


def test_a_record_names_the_streams_that_are_kept(spool: Spool) -> None:
    """Streams without captured bytes and streams that are not pushed are left out."""
    add(spool, "main", folded=7, queued=0)
    add(spool, "empty", folded=0, queued=0)
    skipped = add(spool, "skipped")
    spool.connection.execute("UPDATE stream SET skipped = 0 WHERE id = ?", (skipped.id,))
    found = spool.catalog.lengths(skipped.session)
    assert [(each.name, each.generation, each.length) for each in found] == [("main", 0, 7)]


def test_a_new_generation_has_what_it_shares_and_no_gap(spool: Spool) -> None:
    """It may share more than was acknowledged."""
    stream = add(spool)
    spool.catalog.set_position(stream.id, 0, 100, 60, (10, 50))
    for shared, acked in ((70, 60), (40, 40)):
        spool.catalog.restart(stream.id, shared)
        after = spool.catalog.stream(stream.id)
        assert (after.acked, after.gap) == (acked, None)


def test_a_stream_that_is_given_up_waits_for_nothing(spool: Spool) -> None:
    stream = add(spool, queued=60)
    spool.catalog.set_position(stream.id, 0, 60, 60, (10, 50))
    spool.catalog.set_remote_position(stream.id, position(60))
    spool.catalog.give_up(stream.id)
    assert not spool.catalog.has_behind()
    after = spool.catalog.stream(stream.id)
    assert (after.queued, after.acked, after.given_up) == (100, 60, True)


def test_the_streams_of_a_session_are_returned_oldest_first(spool: Spool) -> None:
    """The stream that is being captured is returned as its working copy."""
    first, second, third = add(spool, "main"), add(spool, "agents/b"), add(spool, "agents/a")
    second.folded = 500
    found = spool.catalog.streams(first.session, second)
    assert [(each.id, each.folded) for each in found] == [(first.id, 100), (second.id, 500), (third.id, 100)]
    assert len(spool.catalog.streams(first.session)) == 3


def test_unknown_record_types_are_shown_per_tool(spool: Spool) -> None:
    """`status` lists a tool's unknown record types, and counts its damaged records, until they can be read."""
    stream = add(spool)
    spool.connection.execute("UPDATE session SET record = '{}'")
    for unknown, damaged in ((["b", "a"], 2), ([], 0)):
        stream.fold.unknown = dict.fromkeys(unknown, 1)
        stream.fold.damaged = damaged
        spool.catalog.save_stream(stream)
        (tool,) = spool.stats.tools()
        assert (tool.unknown, tool.damaged) == (sorted(unknown), damaged)


def test_unknown_record_types_show_the_version_that_brought_them(spool: Spool) -> None:
    """The user sees which update of the tool brought the unknown records."""
    for number, version in ((1, "2.0"), (2, "1.9"), (3, "1.0")):
        session = spool.catalog.add_session(UUID(int=number), "codex", str(number))
        stream = spool.catalog.add_stream(session, "main", thread=True, known=True)
        stream.fold.unknown = {"a": 1} if number < 3 else {}
        spool.catalog.save_stream(stream)
        record = f'{{"tool_version":"{version}","started_at":"2026-0{4 - number}-01T00:00:00Z"}}'
        spool.connection.execute("UPDATE session SET record = CAST(? AS BLOB) WHERE id = ?", (record, session))
    (tool,) = spool.stats.tools()
    assert tool.unknown_since == "1.9"


def test_a_session_that_is_gone_is_reported_once(spool: Spool) -> None:
    """Each report makes a new revision of its record."""
    session = spool.catalog.add_session(SESSION, "codex", "one")
    assert [spool.catalog.set_gone(session, gone_ms) for gone_ms in (None, 5, 6, None, None)] == [
        False,
        True,
        False,
        True,
        False,
    ]


def test_a_value_that_can_not_be_decoded_is_damage(spool: Spool) -> None:
    """The spool is rebuilt then. Anything else would end the daemon at each start."""
    stream = add(spool)
    spool.connection.execute("UPDATE session SET record = '[]'")
    with pytest.raises(SpoolDamaged):
        spool.catalog.session(SESSION)
    spool.connection.execute("UPDATE stream SET held = x'c1'")
    with pytest.raises(SpoolDamaged):
        spool.catalog.stream(stream.id)


def test_the_pin_of_a_file_is_its_own(spool: Spool) -> None:
    for name in ("one", "two"):
        spool.catalog.save_file(FileState(path=f"/{name}", tool="codex", pin=None))
        spool.catalog.save_pin(f"/{name}", f"pin of {name}")
    assert spool.catalog.pins() == {"pin of one", "pin of two"}
    spool.catalog.save_pin("/one", None)
    assert spool.catalog.pins() == {"pin of two"}


def test_ongoing_sessions_become_idle_in_the_order_of_their_activity(spool: Spool) -> None:
    """Sessions that have ended don't count."""
    assert spool.catalog.next_idle_ms() is None
    rows = [spool.catalog.add_session(UUID(int=number), "codex", str(number)) for number in range(4)]
    for row, active_ms, ongoing in zip(rows, (500, 300, 400, 100), (1, 1, 1, 0), strict=True):
        spool.connection.execute(
            "UPDATE session SET active_ms = ?, ongoing = ? WHERE id = ?", (active_ms, ongoing, row)
        )
    assert spool.catalog.next_idle_ms() == 300
    assert [spool.catalog.idle(before_ms) for before_ms in (299, 300, 400)] == [[], rows[1:2], rows[1:3]]


def test_the_oldest_queued_item_counts(spool: Spool) -> None:
    """The order of queueing does not matter."""
    stream = add(spool)
    for offset, queued_ms in ((0, 700), (9, 500), (18, 600)):
        spool.outbox.add(stream.id, 0, offset, 9, b"frame", queued_ms)
    waiting = spool.stats.waiting()
    assert (waiting.segments, waiting.bytes, waiting.oldest_ms) == (3, 15, 500)


def test_dropped_bytes_are_lost_and_accepted(spool: Spool) -> None:
    """The user gave them up, so they are no longer a reason to warn, and not called safe either."""
    stream = add(spool, queued=0)
    spool.connection.execute("UPDATE session SET record = '{}'")
    spool.outbox.add(stream.id, 0, 0, 100, b"a frame", 5)
    (segment,) = spool.outbox.segments(9, 99)
    spool.outbox.park_segment(segment, "invalid")
    assert spool.outbox.drop(SESSION, 6) == 1
    for placeholder in spool.outbox.segments(9, 999):
        spool.outbox.acknowledge(placeholder)
    spool.connection.execute("UPDATE stream SET queued = folded")
    (unsafe,) = spool.safety.unsafe()
    assert (unsafe.state, unsafe.lost_bytes) == (State.DROPPED, 100)


def test_the_worst_sessions_are_listed_first(spool: Spool) -> None:
    """The list may be cut after some of them."""
    for number, lost in ((1, 0), (2, 5), (3, 0)):
        session = spool.catalog.add_session(UUID(int=number), "codex", str(number))
        spool.catalog.add_stream(session, "main", thread=True, known=True)
        spool.connection.execute("UPDATE session SET record = '{}', revision = 1 WHERE id = ?", (session,))
        spool.connection.execute("UPDATE stream SET lost = ? WHERE session = ?", (lost, session))
    states = [(each.session, each.state) for each in spool.safety.unsafe(limit=2)]
    assert states == [(str(UUID(int=2)), State.LOST), (str(UUID(int=1)), State.WAITING)]


def test_files_are_found_by_the_start_of_their_reason(spool: Spool) -> None:
    for path, trouble in (("/a", "no permission: a"), ("/b", "too many links"), ("/c", None)):
        spool.catalog.save_file(FileState(path=path, tool="codex", trouble=trouble))
    assert [file.path for file in spool.catalog.troubled("no permission")] == ["/a"]


@pytest.mark.parametrize("differs", [False, True])
def test_a_claim_that_is_wrong_is_withdrawn(spool: Spool, differs: bool) -> None:
    """The endpoint is asked again. If its bytes were compared and differ, none of them is trusted, nor its digest."""
    stream = add(spool)
    claim = Claim(session=str(SESSION), tool="codex", number=stream.session, revision=1, stream=stream.id, acked=100)
    if differs:
        distrust(spool, claim)
    else:
        Claims(spool.connection).withdraw(claim)
    after = spool.catalog.stream(stream.id)
    assert (after.known, after.unproven, after.acked) == (differs, differs, 0 if differs else 100)
    assert (after.remote_position is not None) == differs


def test_a_comparison_that_was_overtaken_changes_nothing(spool: Spool) -> None:
    """The stream was asked about again, rewritten, or erased and its number used by another session."""
    stream = add(spool)
    spool.catalog.set_position(stream.id, 0, 100, 0, None)
    spool.catalog.set_unconfirmed(stream.id, 80)
    confirmations = Confirmations(spool.connection)
    found = confirmations.next()
    assert found is not None
    assert (found.stream, found.generation, found.length) == (stream.id, 0, 80)
    for other in (
        replace(found, length=70),
        replace(found, generation=1),
        replace(found, session=UUID(int=2)),
        replace(found, stream=stream.id + 1),
    ):
        confirmations.settle(other, 70)
        assert confirmations.next() == found
    spool.catalog.set_unknown(stream.id)
    assert confirmations.next() is None
    confirmations.settle(found, 80)
    assert spool.catalog.stream(stream.id).acked == 0


@pytest.mark.parametrize(("equal", "proven"), [(80, True), (79, False)])
def test_what_is_equal_counts_and_the_rest_is_doubted_further(spool: Spool, equal: int, proven: bool) -> None:
    stream = add(spool)
    spool.catalog.set_position(stream.id, 0, 100, 0, None)
    spool.catalog.set_unconfirmed(stream.id, 80)
    assert spool.safety.streams(stream.session)[0].state is State.WAITING
    confirmations = Confirmations(spool.connection)
    found = confirmations.next()
    assert found is not None
    confirmations.settle(found, equal)
    after = spool.catalog.stream(stream.id)
    assert (after.acked, after.unproven) == (equal, not proven)
    assert confirmations.next() is None
    assert spool.safety.streams(stream.session)[0].state is State.LOST
