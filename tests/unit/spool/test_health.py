"""The speed of uploads, and signs of a second copy, as `status` reads them from the spool."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from sessiond.spool import Spool
from sessiond.spool.health import (
    PACE_MS,
    ROOTS,
    CaptureHealth,
    CopiesHealth,
    EndpointHealth,
    RootHealth,
    note_divergence,
    note_host,
    read_capture,
    read_capture_progress,
    read_copies,
    write,
)

NOW_MS = 1_790_000_000_000


def at(seconds: float, **fields: int) -> EndpointHealth:
    """Return the state after an acknowledgement this many seconds later."""
    return EndpointHealth(last_ack_ms=NOW_MS + int(seconds * 1000), **fields)


def test_acknowledgements_within_a_minute_add_up() -> None:
    first = at(0).paced(EndpointHealth(), 500)
    assert (first.pace_ms, first.pace_bytes) == (NOW_MS, 0)
    second = at(20).paced(first, 3_000)
    third = at(59.999).paced(second, 200)
    assert (third.pace_ms, third.pace_bytes) == (NOW_MS, 3_200)


def test_after_a_minute_half_of_the_count_remains() -> None:
    """The speed follows the last minute without a jump."""
    later = at(60).paced(at(40, pace_ms=NOW_MS, pace_bytes=3_000), 1_000)
    assert (later.pace_ms, later.pace_bytes) == (NOW_MS + 30_000, 2_000)


def test_a_pause_of_a_minute_starts_the_count_again() -> None:
    """A pause is not part of the speed, and neither is a clock that was set back."""
    old = at(0, pace_ms=NOW_MS - 10_000, pace_bytes=3_000)
    for now in (at(PACE_MS / 1000), at(-1)):
        later = now.paced(old, 1_000)
        assert (later.pace_ms, later.pace_bytes) == (now.last_ack_ms, 0)
    assert at(PACE_MS / 1000 - 0.001).paced(old, 1_000).pace_bytes > 0


def test_divergences_of_the_last_day_are_counted() -> None:
    """An older one may have been a restored backup, and one in the future a wrong clock."""
    day = 86_400_000
    copies = CopiesHealth(diverged_ms=[NOW_MS - day, NOW_MS - day + 1, NOW_MS, NOW_MS + 1])
    assert copies.diverged(NOW_MS) == 2


def test_only_the_last_ten_divergences_are_stored(tmp_path: Path) -> None:
    with closing(Spool(str(tmp_path))) as spool:
        for number in range(15):
            note_divergence(spool, NOW_MS + number)
        assert read_copies(spool).diverged_ms == [NOW_MS + number for number in range(5, 15)]


def test_a_directory_that_moves_to_another_machine_is_noted(tmp_path: Path) -> None:
    """Neither a rename of the machine nor the first start counts as a move."""
    with closing(Spool(str(tmp_path))) as spool:
        note_host(spool, "ada", "id-1", NOW_MS)
        note_host(spool, "ada-2", "id-1", NOW_MS + 1)
        assert (read_copies(spool).host, read_copies(spool).moved_from) == ("ada-2", None)
        note_host(spool, "bob", "id-2", NOW_MS + 2)
        note_host(spool, "bob", "id-2", NOW_MS + 3)
        found = read_copies(spool)
        assert (found.host, found.moved_from, found.moved_ms) == ("bob", "ada-2", NOW_MS + 2)


def test_the_progress_of_a_capture_is_read_without_its_roots(tmp_path: Path) -> None:
    """There are hundreds of roots: who asks for two numbers does not wait until all of them are decoded."""
    state = CaptureHealth(
        pid=7, discovered={"codex": 2}, backlog=1, roots=[RootHealth(tool="codex", path="/r", how="x")]
    )
    with closing(Spool(str(tmp_path))) as spool:
        assert read_capture(spool) == read_capture_progress(spool) == CaptureHealth()
        write(spool, state)
        assert read_capture(spool) == state
        spool.set_meta(ROOTS, "damaged")
        assert read_capture_progress(spool) == state.replace(roots=[])
