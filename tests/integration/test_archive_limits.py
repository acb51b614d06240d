"""The limit of the built-in archive, and the sizes that `status` shows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from sessiond.cli import main
from sessiond.cli.status_screen import screen
from sessiond.daemon.periodic_check import PeriodicCheck
from sessiond.spool import health, sizes
from sessiond.spool.archive_file import archive_bytes
from sessiond.spool.health import CaptureHealth
from sessiond.spool.sizes import MONTH_MS, SIZES, Sizes, count_sizes, read_sizes
from sessiond.spool.verification import EACH_MS
from sessiond.status import read_status
from support.harness import CLAUDE, SESSION, DaemonHarness, claude, daemon_harness, encode

OTHER = "6" + SESSION[1:]


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DaemonHarness]:
    with daemon_harness(tmp_path) as made:
        yield made


def test_a_full_archive_drops_nothing_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The archive stays below its limit. What it does not take waits, and is stored once the limit is raised."""
    home, state = tmp_path / "home", tmp_path / "state"
    path = home / CLAUDE
    path.parent.mkdir(parents=True)
    environ = {
        "HOME": str(home),
        "PATH": os.defpath,
        "SESSIOND_STATE_DIR": str(state),
        "SESSIOND_CONFIG": os.devnull,
        "SESSIOND_ARCHIVE__MAX_BYTES": "1 MiB",
    }
    for number in range(9):
        session = f"{number}{SESSION[1:]}"
        line = claude(session, 1, text=os.urandom(100_000).hex())
        (home / CLAUDE.replace(SESSION, session)).write_bytes(encode(line))
        if main(["sync"], environ):
            break
    assert "the built-in archive is full" in capsys.readouterr().err
    assert archive_bytes(str(state)) <= 1 << 20
    main(["status"], environ)
    shown = capsys.readouterr().out
    assert "% full (archive.max_bytes)" in shown
    assert "of them; 1 waiting" in shown
    assert main(["sync"], {**environ, "SESSIOND_ARCHIVE__MAX_BYTES": "0"}) == 0
    main(["status"], {**environ, "SESSIOND_ARCHIVE__MAX_BYTES": "0"})
    shown = capsys.readouterr().out
    assert "full (archive.max_bytes)" not in shown
    assert main(["verify", "--deep"], {**environ, "SESSIOND_ARCHIVE__MAX_BYTES": "0"}) == 0


def test_sizes_are_counted_once_a_day(harness: DaemonHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """By tool and for the last month, in parts, without a request."""
    monkeypatch.setattr(sizes, "PART", 1)
    harness.write(CLAUDE, claude(SESSION, 1))
    harness.write(CLAUDE.replace(SESSION, OTHER), claude(OTHER, 1), claude(OTHER, 2))
    harness.scan()
    first, second = (Path(harness.home, CLAUDE.replace(SESSION, each)).stat().st_size for each in (SESSION, OTHER))
    for session, active in ((SESSION, harness.now_ms - MONTH_MS - 1), (OTHER, harness.now_ms)):
        harness.spool.connection.execute("UPDATE session SET active_ms = ? WHERE uuid = ?", (active, session))
    check = PeriodicCheck(harness.uploading)
    before = len(harness.transport.requests)
    assert [check.step() for _ in range(3)] == [True, True, False]
    assert len(harness.transport.requests) == before
    found = read_sizes(harness.spool.meta(SIZES))
    assert found is not None
    assert (found.tools, found.month) == ({"claude-code": first + second}, second)
    assert found.months == {}  # what is found first may be years old


def test_the_first_backlog_is_counted_once_it_is_captured(harness: DaemonHarness) -> None:
    """The first count is made before that. What follows it is no growth, and `status` need not wait for a day."""

    def counted() -> Sizes:
        found = read_sizes(harness.spool.meta(SIZES))
        assert found is not None
        return found

    def report(waiting: int) -> None:
        health.write(harness.spool, CaptureHealth(discovered={"claude-code": 2}, backlog=waiting))

    first = Path(harness.write(CLAUDE, claude(SESSION, 1)))
    harness.scan()
    report(1)
    check = PeriodicCheck(harness.uploading)
    assert not check.step()
    assert (counted().tools, counted().months) == ({"claude-code": first.stat().st_size}, {})
    counted_ms = counted().at_ms
    harness.now_ms += 60_000
    assert not check.step()
    assert counted().at_ms == counted_ms, "the backlog is not captured yet"
    second = Path(harness.write(CLAUDE.replace(SESSION, OTHER), claude(OTHER, 1)))
    harness.scan()
    report(0)
    harness.now_ms += 60_000
    check = PeriodicCheck(harness.uploading)  # also after a restart
    assert not check.step()
    found = first.stat().st_size + second.stat().st_size
    assert (counted().tools, counted().months) == ({"claude-code": found}, {})
    counted_ms = counted().at_ms
    report(1)
    harness.now_ms += 60_000
    report(0)
    assert not check.step()
    assert counted().at_ms == counted_ms, "once a day from then on"
    third = Path(harness.write(CLAUDE, claude(SESSION, 2)))
    grown = third.stat().st_size + second.stat().st_size - found
    harness.scan()
    harness.now_ms += EACH_MS
    while check.step():
        pass
    assert list(counted().months.values()) == [grown]


def test_the_growth_of_each_month_is_kept(harness: DaemonHarness) -> None:
    """From count to count, and less after something was erased. `status` shows the last two months."""

    def count(day: str) -> Sizes:
        harness.now_ms = int(datetime.fromisoformat(f"{day}T12:00:00+00:00").timestamp() * 1000)
        for _ in count_sizes(harness.spool, harness.now_ms):
            pass
        found = read_sizes(harness.spool.meta(SIZES))
        assert found is not None
        return found

    path = harness.write(CLAUDE, claude(SESSION, 1))
    harness.scan()  # no push follows: the daemon would count by itself
    first = Path(path).stat().st_size
    assert count("2026-10-30").months == {}
    harness.write(CLAUDE, claude(SESSION, 1), claude(SESSION, 2))
    harness.scan()
    added = Path(path).stat().st_size - first
    assert count("2026-10-31").months == {"2026-10": added}
    other = harness.write(CLAUDE.replace(SESSION, OTHER), claude(OTHER, 1))
    harness.scan()
    grown = count("2026-11-01")
    assert grown.months == {"2026-10": added, "2026-11": Path(other).stat().st_size}
    harness.forget(OTHER)
    assert count("2026-12-05").months == {**grown.months, "2026-12": -Path(other).stat().st_size}
    screen_ = screen(read_status(None, {"HOME": harness.home, "SESSIOND_STATE_DIR": harness.state}))
    assert f", +{Path(other).stat().st_size} B in Nov, -{Path(other).stat().st_size} B in Dec (claude-code" in screen_
