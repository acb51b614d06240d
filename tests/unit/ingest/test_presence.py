"""Sessions that fall idle."""

from __future__ import annotations

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
