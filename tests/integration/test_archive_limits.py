"""The limit of the built-in archive, and the sizes that `status` shows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond.cli import main
from sessiond.daemon import periodic_check
from sessiond.daemon.periodic_check import PeriodicCheck
from sessiond.spool import sizes
from sessiond.spool.archive_file import archive_bytes
from sessiond.spool.sizes import MONTH_MS, SIZES, read_sizes
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
    monkeypatch.setattr(periodic_check, "now_ms", lambda: harness.now_ms)
    monkeypatch.setattr(sizes, "PART", 1)
    harness.write(CLAUDE, claude(SESSION, 1))
    harness.write(CLAUDE.replace(SESSION, OTHER), claude(OTHER, 1), claude(OTHER, 2))
    harness.settle()
    first, second = (Path(harness.home, CLAUDE.replace(SESSION, each)).stat().st_size for each in (SESSION, OTHER))
    active = harness.spool.connection.execute("SELECT max(active_ms) FROM session").fetchone()[0]
    harness.spool.connection.execute(
        "UPDATE session SET active_ms = ? WHERE uuid = ?", (active - MONTH_MS - 1, SESSION)
    )
    harness.now_ms = active
    check = PeriodicCheck(harness.spool, harness.client, "testbox", harness.address, harness.ingesting.digest)
    before = len(harness.transport.requests)
    assert [check.step() for _ in range(3)] == [True, True, False]
    assert len(harness.transport.requests) == before
    found = read_sizes(harness.spool.meta(SIZES))
    assert found is not None
    assert (found.tools, found.month) == ({"claude-code": first + second}, second)
