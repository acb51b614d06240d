"""Databases that have other content besides chats."""

from __future__ import annotations

from pathlib import Path

from support.each_tool import each_tool
from support.harness import daemon_harness
from support.sample_tree import build

TOKEN = b"FAKE-SECRET-must-never-leave"


@each_tool(["amazon-q/1", "kiro/cli-v2", "openclaw/2026.9-database", "warp/2026"])
def test_other_tables_of_the_database_never_reach_the_spool(name: str, tmp_path: Path) -> None:
    """Tokens and the terminal's history lie in other tables of the same database."""
    with daemon_harness(tmp_path) as harness:
        build(name, harness.home)
        assert any(TOKEN in path.read_bytes() for path in Path(harness.home).rglob("*.sqlite*"))
        harness.settle()
        assert harness.held_sessions()
    for path in tmp_path.rglob("*"):
        if path.is_file() and "home" not in path.relative_to(tmp_path).parts:
            assert TOKEN not in path.read_bytes()
