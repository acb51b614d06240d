"""Sessions that fall idle, and files that vanish and come back."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import UUID

from sessiond.ingest import sweep_idle
from sessiond.sources.claude_code import ClaudeCode
from support.harness import CLAUDE, SESSION, claude, daemon_harness


def test_an_idle_session_ends_once_and_a_live_one_does_not(tmp_path: Path) -> None:
    """A sweep that ends nothing makes no revision: each one would be pushed."""
    with daemon_harness(tmp_path) as harness:
        harness.write(CLAUDE, claude(SESSION, 1, timestamp="2026-09-21T14:13:00.000Z"))
        harness.scan()
        sources = {source.tool: source for source, _ in harness.ingesting.roots}
        assert isinstance(sources["claude-code"], ClaudeCode)

        def revision() -> int:
            found = harness.spool.catalog.session(UUID(SESSION))
            assert found is not None
            return found.revision

        harness.now_ms += harness.ingesting.idle_after_ms + 1
        before = revision()
        assert sweep_idle(harness.ingesting, sources, {("claude-code", SESSION)}) == 0
        assert revision() == before
        assert sweep_idle(harness.ingesting, sources, set()) == 1
        assert revision() > before
        before = revision()
        assert sweep_idle(harness.ingesting, sources, set()) == 0
        assert revision() == before


def test_a_file_that_is_gone_for_a_while_costs_two_revisions_and_no_question(tmp_path: Path) -> None:
    """Each scan finds it missing. What the endpoint acknowledged of it is still there when it comes back."""
    with daemon_harness(tmp_path) as harness:
        path = harness.write(CLAUDE, claude(SESSION, 1))
        harness.settle()

        def revision() -> tuple[int, int | None]:
            row = harness.spool.connection.execute("SELECT revision, gone_ms FROM session").fetchone()
            return row[0], row[1]

        before = revision()[0]
        os.rename(path, tmp_path / "away")
        assert [harness.ingest(path)[0].changed for _ in range(2)] == [True, False]
        gone = revision()
        assert gone[0] > before
        assert gone[1] == harness.now_ms
        assert not harness.spool.catalog.set_gone(1, harness.now_ms)
        os.rename(tmp_path / "away", path)
        harness.now_ms += 1
        harness.ingest(path)
        assert revision()[0] > gone[0]
        assert revision()[1] is None
        assert not harness.spool.catalog.set_gone(1, None)
        assert not harness.spool.outbox.unknown_streams(9)
