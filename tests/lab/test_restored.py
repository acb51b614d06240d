"""The results of `make lab-restore`: what they keep, and that they are of tools with a recipe."""

from __future__ import annotations

import datetime
from pathlib import Path

from lab.restored import PROGRAMS, Restored, add, restored
from sessiond.sources.recipes import restorable_tools


def test_scenarios_of_one_version_are_collected(tmp_path: Path) -> None:
    """Those of an earlier version are forgotten."""
    file, day = tmp_path / "restored.toml", datetime.date(2026, 11, 29)
    file.write_text("")
    add("codex", "1.0", "tool", day, file)
    add("codex", "1.0", "fork", day, file)
    assert restored(file) == {"codex": Restored("1.0", day, ["fork", "tool"])}
    add("codex", "1.1", "tool", day, file)
    assert restored(file) == {"codex": Restored("1.1", day, ["tool"])}


def test_only_tools_with_a_recipe_have_passed() -> None:
    assert {PROGRAMS.get(name, name) for name in restored()} <= set(restorable_tools())
